"""LoRA of many adapters at once: their matrices stand side by side in one bank per layer.

A layer's bank has a column for each rank of each adapter on the device. Tokens are multiplied
with all columns, what is not their adapter's is masked out, and the rest is multiplied back: two
products for a whole batch, whatever mixture of adapters and ranks it is, and no weight is copied
for it. A bank that stays as it is gets the layout that CPUs are fastest in (`packing`). Pieces of
prompts, whose products would grow with the adapters beside them, use their own columns.
(Punica, Chen et al. 2023, and S-LoRA, Sheng et al. 2023, gather per row instead.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from luthier_inference.engine.packing import Product, pays

_ALIGNED = 8
"""Columns of an adapter begin at a multiple of this."""
_SETTLED, _PACKED_AT_ONCE = 8, 8
"""Steps for which a bank stays as it is before it is packed, and layers packed in one step: what
packing costs, some steps must win back, and no step may be slow for it."""
_WIDER = 1.5


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
        self.columns = slice(
            min((one.first for one in used), default=0),
            max((one.first + one.rank for one in used), default=0),
        )
        """From the first to the last that a single token needs."""
        self.count = len(singles)
        self.tokens = self.count + sum(piece.count for piece in pieces)
        self.pieces = [piece for piece in pieces if piece.placement is not None]
        self._singles = singles
        self._device = device
        self._masks: dict[tuple[int, int], torch.Tensor] = {}

    @property
    def is_plain(self) -> bool:
        """Whether no token has an adapter."""
        return not self.columns.stop and not self.pieces

    def mask(self, columns: slice, dtype: torch.dtype) -> torch.Tensor:
        """Return the scale of each of these columns (singles, columns), 0 for tokens of others."""
        key = columns.start, columns.stop
        if key not in self._masks:
            mask = torch.zeros((self.count, columns.stop), dtype=dtype)
            for row, placement in enumerate(self._singles):
                if placement is not None:
                    mask[row, placement.columns] = placement.scale
            self._masks[key] = mask[:, columns].to(self._device)
        return self._masks[key]


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
        self.packs = pays(device, dtype)
        plain = Line([], [], device)
        self.lines: dict[str, Line] = {LINE: plain, SOURCE: plain}
        """What is being computed."""
        self._layers = {
            name: _Layer(layer, kind, self, patience=_SETTLED + number // _PACKED_AT_ONCE)
            for number, (name, (layer, kind)) in enumerate(layers.items())
        }

    @property
    def placed(self) -> Mapping[str, Placement]:
        """The adapters on the device, by digest."""
        return self._placed

    @property
    def width(self) -> int:
        """Columns up to the last that an adapter has."""
        return max((one.first + one.rank for one in self._placed.values()), default=0)

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

    def __init__(self, linear: Any, kind: str, bank: LoraBank, *, patience: int) -> None:
        """`patience` counts the products before a bank that stays as it is is packed."""
        self._bank = bank
        self._patience = patience
        self._unchanged = 0
        self._packed: _Packed | None = None
        self._kind = kind
        self._down: torch.Tensor | None = None  # (columns, inputs)
        self._up: torch.Tensor | None = None  # (columns, outputs)
        self._forward = linear.forward
        linear.forward = self.forward

    def write(
        self, placement: Placement, matrices: tuple[torch.Tensor, torch.Tensor] | None
    ) -> None:
        """Write an adapter's columns; zeros where it leaves this layer as it is."""
        self._unchanged, self._packed = 0, None
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
        if line.columns.stop:
            self._add_singles(added[: line.count], flat[: line.count], line)
        for piece in line.pieces:
            columns = piece.placement.columns if piece.placement is not None else slice(0, 0)
            if columns.stop <= len(self._down):
                span = slice(piece.first, piece.first + piece.count)
                low = flat[span] @ self._down[columns].t()
                low *= piece.placement.scale if piece.placement is not None else 0.0
                _add(added[span], low, self._up[columns])
        return base

    def _add_singles(self, added: torch.Tensor, flat: torch.Tensor, line: Line) -> None:
        if self._down is None or self._up is None:
            return
        columns = slice(line.columns.start, min(line.columns.stop, len(self._down)))
        packed = self._pack() if self._bank.packs else None
        # What other adapters' columns cost must not be more than what the layout saves.
        if packed and packed.width <= _WIDER * (columns.stop - columns.start):
            low = packed.down(flat)
            low *= line.mask(slice(0, packed.width), low.dtype)
            added += packed.up(low)
        elif columns.start < columns.stop:
            low = flat @ self._down[columns].t()
            low *= line.mask(columns, low.dtype)
            _add(added, low, self._up[columns])

    def _pack(self) -> _Packed | None:
        """Return the bank in the kernels' layout, once it has stayed as it is for a while."""
        self._unchanged += 1
        if self._packed is not None or self._unchanged <= self._patience:
            return self._packed
        if self._down is not None and self._up is not None:
            self._packed = _Packed(self._down, self._up, self._bank.width)
        return self._packed


class _Packed:
    """A layer's bank in the layout that products are fastest in."""

    def __init__(self, down: torch.Tensor, up: torch.Tensor, width: int) -> None:
        self.width = min(width, len(down))
        self.down = Product(down[: self.width])
        self.up = Product(up[: self.width].t().contiguous())


def _add(base: torch.Tensor, low: torch.Tensor, up: torch.Tensor) -> None:
    if base.dtype == low.dtype:
        base.addmm_(low, up)
    else:
        base += (low @ up).to(base.dtype)
