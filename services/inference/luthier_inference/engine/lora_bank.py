"""LoRA of many adapters at once: their matrices stand side by side in one bank per layer.

A layer's bank has a column for each rank of each adapter on the device. Tokens are multiplied
with all columns, what is not their adapter's is masked out, and the rest is multiplied back: two
products for a whole batch, whatever mixture of adapters and ranks it is, and no weight is copied
for it. Pieces of prompts, whose products would grow with the adapters beside them, use their own
columns.
(Punica, Chen et al. 2023, and S-LoRA, Sheng et al. 2023, gather per row instead.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

_ALIGNED = 8
"""Columns of an adapter begin at a multiple of this."""


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """An adapter's matrices, on the host."""

    digest: str
    rank: int
    scale: float
    layers: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    """By the layer's name in the base: A (rank, inputs) and B (outputs, rank)."""

    @property
    def size_bytes(self) -> int:
        """Memory of the matrices."""
        return sum(a.nbytes + b.nbytes for a, b in self.layers.values())


@dataclass(frozen=True, eq=False)
class Placement:
    """Where an adapter's columns are."""

    digest: str
    first: int
    rank: int
    scale: float

    @property
    def columns(self) -> slice:
        """Its columns in every layer."""
        return slice(self.first, self.first + self.rank)


@dataclass(frozen=True)
class Piece:
    """Tokens of a line, one behind the other, that one adapter is for."""

    first: int
    count: int
    placement: Placement | None


class Line:
    """Which adapter each token of a line is for."""

    def __init__(
        self, singles: Sequence[Placement | None], pieces: Sequence[Piece], device: torch.device
    ) -> None:
        """`singles` are the line's first tokens, each of a row of its own; `pieces` follow."""
        used = [one for one in singles if one is not None]
        self.first = min((one.first for one in used), default=0)
        self.last = max((one.first + one.rank for one in used), default=0)
        self.count = len(singles)
        self.tokens = self.count + sum(piece.count for piece in pieces)
        self.pieces = [piece for piece in pieces if piece.placement is not None]
        mask = torch.zeros((self.count, self.last - self.first))
        for row, placement in enumerate(singles):
            if placement is not None:
                start = placement.first - self.first
                mask[row, start : start + placement.rank] = placement.scale
        self._mask = mask.to(device)
        self._typed: dict[torch.dtype, torch.Tensor] = {}

    @property
    def is_plain(self) -> bool:
        """Whether no token has an adapter."""
        return not self.last and not self.pieces

    def mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the scale of columns `first` to `last`, 0 where they are not the token's own."""
        if dtype not in self._typed:
            self._typed[dtype] = self._mask.to(dtype)
        return self._typed[dtype]


LINE, SOURCE = "line", "source"
"""The tokens that a layer computes: those of the line, or of an encoder, of whose output a decoder
makes keys and values."""


class LoraBank:
    """The adapters on the device, at most `slots` of them with at most `columns` ranks in all."""

    def __init__(
        self,
        layers: Mapping[str, tuple[torch.nn.Module, str]],
        *,
        slots: int,
        columns: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`layers` are the base's linear layers and whose tokens they compute.

        Their `forward` is replaced. `dtype` is that of the products.
        """
        self._slots = slots
        self._columns = columns
        self._placed: dict[str, Placement] = {}
        self._missing: dict[str, list[str]] = {}
        self.dtype = dtype
        self.device = device
        plain = Line([], [], device)
        self.lines: dict[str, Line] = {LINE: plain, SOURCE: plain}
        """What is being computed."""
        self._layers = {name: _Layer(layer, kind, self) for name, (layer, kind) in layers.items()}

    @property
    def placed(self) -> Mapping[str, Placement]:
        """The adapters on the device, by digest."""
        return self._placed

    def fits(self, rank: int) -> bool:
        """Whether an adapter of this rank has room now."""
        return len(self._placed) < self._slots and self._room(rank) is not None

    def place(self, weights: LoraWeights) -> Placement:
        """Reserve columns for an adapter, which must fit; `fill` copies it in."""
        first = self._room(weights.rank)
        if first is None or len(self._placed) >= self._slots:
            raise RuntimeError("no room for the adapter")
        placement = Placement(weights.digest, first, weights.rank, weights.scale)
        self._placed[weights.digest] = placement
        self._missing[weights.digest] = list(self._layers)
        return placement

    def fill(self, weights: LoraWeights, budget: int) -> bool:
        """Copy some `budget` bytes of a placed adapter in; True once it is complete.

        A large adapter comes in over several steps, so that no answer waits for it.
        """
        placement, missing = self._placed[weights.digest], self._missing[weights.digest]
        while missing and budget > 0:
            name = missing.pop()
            matrices = weights.layers.get(name)
            self._layers[name].write(placement, matrices)
            budget -= sum(matrix.nbytes for matrix in matrices or ())
        return not missing

    def remove(self, digest: str) -> None:
        """Give an adapter's columns back."""
        self._placed.pop(digest, None)
        self._missing.pop(digest, None)

    def _room(self, rank: int) -> int | None:
        """Return where so many columns are free: the first place, so that banks stay narrow."""
        first = 0
        for taken in sorted(self._placed.values(), key=lambda one: one.first):
            if taken.first - first >= rank:
                break
            first = -(-(taken.first + taken.rank) // _ALIGNED) * _ALIGNED
        return first if first + rank <= self._columns else None


class _Layer:
    """A linear layer of the base, and the matrices of all adapters for it."""

    def __init__(self, linear: Any, kind: str, bank: LoraBank) -> None:
        self._bank = bank
        self._kind = kind
        self._down: torch.Tensor | None = None  # (columns, inputs)
        self._up: torch.Tensor | None = None  # (columns, outputs)
        self._forward = linear.forward
        linear.forward = self.forward

    def write(
        self, placement: Placement, matrices: tuple[torch.Tensor, torch.Tensor] | None
    ) -> None:
        """Write an adapter's columns; zeros where it leaves this layer as it is."""
        columns = placement.columns
        if matrices is not None:
            down, up = matrices
            held_down, held_up = self._widened(columns.stop, down.shape[1], up.shape[0])
            held_down[columns] = down.to(held_down)
            held_up[columns] = up.t().to(held_up)
        elif self._down is not None and self._up is not None:
            self._down[columns.start : columns.stop] = 0
            self._up[columns.start : columns.stop] = 0

    def _widened(self, width: int, inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
        held = 0 if self._down is None else len(self._down)
        if self._down is not None and self._up is not None and width <= held:
            return self._down, self._up
        down, up = (
            torch.zeros(
                (max(width, 2 * held), size), dtype=self._bank.dtype, device=self._bank.device
            )
            for size in (inputs, outputs)
        )
        if self._down is not None and self._up is not None:
            down[:held], up[:held] = self._down, self._up
        self._down, self._up = down, up
        return down, up

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's product, and what each token's adapter adds to it."""
        base: torch.Tensor = self._forward(x)
        line = self._bank.lines[self._kind]
        if self._down is None or self._up is None or line.is_plain:
            return base
        flat, added = x.reshape(-1, x.shape[-1]), base.view(-1, base.shape[-1])
        if len(flat) != line.tokens:
            raise RuntimeError(f"a layer computes {len(flat)} tokens of a line of {line.tokens}")
        flat = flat.to(self._down.dtype)
        columns = slice(line.first, min(line.last, len(self._down)))
        if columns.start < columns.stop:
            low = flat[: line.count] @ self._down[columns].t()
            low *= line.mask(low.dtype)[:, : low.shape[1]]
            _add(added[: line.count], low, self._up[columns])
        for piece in line.pieces:
            columns = piece.placement.columns if piece.placement is not None else slice(0, 0)
            if columns.stop <= len(self._down):
                span = slice(piece.first, piece.first + piece.count)
                low = flat[span] @ self._down[columns].t()
                low *= piece.placement.scale if piece.placement is not None else 0.0
                _add(added[span], low, self._up[columns])
        return base


def _add(base: torch.Tensor, low: torch.Tensor, up: torch.Tensor) -> None:
    if base.dtype == low.dtype:
        base.addmm_(low, up)
    else:
        base += (low @ up).to(base.dtype)
