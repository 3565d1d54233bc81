import random
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.build.stored import SignatureFile
from luthier_dataset.quality.near import PERMUTATIONS, Signer, clusters
from luthier_dataset.quality.shingles import shingle_hashes
from numpy.typing import NDArray

_SIGNER = Signer()


def _document(source: random.Random, length: int = 100) -> list[str]:
    return [f"w{source.randrange(5000)}" for _ in range(length)]


def _shingles(words: list[str]) -> set[tuple[str, ...]]:
    return set(zip(*(words[start:] for start in range(5)), strict=False))


def _jaccard(one: list[str], other: list[str]) -> float:
    left, right = _shingles(one), _shingles(other)
    return len(left & right) / len(left | right)


def _changed(source: random.Random, words: list[str], places: int) -> list[str]:
    copy = list(words)
    for place in source.sample(range(len(words)), places):
        copy[place] = "changed"
    return copy


def _roots(texts: list[str]) -> list[int]:
    return [int(root) for root in clusters(_SIGNER.sign(texts))]


def test_the_hashes_are_those_of_the_shingles() -> None:
    texts = ["a b c d e f g", "x a b, c D e!", "f g", "", "?!", "g f", "a b c d e f g a b c d e"]
    hashes, offsets = shingle_hashes(texts)
    parts = [hashes[a:b].tolist() for a, b in pairwise(offsets.tolist())]
    assert [len(part) for part in parts] == [3, 2, 1, 1, 1, 1, 8]
    assert parts[1][1] == parts[0][0] == parts[6][0] == parts[6][7]
    assert parts[6][:3] == parts[0]
    assert len({value for part in parts for value in part}) == 3 + 1 + 4 + 4


_WORDS = st.sampled_from(["a", "b", "ab", "ü", "泵", "x" * 8, "x" * 9, "x" * 16, "_" * 17])


@given(
    st.lists(st.lists(_WORDS, max_size=8), max_size=12), st.sampled_from([" ", ", ", "\0", "\n"])
)
@settings(max_examples=50)
def test_hashes_are_equal_where_runs_of_words_are(texts: list[list[str]], gap: str) -> None:
    hashes, offsets = shingle_hashes([gap.join(words) for words in texts])
    runs = [
        tuple(words[start : start + 5])
        for words in texts
        for start in range(max(1, len(words) - 4))
    ]
    assert np.diff(offsets.astype(np.int64)).tolist() == [max(1, len(x) - 4) for x in texts]
    hash_of = dict(zip(runs, hashes.tolist(), strict=True))
    assert hashes.tolist() == [hash_of[run] for run in runs]
    assert len(set(hash_of.values())) == len(hash_of)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("abcdefgh12345678", "12345678abcdefgh"),
        ("aaaaaaaabbbbbbbbaaaaaaaa", "aaaaaaaaaaaaaaaabbbbbbbb"),
        ("0" * 8, "0" * 16),
        ("x" * 100_000, "x" * 100_001),
        ("x" * 99_999 + "y", "y" + "x" * 99_999),
        ("?" * 9, "?" * 10),
        ("\0", "\0\0"),
        ("", "\0"),
        ("\ud800", "\ud801"),
    ],
)
def test_words_that_differ_anywhere_have_different_hashes(one: str, other: str) -> None:
    hashes, _ = shingle_hashes([one, other, one])
    assert hashes[0] != hashes[1]
    assert hashes[0] == hashes[2]


def test_there_may_be_no_texts() -> None:
    hashes, offsets = shingle_hashes([])
    assert hashes.tolist() == []
    assert offsets.tolist() == [0]


@given(st.lists(st.text(max_size=60), max_size=12), st.integers(0, 12))
@settings(max_examples=50)
def test_hashes_do_not_depend_on_what_is_hashed_together(texts: list[str], cut: int) -> None:
    alone = [shingle_hashes(part)[0] for part in (texts[:cut], texts[cut:])]
    assert np.array_equal(shingle_hashes(texts)[0], np.concatenate(alone))


def test_signatures_are_the_same_everywhere() -> None:
    # Counted once and written down: another platform or version of a library shows here.
    signed = _SIGNER.sign(["The pump is switched off before the lid is opened.", "Straße", ""])
    assert signed.dtype == np.uint8
    assert signed.shape == (3, PERMUTATIONS)
    expected = [[114, 232, 116, 79], [212, 141, 104, 22], [198, 47, 48, 84]]
    assert signed[:, :4].tolist() == expected


def test_signatures_do_not_depend_on_what_is_signed_together() -> None:
    source = random.Random(3)
    texts = [" ".join(_document(source, source.randrange(2000))) for _ in range(60)]
    alone = np.concatenate([_SIGNER.sign([text]) for text in texts])
    assert np.array_equal(_SIGNER.sign(texts), alone)
    assert _SIGNER.sign([]).shape == (0, PERMUTATIONS)


def test_signatures_estimate_the_jaccard_similarity() -> None:
    source = random.Random(5)
    errors = []
    for places in (0, 1, 2, 4, 8, 16):
        for _ in range(30):
            one = _document(source)
            other = _changed(source, one, places)
            left, right = _SIGNER.sign([" ".join(one), " ".join(other)])
            errors.append(float((left == right).mean()) - _jaccard(one, other))
    assert abs(float(np.mean(errors))) < 0.01
    assert float(np.std(errors)) < 0.045


def test_near_duplicates_are_found_and_others_are_not() -> None:
    source = random.Random(8)
    originals = [_document(source) for _ in range(600)]
    near = [_changed(source, one, 1) for one in originals[:300]]
    far = [_changed(source, one, 12) for one in originals[300:]]
    assert min(map(_jaccard, originals, near)) >= 0.89
    assert max(map(_jaccard, originals[300:], far)) < 0.6
    roots = _roots([" ".join(words) for words in [*originals, *near, *far]])
    assert sum(roots[600 + row] == row for row in range(300)) >= 297
    assert roots[:600] == list(range(600))
    assert roots[900:] == list(range(900, 1200))


def test_a_cluster_goes_by_its_lowest_row_through_chains() -> None:
    source = random.Random(2)
    first = _document(source, 200)
    chain = [first]
    for place in range(0, 120, 3):
        chain.append([*chain[-1][:place], "x", *chain[-1][place + 1 :]])
    assert _jaccard(chain[0], chain[-1]) < 0.5
    assert set(_roots([" ".join(words) for words in chain])) == {0}


@given(st.lists(st.sampled_from(["a b c d e f", "a b", "b a", "", "!", "ü", "泵 泵"]), max_size=30))
@settings(max_examples=50)
def test_equal_texts_always_cluster(texts: list[str]) -> None:
    roots = _roots(texts)
    assert roots == [texts.index(text) for text in texts]


def test_thousands_of_rows_with_one_phrase_take_bounded_work() -> None:
    rows: NDArray[Any] = np.random.default_rng(1).integers(0, 256, (5000, PERMUTATIONS), np.uint8)
    rows[:, :8] = 7
    rows[4000:] = rows[:1000]
    roots = clusters(rows)
    assert roots.tolist() == [*range(4000), *range(1000)]


def test_the_threshold_bounds_what_is_alike() -> None:
    rows: NDArray[Any] = np.zeros((2, PERMUTATIONS), np.uint8)
    rows[1, 100:] = 1
    assert clusters(rows, 0.78).tolist() == [0, 0]
    assert clusters(rows, 0.79).tolist() == [0, 1]


def test_memory_grows_by_few_bytes_a_row() -> None:
    rows: NDArray[Any] = np.random.default_rng(1).integers(0, 256, (50_000, PERMUTATIONS), np.uint8)
    rows[:1000] = rows[-1000:]
    tracemalloc.start()
    roots = clusters(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert roots[-1000:].tolist() == list(range(1000))
    assert peak < 60 * len(rows)


def test_signatures_on_disk_show_the_same_clusters(tmp_path: Path) -> None:
    rows: NDArray[Any] = np.random.default_rng(1).integers(0, 4, (3000, PERMUTATIONS), np.uint8)
    rows[::7] = rows[0]
    rows[::5, 20:] = rows[1, 20:]
    path = tmp_path / "signatures"
    path.write_bytes(rows.tobytes())
    with SignatureFile(path) as stored:
        assert clusters(stored).tolist() == clusters(rows).tolist()


@pytest.mark.parametrize("rows", [0, 1])
def test_there_may_be_nothing_to_compare(rows: int) -> None:
    assert clusters(_SIGNER.sign(["a"] * rows)).tolist() == list(range(rows))
