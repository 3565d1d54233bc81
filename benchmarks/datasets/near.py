"""Near duplicates: signatures and clusters, against datasketch."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH
from luthier_dataset.quality.components import Ints, connect
from luthier_dataset.quality.near import PERMUTATIONS, THRESHOLD, Signer, clusters
from luthier_dataset.quality.shingles import WORDS

from benchmarks.datasets.corpora import Planted, near_duplicates
from benchmarks.datasets.measuring import Measurement, Scale, race

_WORD = re.compile(r"\w+")


def measure(scale: Scale, folder: Path) -> Measurement:
    """Search the same texts, a single process each; then compare what was found."""
    planted = near_duplicates(1, scale.near_texts)
    shingled = [_shingles(text) for text in planted.texts]
    found: dict[str, Sequence[int]] = {}

    def ours() -> float:
        found["Luthier"] = clusters(Signer().sign(planted.texts)).tolist()
        return len(planted.texts)

    def theirs() -> float:
        found["datasketch"] = _datasketch(map(_shingles, planted.texts))
        return len(planted.texts)

    def without_shingling() -> float:
        _datasketch(shingled)
        return len(planted.texts)

    contestants = {
        "Luthier": ours,
        "datasketch": theirs,
        "datasketch, shingles given": without_shingling,
    }
    result = race("docs", contestants, scale.rounds)
    true = true_clusters(planted, shingled)
    quality = {name: recall_and_precision(true, roots) for name, roots in found.items()}
    shown = "; ".join(
        f"{name} {recall:.1%} and {precision:.1%}" for name, (recall, precision) in quality.items()
    )
    return Measurement(
        [result.outcome("Near-duplicate search", "Luthier", "datasketch", 5)],
        [
            f"Near duplicates: {len(planted.texts):,} texts of 200 words, shingles of {WORDS} "
            f"words, {PERMUTATIONS} permutations, threshold {THRESHOLD}. Recall and precision of "
            f"pairs, in clusters of exact Jaccard similarity: {shown}. With the shingles made "
            "beforehand, outside of the time taken, datasketch comes to "
            f"{result.shown('datasketch, shingles given')}."
        ],
        {**result.details(), "recall_and_precision": quality},
    )


def _shingles(text: str) -> set[bytes]:
    """Return every run of five words."""
    words = _WORD.findall(text.casefold())
    return {
        " ".join(words[start : start + WORDS]).encode()
        for start in range(max(1, len(words) - WORDS + 1))
    }


def _datasketch(shingled: Iterable[set[bytes]]) -> Sequence[int]:
    """Return the clusters that pairs of MinHashLSH show, each query before its insertion."""
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    pairs: list[tuple[int, int]] = []
    number = -1
    for number, minhash in enumerate(MinHash.generator(shingled, num_perm=PERMUTATIONS)):
        pairs += [(number, other) for other in index.query(minhash)]
        index.insert(number, minhash, check_duplication=False)
    return _connected(number + 1, pairs)


def true_clusters(planted: Planted, shingled: Sequence[set[bytes]]) -> Sequence[int]:
    """Return the clusters that pairs of at least the threshold's exact similarity connect.

    Only texts of the same original are compared: others share next to nothing.
    """
    copies: dict[int, list[int]] = defaultdict(list)
    for number, original in enumerate(planted.originals):
        copies[original].append(number)
    alike = [
        (left, right)
        for group in copies.values()
        for left, right in combinations(group, 2)
        if _jaccard(shingled[left], shingled[right]) >= THRESHOLD
    ]
    return _connected(len(planted.texts), alike)


def recall_and_precision(true: Sequence[int], found: Sequence[int]) -> tuple[float, float]:
    """Return the share of true pairs that were found, and of found pairs that are true.

    Pairs are those of texts in one cluster.
    """
    both = _pairs(zip(true, found, strict=True))
    return both / max(1, _pairs(true)), both / max(1, _pairs(found))


def _pairs(labels: Iterable[object]) -> int:
    return sum(count * (count - 1) // 2 for count in Counter(labels).values())


def _connected(texts: int, pairs: Sequence[tuple[int, int]]) -> Sequence[int]:
    root: Ints = np.arange(texts, dtype=np.int32)
    left, right = np.array(pairs, np.int32).reshape(-1, 2).T
    connect(root, left, right)
    labels: list[int] = root.tolist()
    return labels


def _jaccard(one: set[bytes], other: set[bytes]) -> float:
    return len(one & other) / len(one | other)
