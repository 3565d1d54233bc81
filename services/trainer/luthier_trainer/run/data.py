"""Rows for a run: from the file, the mix of each step, and lines without padding."""

from __future__ import annotations

import inspect
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from luthier_common.errors import InvalidArgument
from torch.utils.data import Sampler

from luthier_trainer import lines as lay
from luthier_trainer.run.row_attention import row_sizes
from luthier_trainer.run.rows import IGNORED, Question, Row

_PROBED_TOKENS = 32
"""Of a row, in the proof that rows are kept apart."""
_SAME = 0.05
"""Most distance of logits that count as the same, as a share of them."""
_BUCKET_STEPS = 50
"""Steps that exchange rows for others of their length; as transformers' LengthGroupedSampler."""


class Format(Protocol):
    """How the rows of a method become tokens."""

    def tokenize(self, body: Mapping[str, Any]) -> Row:
        """Return the tokens of a row, the JSON object of its line; InvalidArgument."""

    def tokens(self, row: Row) -> int:
        """Return how many tokens a pass over the row reads."""

    def longest(self, row: Row) -> int:
        """Return the length of its longest sequence."""

    def teaches(self, row: Row) -> bool:
        """Whether there is anything to learn in it."""

    def question(self, body: Mapping[str, Any]) -> Question | None:
        """Return what the row asks and the answer it holds; None where it asks nothing."""


@dataclass(frozen=True)
class Rows:
    """Tokenized rows."""

    rows: list[Row]
    too_long: int
    """Rows left out because they are longer than a row may be."""
    tokens: int
    """Tokens of one pass."""
    lengths: list[int]
    """Of each row, the length of its longest sequence."""


def load(path: Path, form: Format, max_row_tokens: int) -> Rows:
    """Tokenize a JSONL file of rows; InvalidArgument when none, or one of them, cannot be learned.

    See the formats for the shapes.
    """
    rows, too_long = [], 0
    with path.open(encoding="utf-8-sig", newline="\n") as lines:  # uploads may begin with a BOM
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = form.tokenize(json.loads(line))
            except InvalidArgument as error:
                where = f"{path.stem} rows, line {number}"
                raise InvalidArgument(f"{where}: {error.message}", reason=error.reason) from error
            if form.longest(row) > max_row_tokens:
                too_long += 1
            elif form.teaches(row):
                rows.append(row)
    if not rows:
        raise InvalidArgument(
            f"{path.stem}: no row has anything to learn within {max_row_tokens} tokens",
            reason="NO_ROWS_TO_LEARN",
            metadata={"rows_too_long": str(too_long)},
        )
    return Rows(rows, too_long, sum(map(form.tokens, rows)), [form.longest(row) for row in rows])


class MixedSampler(Sampler[int]):
    """Orders row numbers so that every step reads `batch_size` rows and `retained` general ones.

    Numbers below `rows` are the file's rows, each drawn once an epoch in a new order; the numbers
    behind them are the base's general rows, drawn in turn from a shuffled circle. The order is a
    function of seed and epoch alone, so that a resumed run sees what the first would have seen.
    An epoch's last step has what is left of the rows, and its general rows.

    With `lengths`, the rows of a step are of similar length (length buckets): of every 50 steps'
    rows, drawn by chance, neighbours in length share a step, and the steps are shuffled.
    """

    def __init__(
        self,
        *,
        rows: int,
        general: int,
        batch_size: int,
        retain_share: float,
        seed: int,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self._rows = rows
        self._general = general
        self._batch_size = min(batch_size, rows)
        wanted = self._batch_size * retain_share / (1 - retain_share)
        # One at least: small batches would round to none, and what is to be kept would be lost.
        self._retained = max(1, round(wanted)) if general and retain_share else 0
        self._seed = seed
        self._lengths = lengths
        self._epoch = 0

    @property
    def step_rows(self) -> int:
        """Rows of a full step, general ones included."""
        return self._batch_size + self._retained

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self._rows / self._batch_size)

    def __len__(self) -> int:
        return self._rows + self.steps * self._retained

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of `epoch`; the trainer calls this before each."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self._seed}/{self._epoch}")
        rows = chance.sample(range(self._rows), self._rows)
        if self._lengths is not None:
            rows = self._bucketed(rows, self._lengths, chance)
        circle = list(range(self._rows, self._rows + self._general))
        random.Random(self._seed).shuffle(circle)
        drawn = self._epoch * self.steps * self._retained
        for start in range(0, self._rows, self._batch_size):
            yield from rows[start : start + self._batch_size]
            for _ in range(self._retained):
                yield circle[drawn % len(circle)]
                drawn += 1

    def _bucketed(
        self, rows: list[int], lengths: Sequence[int], chance: random.Random
    ) -> list[int]:
        size, steps = self._batch_size, []
        short = len(rows) % size
        last = rows[len(rows) - short :]  # the step of what is left stays the last one
        whole = rows[: len(rows) - short]
        for start in range(0, len(whole), _BUCKET_STEPS * size):
            window = sorted(whole[start : start + _BUCKET_STEPS * size], key=lengths.__getitem__)
            steps += [window[first : first + size] for first in range(0, len(window), size)]
        chance.shuffle(steps)
        return [row for step in steps for row in step] + last


class Collator(Protocol):
    """Makes the tensors of a step from its rows."""

    tokens: int
    """Tokens of the rows handed out so far."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return tensors whose first dimension is the step's lines."""


class LineCollator:
    """Packs a step's rows into a few equally long lines, so that hardly a token is padding.

    Position ids begin anew with each row, from which transformers builds the mask that keeps the
    rows of a line apart. Lines have about `most` tokens; where that is 0, for models that take no
    notice (see `keeps_rows_apart`), each row has its own, and an attention mask takes the place of
    the position ids. Shapes: all three tensors are (lines, tokens of a line).
    """

    def __init__(self, pad_token: int, *, most: int = lay.MOST) -> None:
        self._pad_token = pad_token
        self._most = most
        self.tokens = 0
        """Tokens of the rows handed out so far."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `labels` and `position_ids` (or `attention_mask`) of a step."""
        self.tokens += sum(len(row["input_ids"]) for row in rows)
        lengths = [len(row["input_ids"]) for row in rows]
        length, lines = lay.packed(lengths, self._most) if self._most else lay.alone(lengths)
        shape = (len(lines), length)
        input_ids = torch.full(shape, self._pad_token)
        labels = torch.full(shape, IGNORED)
        # Padding counts on from zero too: it is one more row, which nobody learns.
        position_ids = torch.arange(length).repeat(len(lines), 1)
        for number, line in enumerate(lines):
            start = 0
            for row in (rows[place] for place in line):
                end = start + len(row["input_ids"])
                input_ids[number, start:end] = torch.tensor(row["input_ids"])
                labels[number, start:end] = torch.tensor(row["labels"])
                position_ids[number, start:] = torch.arange(length - start)
                start = end
            position_ids[number, start:] = torch.arange(length - start)
        tensors = {"input_ids": input_ids, "labels": labels}
        if self._most:
            return tensors | {"position_ids": position_ids}
        sizes = torch.tensor([[len(row["input_ids"])] for row in rows])
        return tensors | {"attention_mask": (torch.arange(length) < sizes).long()}


def cut(line: dict[str, torch.Tensor], most: int) -> list[dict[str, torch.Tensor]]:
    """Cut a line that rows share, between them, into lines of about `most` tokens.

    A row is never cut, so that one that is longer has a line to itself; padding is left out.
    """
    pieces: list[tuple[int, int]] = []
    start = 0
    for size in row_sizes(line["position_ids"][0]):
        end = start + size
        if pieces and end - pieces[-1][0] <= most:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
        start = end
    cuts = [{name: values[:, slice(*piece)] for name, values in line.items()} for piece in pieces]
    return [piece for piece in cuts if bool((piece["labels"] != IGNORED).any())]


@torch.no_grad()
def keeps_rows_apart(model: Any, row: Row, pad_token: int) -> bool:
    """Whether this architecture keeps rows that share a line from seeing each other.

    It does where transformers builds the mask from position ids, and does not where a model takes
    no notice of those (ALiBi, say).
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    collate = LineCollator(pad_token)
    first = {name: values[:_PROBED_TOKENS] for name, values in row.items()}
    length = len(first["input_ids"])
    other = {name: [pad_token] * length for name in first}

    def behind(before: Row) -> torch.Tensor:
        """The model's answer to `first` in a line that begins with `before`."""
        line = collate([before, first])
        given = {name: line[name].to(model.device) for name in ("input_ids", "position_ids")}
        logits = cast(torch.Tensor, model(**given, use_cache=False).logits)
        return logits[0, length : 2 * length].float()

    was_training = model.training
    model.eval()
    alone, beside = behind(first), behind(other)
    model.train(was_training)
    # Not to the bit: outliers that LLM.int8() finds depend on all tokens of a pass.
    return bool((alone - beside).norm() <= _SAME * alone.norm())
