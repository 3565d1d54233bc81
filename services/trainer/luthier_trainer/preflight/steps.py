"""The lines that a run makes of its rows (`run.data`, `run.seq2seq`, `run.preferences`)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters

from luthier_trainer import lines

_SIDE_MULTIPLE = 8
"""The sides of pairs and of preferences are a multiple of so many tokens long."""
_BUCKET_STEPS = 50

Lengths = Sequence[int]
"""Tokens of each sequence of a row."""


@dataclass(frozen=True)
class Passes:
    """What the steps of a run come to."""

    lines: int
    """Lines of the step that holds most."""
    line_tokens: int
    """Tokens of each of those."""
    answer_tokens: int
    """Tokens of a line of the decoder, where an encoder reads the other; else the same."""
    padded_share: float
    """Share of the tokens of all steps that is padding."""
    tokens: int
    """Tokens of the rows that were looked at."""
    truncated_share: float
    """Share of those rows that are longer than a row may be, and left out."""
    packed: bool = False
    """Whether rows share lines."""
    row_tokens: int = 0
    """Then, tokens of the shortest line that holds any row."""


@dataclass(frozen=True)
class Layout:
    """How rows become lines."""

    most: int = 0
    """Tokens of a line that rows share, about; 0 where each has its own."""
    preference: bool = False
    """Whether a row is two sequences, for both answers."""
    encoder_decoder: bool = False
    """Whether a row is two sequences, one for the encoder and one for the decoder."""


class _Step(NamedTuple):
    lines: int
    line: int
    answer: int


def passes_of(
    rows: Sequence[Lengths], chosen: ResolvedHyperparameters, layout: Layout, *, seed: int
) -> Passes:
    """Lay rows out as a run does; `rows` may be a sample of its own."""
    fitting = [row for row in rows if max(row) <= chosen.max_row_tokens]
    read = sum(map(sum, fitting))
    laid, largest = 0, _Step(0, 0, 0)
    for rows_of_step in _steps(fitting, chosen, layout, seed):
        step = _laid(rows_of_step, layout)
        sides = 2 * step.line if layout.preference else step.line
        if layout.encoder_decoder:
            sides = step.line + step.answer
        laid += step.lines * sides
        largest = max(largest, step, key=lambda one: one.lines * (one.line + one.answer))
    return Passes(
        lines=largest.lines,
        line_tokens=largest.line,
        answer_tokens=largest.answer,
        padded_share=1 - read / laid if laid else 0.0,
        tokens=read,
        truncated_share=1 - len(fitting) / len(rows) if rows else 0.0,
        packed=bool(layout.most),
        row_tokens=lines.alone([max(map(max, fitting))]).length if fitting else 0,
    )


def _steps(
    rows: Sequence[Lengths], chosen: ResolvedHyperparameters, layout: Layout, seed: int
) -> Iterator[list[Lengths]]:
    # General rows, which the base model ships, are taken to be as long as the job's.
    size = max(1, round(chosen.batch_size / (1 - chosen.retain_share)))
    chance = random.Random(seed)
    drawn = chance.sample(list(rows), len(rows))
    if chosen.length_buckets and not layout.most:
        window = _BUCKET_STEPS * size
        drawn = [
            row
            for start in range(0, len(drawn), window)
            for row in sorted(drawn[start : start + window], key=max)
        ]
    for start in range(0, len(drawn), size):
        yield drawn[start : start + size]


def _laid(rows: Sequence[Lengths], layout: Layout) -> _Step:
    """Return what a step reads of its rows."""
    if layout.encoder_decoder:
        line, answer = (
            lines.rounded(max(side), _SIDE_MULTIPLE) for side in zip(*rows, strict=True)
        )
        return _Step(len(rows), line, answer)
    if layout.preference:
        line = lines.rounded(max(map(max, rows)), _SIDE_MULTIPLE)
        return _Step(len(rows), line, line)
    lengths = [row[0] for row in rows]
    laid = lines.packed(lengths, layout.most) if layout.most else lines.alone(lengths)
    return _Step(len(laid.rows), laid.length, laid.length)
