import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.quality.components import connect
from luthier_dataset.quality.exact import conflicts, repeated

_SMALL = st.integers(0, 3)


@given(st.lists(st.tuples(_SMALL, _SMALL), max_size=40))
@settings(max_examples=50)
def test_a_row_repeats_an_equal_one_before_it(digests: list[tuple[int, int]]) -> None:
    table = np.array(digests, np.uint64).reshape(-1, 2)
    assert repeated(table).tolist() == [one in digests[:place] for place, one in enumerate(digests)]


@given(st.lists(st.tuples(_SMALL, _SMALL), max_size=40))
@settings(max_examples=50)
def test_rows_contradict_those_that_answer_their_prompt_otherwise(
    rows: list[tuple[int, int]],
) -> None:
    table = np.array(rows, np.uint64).reshape(-1, 2)
    expected = [any(o[0] == row[0] and o[1] != row[1] for o in rows) for row in rows]
    assert conflicts(table[:, 0], table[:, 1]).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
@settings(max_examples=50)
def test_components_go_by_their_lowest_member(pairs: list[tuple[int, int]]) -> None:
    root = np.arange(20, dtype=np.int32)
    half = len(pairs) // 2
    for some in (pairs[:half], pairs[half:]):
        left, right = np.array(some, np.int32).reshape(-1, 2).T
        connect(root, left, right)
    expected = list(range(20))
    for _ in range(20):
        for one, other in pairs:
            expected[one] = expected[other] = min(expected[one], expected[other])
    assert root.tolist() == expected
