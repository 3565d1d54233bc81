"""How rows become lines, as a run makes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters
from luthier_trainer.preflight.steps import Layout, passes_of

PACKED, PLAIN = Layout(most=1024), Layout()


def chosen(batch: int = 4, most: int = 1000, **more: float) -> ResolvedHyperparameters:
    return ResolvedHyperparameters(batch_size=batch, max_row_tokens=most, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("most", "lines", "length"), [(128, 2, 128), (1024, 1, 256)])
def test_rows_share_lines(most: int, lines: int, length: int) -> None:
    found = passes_of([[100], [60], [60], [28]], chosen(), Layout(most=most), seed=1)
    assert (found.lines, found.line_tokens) == (lines, length)
    assert found.padded_share == pytest.approx(1 - 248 / 256)
    assert found.tokens == 248
    assert (found.packed, found.row_tokens) == (True, 128)


def test_rows_that_do_not_share_lines_are_padded_to_the_longest_of_the_step() -> None:
    found = passes_of([[100], [60], [60], [140]], chosen(), PLAIN, seed=1)
    assert (found.lines, found.line_tokens) == (4, 160)
    assert found.padded_share == pytest.approx(1 - 360 / 640)


def test_the_sides_of_a_pair_are_padded_apart() -> None:
    found = passes_of([[10, 3], [30, 5]], chosen(), Layout(encoder_decoder=True), seed=1)
    assert (found.lines, found.line_tokens, found.answer_tokens) == (2, 32, 8)
    assert found.padded_share == pytest.approx(1 - 48 / (2 * 32 + 2 * 8))


def test_both_answers_of_preferences_are_padded_to_the_longest_of_all() -> None:
    found = passes_of([[10, 3], [30, 5]], chosen(), Layout(preference=True), seed=1)
    assert (found.lines, found.line_tokens, found.answer_tokens) == (2, 32, 32)
    assert found.padded_share == pytest.approx(1 - 48 / (4 * 32))


def test_rows_that_are_too_long_are_left_out() -> None:
    found = passes_of([[10], [200], [20], [30]], chosen(most=100), PACKED, seed=1)
    assert found.truncated_share == 0.25
    assert found.tokens == 60


def test_buckets_of_like_lengths_have_less_padding() -> None:
    rows = [[length] for length in (130, 1000) * 200]
    bucketed = passes_of(rows, chosen(length_buckets=True), PLAIN, seed=1)
    drawn = passes_of(rows, chosen(), PLAIN, seed=1)
    assert bucketed.padded_share < drawn.padded_share / 4


def test_no_row_fits() -> None:
    found = passes_of([[10]], chosen(most=5), PACKED, seed=1)
    assert (found.tokens, found.lines, found.truncated_share) == (0, 0, 1.0)


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    batch=st.integers(1, 16),
    packs=st.booleans(),
)
def test_lines_hold_all_tokens(lengths: list[int], batch: int, packs: bool) -> None:
    layout = PACKED if packs else PLAIN
    found = passes_of([[length] for length in lengths], chosen(batch), layout, seed=3)
    assert found.tokens == sum(lengths)
    assert 0 <= found.padded_share < 1
    assert found.line_tokens % 32 == 0
    assert 1 <= found.lines <= batch
