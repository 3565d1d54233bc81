"""Choosing the next token of each row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from luthier_inference.engine.row import Sampling


def choose(logits: torch.Tensor, rows: Sequence[Sampling]) -> list[int]:
    """Return a token for each row of `logits` [rows, vocabulary]."""
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    for index, sampling in enumerate(rows):
        if sampling.temperature > 0:
            tokens[index] = _sample(logits[index].cpu(), sampling)
    return tokens


def _sample(logits: torch.Tensor, sampling: Sampling) -> int:
    scaled = logits.double()
    # The maximum is taken off first: a temperature near 0 must not overflow.
    probabilities = ((scaled - scaled.max()) / sampling.temperature).softmax(dim=-1)
    # Equal probabilities keep the order of the vocabulary, whatever the sort.
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    ordered = ordered.where(before < sampling.top_p, 0.0)
    drawn = torch.multinomial(ordered, 1, generator=sampling.generator)
    return int(tokens[drawn])
