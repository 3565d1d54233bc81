"""Lines that rows share."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters
from luthier_trainer.lines import alone, most_tokens, packed

LENGTHS = st.lists(st.integers(1, 700), min_size=1, max_size=40)


@given(lengths=LENGTHS, most=st.sampled_from([128, 1024]))
def test_every_row_is_whole_in_one_line(lengths: list[int], most: int) -> None:
    length, lines = packed(lengths, most)
    assert sorted(row for line in lines for row in line) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in line) <= length for line in lines)
    assert all(lines)
    assert length % 32 == 0


@given(lengths=LENGTHS, most=st.sampled_from([128, 1024]))
def test_lines_are_few_and_about_as_long_as_wanted(lengths: list[int], most: int) -> None:
    length, lines = packed(lengths, most)
    assert len(lines) <= math.ceil(sum(lengths) / max(most, *lengths))
    assert 128 <= length < 2 * max(most, *lengths) + 32


@pytest.mark.parametrize(
    ("lengths", "length", "lines"),
    [
        ([100], 128, [[0]]),
        ([100, 60, 60, 28], 256, [[0, 1, 2, 3]]),
        ([1000, 25], 1056, [[0, 1]]),
        ([1000, 600], 1024, [[0], [1]]),
        ([600, 600, 300, 300], 928, [[0, 2], [1, 3]]),
        ([3000, 10], 3040, [[0, 1]]),
    ],
)
def test_how_rows_are_laid(lengths: list[int], length: int, lines: list[list[int]]) -> None:
    assert packed(lengths) == (length, lines)


def test_rows_alone_have_the_length_of_the_longest() -> None:
    assert alone([5, 140]) == (160, [[0], [1]])
    assert alone([5]) == (128, [[0]])


def test_lines_are_short_where_a_pass_has_only_some_of_them() -> None:
    assert most_tokens(ResolvedHyperparameters()) == 1024
    assert most_tokens(ResolvedHyperparameters(micro_batch_size=2)) == 128
