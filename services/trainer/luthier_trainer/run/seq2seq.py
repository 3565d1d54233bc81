"""The tensors of encoder-decoder steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from luthier_trainer.run.rows import IGNORED, Row

_MULTIPLE = 8
"""Sides are this many tokens long, or a multiple: few shapes, and what tensor cores like."""


class PairCollator:
    """Pads the prompts and the completions of a step, each to the longest.

    Labels are padded with IGNORED: what is not there is not learned.
    """

    def __init__(self, pad_token: int) -> None:
        self._pad_token = pad_token
        self.tokens = 0
        """Tokens of the rows handed out so far."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` (rows, prompt) and `labels` (rows, completion)."""
        self.tokens += sum(len(row["input_ids"]) + len(row["labels"]) for row in rows)
        input_ids = _padded([row["input_ids"] for row in rows], self._pad_token)
        sizes = torch.tensor([[len(row["input_ids"])] for row in rows])
        return {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(input_ids.size(1)) < sizes).long(),
            "labels": _padded([row["labels"] for row in rows], IGNORED),
        }


def _padded(lists: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
    length = math.ceil(max(map(len, lists)) / _MULTIPLE) * _MULTIPLE
    tensor = torch.full((len(lists), length), padding)
    for number, tokens in enumerate(lists):
        tensor[number, : len(tokens)] = torch.tensor(tokens)
    return tensor
