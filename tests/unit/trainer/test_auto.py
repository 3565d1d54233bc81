"""The `auto` rule: reference points, monotony and reasons."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luthier_trainer.auto import Choice, Method, Sizes, choose, with_rank

STARTER = Sizes(1_967_808, 12_000, rows=300, tokens=40_000, ships_general_rows=True)
LLAMA_7B = Sizes(7_000_000_000, 2_500_000, rows=9_000, tokens=4_000_000, ships_general_rows=False)

SIZES = st.builds(
    Sizes,
    parameters=st.integers(10_000, 10**12),
    lora_parameters_per_rank=st.integers(100, 10**8),
    rows=st.integers(1, 10**7),
    tokens=st.integers(1, 10**10),
    ships_general_rows=st.booleans(),
)
METHODS = [
    Method(full=full, preference=learns) for full in (False, True) for learns in (False, True)
]
UP, DOWN, SAME = 1, -1, 0
TRENDS = {
    "parameters": {"rank": UP, "epochs": DOWN, "batch_size": SAME, "learning_rate": DOWN},
    "lora_parameters_per_rank": {
        "rank": DOWN,
        "epochs": SAME,
        "batch_size": SAME,
        "learning_rate": SAME,
    },
    "rows": {"rank": SAME, "epochs": DOWN, "batch_size": UP, "learning_rate": SAME},
    "tokens": {"rank": UP, "epochs": SAME, "batch_size": SAME, "learning_rate": SAME},
}
"""How each number follows each size while that grows: in this direction, or not at all."""


def resized(sizes: Sizes, size: str, value: int) -> Sizes:
    changes: dict[str, Any] = {size: value}
    return dataclasses.replace(sizes, **changes)


@pytest.mark.parametrize("size", TRENDS)
@given(sizes=SIZES, growth=st.floats(1, 10_000), method=st.sampled_from(METHODS))
def test_every_number_is_monotone_in_each_size(
    size: str, sizes: Sizes, growth: float, method: Method
) -> None:
    grown = resized(sizes, size, math.ceil(getattr(sizes, size) * growth))
    before, after = choose(sizes, method), choose(grown, method)
    for number, direction in TRENDS[size].items():
        change = getattr(after, number) - getattr(before, number)
        assert change * direction >= 0, number
        assert direction or change == 0, number
    assert after.retain_share == before.retain_share


@pytest.mark.parametrize(
    ("number", "size", "small", "large"),
    [
        ("rank", "parameters", 1_000_000, 4_000_000),
        ("rank", "lora_parameters_per_rank", 1_000, 40_000),
        ("rank", "tokens", 40_000, 400_000),
        ("epochs", "parameters", 2_000_000, 4_000_000),
        ("epochs", "rows", 2_000, 20_000),
        ("batch_size", "rows", 16, 256),
        ("learning_rate", "parameters", 2_000_000, 4_000_000),
    ],
)
def test_the_numbers_that_follow_a_size_do_move(
    number: str, size: str, small: int, large: int
) -> None:
    sizes = dataclasses.replace(STARTER, tokens=400_000)
    before, after = (
        getattr(choose(resized(sizes, size, value)), number) for value in (small, large)
    )
    assert math.copysign(1, after - before) == TRENDS[size][number]
    assert after != before


def test_seven_billion_weights_get_what_qlora_used() -> None:
    choice = choose(LLAMA_7B)
    assert choice.learning_rate == pytest.approx(2e-4)
    assert choice.epochs == 3


@pytest.mark.parametrize(
    ("parameters", "learning_rate"),
    [(33_000_000_000, 1.2e-4), (65_000_000_000, 1e-4), (2_000_000, 3e-3)],
)
def test_the_learning_rate_is_on_the_documented_curve(
    parameters: int, learning_rate: float
) -> None:
    choice = choose(dataclasses.replace(LLAMA_7B, parameters=parameters))
    assert choice.learning_rate == pytest.approx(learning_rate, rel=0.05)


def test_the_shipped_model_of_two_million_weights_gets_forty_six_epochs() -> None:
    assert choose(STARTER).epochs == 46


@given(sizes=SIZES)
def test_the_adapter_is_within_a_tenth_of_the_base(sizes: Sizes) -> None:
    choice = choose(sizes)
    tenth = sizes.parameters / 10
    assert choice.rank * sizes.lora_parameters_per_rank <= tenth or choice.rank == 1
    assert choice.rank in {1, 2, 4, 8, 16, 32, 64}
    assert choice.alpha == 2 * choice.rank


@given(sizes=SIZES, method=st.sampled_from(METHODS))
def test_every_number_is_one_that_a_caller_may_give(sizes: Sizes, method: Method) -> None:
    choice = choose(sizes, method)
    assert 1 <= choice.epochs <= 1000
    assert 1 <= choice.batch_size <= 32
    assert 0 < choice.learning_rate < 0.1
    assert (choice.rank >= 1) is not method.full


@given(sizes=SIZES)
def test_general_rows_are_mixed_in_where_there_are_some(sizes: Sizes) -> None:
    choice = choose(sizes)
    assert (choice.retain_share > 0) == sizes.ships_general_rows
    assert 0 <= choice.retain_share <= 0.9
    assert ("there are no" in choice.reasons["retain_share"]) is not sizes.ships_general_rows


@given(sizes=SIZES)
def test_every_field_has_a_reason_that_names_its_number(sizes: Sizes) -> None:
    for method in METHODS:
        choice = choose(sizes, method)
        numbers = _numbers(choice)
        if method.full:
            numbers = {name: numbers[name] for name in numbers if "lora" not in name}
        assert choice.reasons.keys() == numbers.keys()
        for field, number in numbers.items():
            assert f"{number:g}" in choice.reasons[field], field


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        (dataclasses.replace(STARTER, tokens=150_000), "holds about 150,000 tokens"),
        (dataclasses.replace(STARTER, tokens=10**9), "a tenth of the base's weights"),
        (dataclasses.replace(LLAMA_7B, tokens=10**10), "the most"),
        (dataclasses.replace(LLAMA_7B, tokens=100), "the least"),
    ],
)
def test_the_reason_of_a_rank_is_the_bound_that_decided(sizes: Sizes, why: str) -> None:
    assert why in choose(sizes).reasons["lora_rank"]
    assert ("holds about" in choose(sizes).reasons["lora_rank"]) == ("holds about" in why)


def test_epochs_that_many_rows_have_cut_say_so() -> None:
    choice = choose(dataclasses.replace(STARTER, rows=20_000))
    assert choice.epochs == 5
    assert "20000 rows" in choice.reasons["epoch_count"]
    assert "rows" not in choose(STARTER).reasons["epoch_count"]


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [(2_023_456, "2.02 M"), (999_999_999, "1 B"), (7_000_000_000, "7 B"), (33 * 10**9, "33 B")],
)
def test_reasons_show_sizes_as_people_write_them(parameters: int, shown: str) -> None:
    choice = choose(dataclasses.replace(LLAMA_7B, parameters=parameters))
    assert f"a model of {shown} weights" in choice.reasons["learning_rate_multiplier"]


@given(sizes=SIZES, learns=st.booleans())
def test_all_weights_are_tuned_ten_times_as_slowly_and_have_no_rank(
    sizes: Sizes, learns: bool
) -> None:
    lora, full = (
        choose(sizes, Method(preference=learns)),
        choose(sizes, Method(full=True, preference=learns)),
    )
    assert full.learning_rate == pytest.approx(lora.learning_rate / 10, rel=0.01)
    assert (full.rank, full.alpha) == (0, 0)
    assert (full.epochs, full.batch_size) == (lora.epochs, lora.batch_size)
    assert "a tenth of that where all weights" in full.reasons["learning_rate_multiplier"]


@given(sizes=SIZES, full=st.booleans())
def test_preferences_are_learned_ten_times_as_slowly_in_fewer_passes(
    sizes: Sizes, full: bool
) -> None:
    answers, preferences = (
        choose(sizes, Method(full=full)),
        choose(sizes, Method(full=full, preference=True)),
    )
    assert preferences.learning_rate == pytest.approx(answers.learning_rate / 10, rel=0.01)
    assert preferences.epochs <= answers.epochs
    assert preferences.rank == answers.rank
    assert preferences.retain_share == 0
    assert "preferences" in preferences.reasons["learning_rate_multiplier"]
    assert "no preferences" in preferences.reasons["retain_share"]


def test_seven_billion_weights_go_once_over_their_preferences() -> None:
    choice = choose(LLAMA_7B, Method(preference=True))
    assert choice.epochs == 1
    assert choice.learning_rate == pytest.approx(2e-5)
    assert "a preference" in choice.reasons["epoch_count"]
    assert choose(STARTER, Method(preference=True)).epochs == 15


def test_alpha_follows_a_rank_that_was_given() -> None:
    choice = with_rank(choose(STARTER), 3)
    assert (choice.rank, choice.alpha) == (3, 6)
    assert choice.reasons["lora_alpha"] == "alpha 6: twice the rank"
    assert choice.epochs == choose(STARTER).epochs


def _numbers(choice: Choice) -> dict[str, float]:
    return {
        "epoch_count": choice.epochs,
        "batch_size": choice.batch_size,
        "learning_rate_multiplier": choice.learning_rate,
        "lora_rank": choice.rank,
        "lora_alpha": choice.alpha,
        "retain_share": choice.retain_share,
    }
