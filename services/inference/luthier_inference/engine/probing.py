"""An adapter's probe: the engine reads the rows that tuning read last, and compares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from luthier.inference.v1.adapter_pb2 import ProbeResult

from luthier_inference.served import ENGINE
from luthier_inference.settings import Precision

_BITS_16 = frozenset({"bf16", "fp16"})
_ACCURACY_DROP = 0.1
"""Most that the share of likeliest tokens may fall."""
_EXACT, _ROUNDED, _REQUANTIZED = 0.02, 0.15, 0.6
"""Bounds of the mean difference in nats: same numbers, 16 bits on a side, other quantization."""
_ROWS, _TOKENS = 64, 4096


@dataclass(frozen=True)
class ProbeRow:
    """Tokens that a row is told, and what tuning made of them."""

    source: tuple[int, ...]
    """What an encoder reads before."""
    line: tuple[int, ...]
    """What the decoder reads: `tokens` follow, one behind each."""
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    likeliest: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """What tuning left behind."""

    precision: str
    rows: tuple[ProbeRow, ...]


def read_probe(data: bytes, *, start: tuple[int, ...], vocabulary: int) -> Probe:
    """Return the probe in a file's bytes; ValueError says what is wrong with it.

    `start` is what an encoder-decoder's decoder begins with.
    """
    found = json.loads(data)
    if not isinstance(found, dict) or found.get("version") != 1:
        raise ValueError("its probe has another version")
    rows = found.get("rows")
    if not isinstance(rows, list) or not 0 < len(rows) <= _ROWS:
        raise ValueError("its probe has no rows, or too many")
    read = [_row(row, start=start, vocabulary=vocabulary) for row in rows]
    return Probe(str(found.get("precision")), tuple(read))


def _row(row: Any, *, start: tuple[int, ...], vocabulary: int) -> ProbeRow:
    if not isinstance(row, dict):
        raise ValueError("a row of its probe is no object")
    tokens = _ids(row.get("tokens"), vocabulary)
    likeliest = _ids(row.get("likeliest"), vocabulary)
    logprobs = _numbers(row.get("logprobs"))
    first = start or _ids(row.get("first"), vocabulary)
    source = _ids(row.get("source"), vocabulary) if start else ()
    if not len(tokens) == len(likeliest) == len(logprobs) > 0 or len(first) != 1:
        raise ValueError("a row of its probe is not whole")
    return ProbeRow(source, (*first, *tokens[:-1]), tokens, logprobs, likeliest)


def _numbers(found: Any) -> tuple[float, ...]:
    if not isinstance(found, list) or not all(type(each) in (int, float) for each in found):
        raise ValueError("the log-probabilities of its probe are no numbers")
    return tuple(found)


def _ids(found: Any, vocabulary: int) -> tuple[int, ...]:
    if not isinstance(found, list) or not 0 < len(found) <= _TOKENS:
        raise ValueError("a row of its probe lacks tokens, or has too many")
    if not all(type(token) is int and 0 <= token < vocabulary for token in found):
        raise ValueError("its probe has tokens that the base model has not")
    return tuple(found)


@dataclass(frozen=True)
class RowSeen:
    """What the engine made of a row."""

    difference: float
    """Of log-probabilities, summed over the tokens, each positive."""
    right: int
    """Tokens that were the likeliest."""


def compare(row: ProbeRow, logits: torch.Tensor) -> RowSeen:
    """Compare a row with the engine's `logits` (tokens, vocabulary)."""
    logged = logits.float().log_softmax(dim=-1)
    tokens = torch.tensor(row.tokens, device=logits.device)
    own = logged.gather(1, tokens.unsqueeze(1))[:, 0].cpu()
    difference = (own - torch.tensor(row.logprobs)).abs().sum()
    return RowSeen(float(difference), int((logged.argmax(dim=-1) == tokens).sum()))


def judge(probe: Probe, seen: Sequence[RowSeen], served: Precision) -> ProbeResult:
    """Return what the whole probe shows; numbers that are not finite never pass."""
    count = sum(len(row.tokens) for row in probe.rows)
    right = sum(
        token == best
        for row in probe.rows
        for token, best in zip(row.tokens, row.likeliest, strict=True)
    )
    result = ProbeResult(
        engine=ENGINE,
        trained_precision=probe.precision,
        served_precision=served,
        divergence=sum(row.difference for row in seen) / count,
        bound=bound(probe.precision, served),
        trained_accuracy=right / count,
        served_accuracy=sum(row.right for row in seen) / count,
    )
    drop = result.trained_accuracy - result.served_accuracy
    result.passed = result.divergence <= result.bound and drop <= _ACCURACY_DROP
    return result


def bound(trained: str, served: str) -> float:
    """Return the largest mean difference accepted between two precisions, in nats a token."""
    held = served.removesuffix("-packed")
    if trained == held and trained not in _BITS_16:
        # A GPU computes in 16 bits whatever the weights are held in.
        return _ROUNDED if torch.cuda.is_available() or served != held else _EXACT
    if {trained, held} <= _BITS_16 | {"fp32"}:
        return _ROUNDED
    return _REQUANTIZED
