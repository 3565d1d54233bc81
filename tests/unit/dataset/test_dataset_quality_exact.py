import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.quality.components import connect
from luthier_dataset.quality.exact import conflicts, first_of_equal

_SMALL = st.integers(0, 3)


@given(st.lists(st.tuples(_SMALL, _SMALL), max_size=40))
@settings(max_examples=50)
def test_each_row_names_the_first_that_equals_it(digests: list[tuple[int, int]]) -> None:
    table = np.array(digests, np.uint64).reshape(-1, 2)
    assert first_of_equal(table).tolist() == [digests.index(one) for one in digests]


@given(st.lists(st.tuples(_SMALL, _SMALL, st.integers(0, 1), st.booleans()), max_size=40))
@settings(max_examples=50)
def test_rows_contradict_others_of_their_recipe(rows: list[tuple[int, int, int, bool]]) -> None:
    prompts, answers, scope = (
        np.array([row[part] for row in rows], np.uint64) for part in range(3)
    )
    considered = np.array([row[3] for row in rows], np.bool_)
    expected = [
        bool(row[3]) and any(
            other[3] and other[0] == row[0] and other[2] == row[2] and other[1] != row[1]
            for other in rows
        )
        for row in rows
    ]  # fmt: skip
    found = conflicts(prompts, answers, scope.astype(np.uint32), considered)
    assert found.tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
@settings(max_examples=50)
def test_components_go_by_their_lowest_member(pairs: list[tuple[int, int]]) -> None:
    root = np.arange(20, dtype=np.int64)
    half = len(pairs) // 2
    for some in (pairs[:half], pairs[half:]):
        left, right = np.array(some, np.int64).reshape(-1, 2).T
        connect(root, left, right)
    expected = list(range(20))
    for _ in range(20):
        for one, other in pairs:
            expected[one] = expected[other] = min(expected[one], expected[other])
    assert root.tolist() == expected
