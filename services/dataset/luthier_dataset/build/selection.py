"""Which rows a dataset keeps, and on which side of the split: decided over all rows together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule

from luthier_dataset.build.stored import Keys
from luthier_dataset.quality.components import Ints, Mask, first_of_each
from luthier_dataset.quality.exact import conflicts, repeated
from luthier_dataset.quality.shingles import mix
from luthier_dataset.quality.splits import MOST_TIMES, are_labels, balance, hold_out

_DROP = QualityRule.DROP
_AMONG_ALL = (
    QualityCheck.CONFLICTING_ANSWERS,
    QualityCheck.EXACT_DUPLICATE,
    QualityCheck.NEAR_DUPLICATE,
    QualityCheck.LABEL_IMBALANCE,
)
"""Checks that compare rows; the others are known from each row alone."""
BALANCED = "label_balance"


@dataclass(frozen=True)
class Selection:
    """The fate of every row."""

    kept: Mask
    validation: Mask
    """Held out; only kept rows are."""
    found: Mapping[int, Mask]
    """Rows by finding, for the checks that compare rows; of rows that earlier checks left in."""
    dropped: Counter[str]
    """Rows not kept, by reason: the check's name in lower case, or BALANCED."""


def select(
    keys: Keys,
    roots: Ints,
    actions: Mapping[int, int],
    *,
    share: float,
    seed: int,
    balances: bool = False,
) -> Selection:
    """Apply the quality rules, balance labels, and hold out a share.

    `roots` has for each row the lowest row of its cluster of near duplicates.
    Each check looks at the rows that those before it left in: findings of single rows, then
    contradictions, exact duplicates, near duplicates, labels.
    """
    kept = np.ones(len(keys), bool)
    dropped: Counter[str] = Counter()

    def drop(rows: Mask, reason: str) -> None:
        dropped[reason] += int(np.count_nonzero(rows & kept))
        kept[rows] = False

    checks = keys.column("checks")
    for check in sorted(set(actions) - set(_AMONG_ALL)):
        if actions[check] == _DROP:
            drop((checks >> np.uint32(check)) & 1 == 1, name_of(check))
    found: dict[int, Mask] = {}
    for check in _AMONG_ALL:
        found[check] = _compared(check, keys, roots, kept, seed)
        if actions[check] == _DROP:
            drop(found[check], name_of(check))
    if balances:
        labelled, stays = _balanced(keys, kept, seed, times=1)
        drop(labelled & ~stays, BALANCED)
    validation = np.zeros(len(keys), bool)
    if share:
        validation[kept] = hold_out(keys.column("group", kept), roots[kept], share, seed)
    return Selection(kept, validation, found, +dropped)


def name_of(check: int) -> str:
    """Return a check's name as a reason."""
    return QualityCheck.Name(QualityCheck.ValueType(check)).lower()


def _balanced(keys: Keys, kept: Mask, seed: int, *, times: int) -> tuple[Mask, Mask]:
    """Return which rows have a label, and which of them `balance` keeps."""
    labelled = kept & (keys.column("label") != 0)
    stays = np.zeros(len(keys), bool)
    digests = keys.column("digest", labelled)[:, 0]
    stays[labelled] = balance(keys.column("label", labelled), seed, digests, times=times)
    return labelled, stays


def _compared(check: int, keys: Keys, roots: Ints, kept: Mask, seed: int) -> Mask:
    found = np.zeros(len(keys), bool)
    if check == QualityCheck.CONFLICTING_ANSWERS:
        among = kept & keys.column("one_answer")
        # Of two recipes, the same prompt may well have two answers.
        prompts = keys.column("prompt", among) ^ mix(keys.column("recipe", among).astype(np.uint64))
        found[among] = conflicts(prompts, keys.column("answer", among))
    elif check == QualityCheck.EXACT_DUPLICATE:
        found[kept] = repeated(keys.column("digest", kept))
    elif check == QualityCheck.LABEL_IMBALANCE:
        labelled = kept & (keys.column("label") != 0)
        counts = np.unique(keys.column("label", labelled), return_counts=True)[1]
        if are_labels(counts.tolist()):
            labelled, stays = _balanced(keys, kept, seed, times=MOST_TIMES)
            found = labelled & ~stays
    else:
        clusters = roots[kept]
        found[kept] = first_of_each(clusters) != np.arange(len(clusters), dtype=np.int32)
    return found
