"""Attention of many rows that share one line of tokens: each looks at its own row only.

A step computes one line: a token of every row that is being written, then the pieces of prompts
that are being read. Modules of transformers compute it token by token; only attention has to know
which row a token belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch.nn import functional

from luthier_inference.engine.kv_cache import Lane, LayerShape, Slot

Bias = Callable[[torch.Tensor, int], torch.Tensor]
"""What is added to scores, (n, heads, keys), by positions of queries (n) and the count of keys."""


@dataclass(frozen=True)
class Scoring:
    """How scores are made of queries and keys."""

    scale: float | None = None
    """None: 1 / sqrt(head size)."""
    bias: Bias | None = None
    window: int | None = None
    """A query looks at so many keys, itself included; None: at all before it."""
    softcap: float | None = None
    """Scores s become c tanh(s / c) (Gemma 2)."""


@dataclass(frozen=True)
class Line:
    """What a layer's attention is given for the tokens of a line."""

    layer: int
    query: torch.Tensor
    """(1, heads, tokens, size)."""
    key: torch.Tensor
    value: torch.Tensor
    scoring: Scoring


class Reach(Protocol):
    """Which keys the tokens of a line look at."""

    def attend(self, line: Line) -> torch.Tensor:
        """Return (1, tokens, heads, size)."""


@dataclass
class Packed:
    """Rows that are read whole, without a cache."""

    sizes: Sequence[int]
    """Tokens of each row, one behind the other."""
    causal: bool
    shapes: dict[int, LayerShape] = field(default_factory=dict)
    """Seen on the way, by layer."""

    def attend(self, line: Line) -> torch.Tensor:
        """Attend within each row."""
        key, value = line.key, line.value
        self.shapes[line.layer] = LayerShape(key.shape[1], key.shape[3], value.shape[3])
        rows = zip(
            *(torch.split(part, list(self.sizes), dim=2) for part in (line.query, key, value)),
            strict=True,
        )
        seen = [
            _read(
                q, k, v, torch.arange(q.shape[2], device=q.device), line.scoring, causal=self.causal
            )
            for q, k, v in rows
        ]
        return torch.cat(seen, dim=2).transpose(1, 2)


@dataclass(eq=False)
class Decoding:
    """Rows of one lane that each have one token in the line."""

    lane: Lane
    slots: list[Slot]
    first: int
    """Place of the first of them in the line; the others follow."""
    masks: dict[Any, torch.Tensor | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        device = self.lane.keys[0].device
        self.indices = torch.tensor([slot.index for slot in self.slots], device=device)
        self.lengths = torch.tensor([slot.length for slot in self.slots], device=device)
        self.longest = max(slot.length for slot in self.slots)
        # Without gaps the lane is read where it lies.
        self.whole = [slot.index for slot in self.slots] == list(range(len(self.slots)))

    def mask(self, scoring: Scoring, dtype: torch.dtype) -> torch.Tensor | None:
        """Return what is added to scores, (rows, heads or 1, 1, keys); made once a step."""
        key = (id(scoring.bias), scoring.window)
        if key not in self.masks:
            self.masks[key] = self._mask(scoring, dtype)
        return self.masks[key]

    def _mask(self, scoring: Scoring, dtype: torch.dtype) -> torch.Tensor | None:
        positions = self.lengths - 1
        hidden = _hidden(positions, self.longest, scoring.window)
        if scoring.bias is None and not hidden.any():
            return None
        added = torch.zeros((), dtype=dtype, device=hidden.device)
        if scoring.bias is not None:
            added = scoring.bias(positions, self.longest).to(dtype)
            hidden = hidden.unsqueeze(1)
        masked = added.masked_fill(hidden, -torch.inf)
        return masked.unsqueeze(-2) if scoring.bias is not None else masked[:, None, None]


@dataclass(frozen=True, eq=False)
class Reading:
    """A piece of a prompt in the line."""

    slot: Slot
    first: int
    """Place of its first token in the line."""
    count: int

    @property
    def start(self) -> int:
        """Tokens of the row before this piece."""
        return self.slot.length - self.count


class Cached:
    """Rows that look at what the cache holds of them, and add to it.

    Slots count the line's tokens already.
    """

    def __init__(self, decoding: Sequence[Decoding], reading: Sequence[Reading]) -> None:
        self._decoding = decoding
        self._reading = reading

    def attend(self, line: Line) -> torch.Tensor:
        """Store keys and values of the line, and attend to each row's own."""
        layer, query, key, value = line.layer, line.query, line.key, line.value
        seen = []
        for group in self._decoding:
            span = slice(group.first, group.first + len(group.slots))
            for held, new in ((group.lane.keys, key), (group.lane.values, value)):
                held[layer][group.indices, :, group.lengths - 1] = new[0, :, span].transpose(0, 1)
            seen.append(_decode(group, layer, query[0, :, span], line.scoring))
        for piece in self._reading:
            span = slice(piece.first, piece.first + piece.count)
            lane, index, end = piece.slot.lane, piece.slot.index, piece.slot.length
            lane.keys[layer][index, :, piece.start : end] = key[0, :, span]
            lane.values[layer][index, :, piece.start : end] = value[0, :, span]
            positions = torch.arange(piece.start, end, device=query.device)
            attended = _read(
                query[:, :, span],
                lane.keys[layer][index : index + 1, :, :end],
                lane.values[layer][index : index + 1, :, :end],
                positions,
                line.scoring,
                causal=True,
            )
            seen.append(attended[0].transpose(0, 1))
        return (seen[0] if len(seen) == 1 else torch.cat(seen)).unsqueeze(0)


class Crossed:
    """Rows of a decoder that look at what its encoder read, which is stored when it is new."""

    def __init__(
        self, decoding: Sequence[Decoding], reading: Sequence[Reading], new: Sequence[Slot]
    ) -> None:
        """`decoding` and `reading` name the slots of sources; `new` those in the line of keys."""
        self._decoding = decoding
        self._reading = reading
        self._new = new

    def attend(self, line: Line) -> torch.Tensor:
        """Store keys and values of new sources, and attend to each row's own."""
        layer, query, key, value = line.layer, line.query, line.key, line.value
        first = 0
        for slot in self._new:
            span = slice(first, first + slot.length)
            slot.lane.keys[layer][slot.index, :, : slot.length] = key[0, :, span]
            slot.lane.values[layer][slot.index, :, : slot.length] = value[0, :, span]
            first += slot.length
        seen = []
        for group in self._decoding:
            span = slice(group.first, group.first + len(group.slots))
            seen.append(_decode(group, layer, query[0, :, span], line.scoring))
        for piece in self._reading:
            lane, index, end = piece.slot.lane, piece.slot.index, piece.slot.length
            attended = _read(
                query[:, :, piece.first : piece.first + piece.count],
                lane.keys[layer][index : index + 1, :, :end],
                lane.values[layer][index : index + 1, :, :end],
                torch.arange(piece.count, device=query.device),
                line.scoring,
                causal=False,
            )
            seen.append(attended[0].transpose(0, 1))
        return torch.cat(seen).unsqueeze(0)


def _decode(group: Decoding, layer: int, query: torch.Tensor, scoring: Scoring) -> torch.Tensor:
    """Return (rows, heads, size) for queries (heads, rows, size), one of each row."""
    rows, longest = len(group.slots), group.longest
    keys, values = group.lane.keys[layer], group.lane.values[layer]
    if group.whole:
        keys, values = keys[:rows, :, :longest], values[:rows, :, :longest]
    else:
        keys, values = keys[group.indices, :, :longest], values[group.indices, :, :longest]
    mask = group.mask(scoring, query.dtype)
    heads = keys.shape[1]
    # Queries that share keys are one product.
    shared = query.transpose(0, 1).reshape(rows, heads, -1, query.shape[-1])
    if mask is not None and mask.shape[1] > 1:
        mask = mask.reshape(rows, heads, -1, longest)
    return _products(shared, keys, values, scoring, mask).flatten(1, 2)


def _read(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    positions: torch.Tensor,
    scoring: Scoring,
    *,
    causal: bool,
) -> torch.Tensor:
    """Return (1, heads, tokens, size) for tokens of one row at `positions`."""
    count, length = query.shape[2], key.shape[2]
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    short = scoring.window is None or length <= scoring.window
    if causal and count == length and short and not (scoring.bias or scoring.softcap):
        plain: torch.Tensor = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scoring.scale
        )
        return plain
    mask = None
    if causal and not (count == 1 and short):
        mask = query.new_zeros((count, length)).masked_fill_(
            _hidden(positions, length, scoring.window), -torch.inf
        )
    if scoring.bias is not None:
        added = scoring.bias(positions, length).to(query.dtype).transpose(0, 1)
        mask = added if mask is None else added + mask
    return _products(query, key, value, scoring, mask)


def _hidden(positions: torch.Tensor, length: int, window: int | None) -> torch.Tensor:
    """Return which of `length` keys a query at each position does not see: (queries, keys)."""
    places = torch.arange(length, device=positions.device)
    hidden = places > positions.unsqueeze(-1)
    if window is not None:
        hidden |= places <= positions.unsqueeze(-1) - window
    return hidden


def _products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scoring: Scoring,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Return softmax(query key^T + mask) value, heads beside heads."""
    if scoring.softcap is None:
        attended: torch.Tensor = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scoring.scale
        )
        return attended
    scale = query.shape[-1] ** -0.5 if scoring.scale is None else scoring.scale
    scores = torch.tanh(query @ key.transpose(-1, -2) * scale / scoring.softcap) * scoring.softcap
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype) @ value
