"""What callers may give, and what becomes of what they leave out."""

import math
from typing import Any

import pytest
from luthier.trainer.v1.training_job_pb2 import Hyperparameters
from luthier_common.errors import InvalidArgument
from luthier_trainer.auto import Choice, Sizes, choose
from luthier_trainer.hyperparameters import FIELD, check, resolve

AUTO: Choice = choose(Sizes(2_000_000, 12_000, rows=300, tokens=40_000, ships_general_rows=True))

TINY = math.ulp(0.0)
IN_RANGE: list[tuple[str, Any]] = [
    ("epoch_count", 1),
    ("epoch_count", 1000),
    ("batch_size", 1),
    ("batch_size", 1024),
    ("learning_rate_multiplier", TINY),
    ("learning_rate_multiplier", 100.0),
    ("lora_rank", 1),
    ("lora_rank", 512),
    ("lora_alpha", 1),
    ("lora_alpha", 1024),
    ("retain_share", 0.0),
    ("retain_share", 0.9),
]
OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("epoch_count", 0),
    ("epoch_count", 1001),
    ("epoch_count", -(2**31)),
    ("batch_size", 0),
    ("batch_size", 1025),
    ("learning_rate_multiplier", 0.0),
    ("learning_rate_multiplier", -1.0),
    ("learning_rate_multiplier", math.nextafter(100, 101)),
    ("lora_rank", 0),
    ("lora_rank", 513),
    ("lora_alpha", 0),
    ("lora_alpha", 1025),
    ("retain_share", -TINY),
    ("retain_share", math.nextafter(0.9, 1)),
    *[
        (field, value)
        for field in ("learning_rate_multiplier", "retain_share")
        for value in (math.nan, math.inf, -math.inf)
    ],
]


@pytest.mark.parametrize(("field", "value"), IN_RANGE)
def test_the_ends_of_a_range_belong_to_it(field: str, value: Any) -> None:
    check(Hyperparameters(**{field: value}))


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE)
def test_what_is_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field} must be ") as refused:
        check(Hyperparameters(**{field: value}))
    assert refused.value.field == f"{FIELD}.{field}"
    assert refused.value.reason == "HYPERPARAMETER_OUT_OF_RANGE"


def test_every_field_has_a_range() -> None:
    for field in Hyperparameters.DESCRIPTOR.fields:
        with pytest.raises(InvalidArgument, match=field.name):
            check(Hyperparameters(**{field.name: -1}))


def test_what_is_absent_is_not_checked() -> None:
    check(Hyperparameters())


def test_nothing_given_is_the_choice_of_auto_with_all_its_reasons() -> None:
    resolved = resolve(Hyperparameters(), AUTO)
    assert resolved.epoch_count == AUTO.epochs
    assert resolved.batch_size == AUTO.batch_size
    assert resolved.learning_rate == AUTO.learning_rate
    assert resolved.learning_rate_multiplier == 1
    assert (resolved.lora_rank, resolved.lora_alpha) == (AUTO.rank, AUTO.alpha)
    assert resolved.retain_share == AUTO.retain_share
    assert list(resolved.reasons) == list(AUTO.reasons.values())


def test_given_values_win_without_a_reason() -> None:
    resolved = resolve(
        Hyperparameters(
            epoch_count=7,
            batch_size=5,
            learning_rate_multiplier=0.5,
            lora_rank=3,
            lora_alpha=4,
            retain_share=0.0,
        ),
        AUTO,
    )
    assert (resolved.epoch_count, resolved.batch_size) == (7, 5)
    assert (resolved.lora_rank, resolved.lora_alpha) == (3, 4)
    assert resolved.learning_rate == AUTO.learning_rate / 2
    assert resolved.learning_rate_multiplier == 0.5
    assert resolved.retain_share == 0
    assert not resolved.reasons


@pytest.mark.parametrize("field", sorted(AUTO.reasons))
def test_a_given_field_loses_its_own_reason_only(field: str) -> None:
    given = Hyperparameters(**{field: 1})
    left = [why for key, why in AUTO.reasons.items() if key not in (field, "lora_alpha")]
    assert [why for why in resolve(given, AUTO).reasons if not why.startswith("alpha")] == left


def test_alpha_follows_a_given_rank_and_says_so() -> None:
    resolved = resolve(Hyperparameters(lora_rank=512), AUTO)
    assert (resolved.lora_rank, resolved.lora_alpha) == (512, 1024)
    assert [why for why in resolved.reasons if why.startswith("alpha")] == [
        "alpha 1024: twice the rank"
    ]
    check(Hyperparameters(lora_rank=resolved.lora_rank, lora_alpha=resolved.lora_alpha))


def test_a_given_alpha_leaves_the_rank_to_auto() -> None:
    resolved = resolve(Hyperparameters(lora_alpha=100), AUTO)
    assert (resolved.lora_rank, resolved.lora_alpha) == (AUTO.rank, 100)
