import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.quality.splits import balance, hold_out

_ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), max_size=60)
_SHARE = st.floats(0, 0.9)


def _held(rows: list[tuple[int, int]], share: float, seed: int) -> list[bool]:
    groups = np.array([group for group, _ in rows], np.uint64)
    clusters = np.array([cluster for _, cluster in rows], np.int32)
    held: list[bool] = hold_out(groups, clusters, share, seed).tolist()
    return held


@given(_ROWS, _SHARE, st.integers(0, 5))
@settings(max_examples=50)
def test_nothing_leaks_and_the_share_is_kept(
    rows: list[tuple[int, int]], share: float, seed: int
) -> None:
    held = _held(rows, share, seed)
    for part in (0, 1):
        inside = {row[part] for row, chosen in zip(rows, held, strict=True) if chosen}
        outside = {row[part] for row, chosen in zip(rows, held, strict=True) if not chosen}
        assert not inside & outside
    assert sum(held) <= share * len(rows)


@given(_ROWS, _SHARE, st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_rows_does_not_matter(
    rows: list[tuple[int, int]], share: float, source: "np.random.Generator"
) -> None:
    order = list(range(len(rows)))
    source.shuffle(order)
    held = _held(rows, share, 1)
    assert _held([rows[row] for row in order], share, 1) == [held[row] for row in order]


def test_equal_components_meet_the_share_exactly_and_the_seed_chooses() -> None:
    rows = [(group, group * 2 + half) for group in range(100) for half in (0, 1)]
    choices = {tuple(_held(rows, 0.1, seed)) for seed in range(5)}
    assert len(choices) == 5
    assert {sum(choice) for choice in choices} == {20}


def test_nothing_is_held_out_where_nothing_fits() -> None:
    assert not any(_held([(1, row) for row in range(100)], 0.1, 0))
    assert not any(_held([(row, 7) for row in range(100)], 0.5, 0))
    assert _held([], 0.1, 0) == []


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="is not from 0 to below 1"):
        _held([(1, 1)], share, 0)


@given(st.lists(st.integers(5, 8), max_size=50), st.integers(0, 3))
@settings(max_examples=50)
def test_every_label_has_as_many_rows_as_the_rarest(labels: list[int], seed: int) -> None:
    keys = np.arange(len(labels), dtype=np.uint64)
    keep = balance(np.array(labels, np.uint64), seed, keys)
    kept = [label for label, stays in zip(labels, keep, strict=True) if stays]
    rarest = min((labels.count(label) for label in labels), default=0)
    assert {label: kept.count(label) for label in labels} == dict.fromkeys(labels, rarest)


def test_what_balance_keeps_goes_by_keys_and_seed_not_by_order() -> None:
    labels = np.array([1] * 50 + [2] * 10, np.uint64)
    keys = np.arange(60, dtype=np.uint64)
    keep = balance(labels, 3, keys)
    back = balance(labels[::-1], 3, keys[::-1])
    assert np.array_equal(back[::-1], keep)
    assert not np.array_equal(balance(labels, 4, keys), keep)
