"""Keys and values of the rows being answered, in lanes of rows of like length.

A lane keeps its rows side by side in one tensor per layer, so that all of them attend in one
product and nothing is gathered. A row begins in the narrowest lane that holds it and moves on as it
grows; widths double, so that at most half of what a row holds, or reads, is padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

_NARROWEST = 128
_FIRST_ROWS = 4


@dataclass(frozen=True)
class LayerShape:
    """What one token takes in one layer."""

    heads: int
    key_size: int
    value_size: int

    @property
    def numbers(self) -> int:
        """Numbers of a token's key and value."""
        return self.heads * (self.key_size + self.value_size)


@dataclass(eq=False)
class Slot:
    """Where a row's keys and values are."""

    lane: Lane
    index: int
    length: int = 0
    """Tokens held."""


@dataclass(eq=False)
class Lane:
    """Rows of at most `width` tokens; the first `len(slots)` places are taken."""

    width: int
    slots: list[Slot] = field(default_factory=list)
    keys: list[torch.Tensor] = field(default_factory=list)
    """Of each layer: (places, heads, width, key size)."""
    values: list[torch.Tensor] = field(default_factory=list)

    @property
    def places(self) -> int:
        """Rows it has memory for."""
        return len(self.keys[0]) if self.keys else 0


class KeyValueCache:
    """Gives out slots, within `budget` bytes."""

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        *,
        dtype: torch.dtype,
        device: torch.device,
        budget: int,
    ) -> None:
        self._shapes = tuple(shapes)
        self._dtype = dtype
        self._device = device
        self._budget = budget
        self._lanes: dict[int, Lane] = {}
        self.token_bytes = sum(shape.numbers for shape in shapes) * dtype.itemsize
        """Bytes of one token in all layers."""

    @property
    def held_bytes(self) -> int:
        """Memory taken, whether rows are in it or not."""
        return sum(lane.places * lane.width for lane in self._lanes.values()) * self.token_bytes

    @property
    def used_bytes(self) -> int:
        """Memory of the places that rows have."""
        return sum(len(lane.slots) * lane.width for lane in self._lanes.values()) * self.token_bytes

    @property
    def most_tokens(self) -> int:
        """Tokens of a row that has room when no other row is there; 0 if not even the least has."""
        tokens = self._budget // self.token_bytes
        return 0 if tokens < _NARROWEST else 1 << int(math.log2(tokens))

    def take(self, tokens: int) -> Slot | None:
        """Return an empty slot for a row of so many tokens; None when there is no room."""
        lane = self._lanes.setdefault(_width(tokens), Lane(_width(tokens)))
        if len(lane.slots) == lane.places and not self._widen(lane):
            return None
        slot = Slot(lane, len(lane.slots))
        lane.slots.append(slot)
        return slot

    def grow(self, slot: Slot, tokens: int) -> bool:
        """Make room for so many tokens in all; False, and nothing changes, when there is none."""
        if tokens <= slot.lane.width:
            return True
        wider = self.take(tokens)
        if wider is None:
            return False
        for old, new in _paired(slot, wider, slot.length):
            new.copy_(old)
        self._leave(slot)
        slot.lane, slot.index = wider.lane, wider.index
        slot.lane.slots[slot.index] = slot
        return True

    def release(self, slot: Slot, *, wipe: bool = False) -> None:
        """Take a slot back. `wipe` when what it holds may not be finite: 0 times that is not 0."""
        if wipe:
            for keys, values in zip(slot.lane.keys, slot.lane.values, strict=True):
                keys[slot.index].zero_()
                values[slot.index].zero_()
        self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        """Take a slot out of its lane; the last row of the lane moves into its place."""
        last = slot.lane.slots.pop()
        if last is not slot:
            place = Slot(slot.lane, slot.index)
            for old, new in _paired(last, place, last.length):
                new.copy_(old)
            last.index = slot.index
            slot.lane.slots[last.index] = last

    def _widen(self, lane: Lane) -> bool:
        """Have a lane hold more rows, twice as many or else one; False when neither fits."""
        for places in (max(_FIRST_ROWS, 2 * lane.places), lane.places + 1):
            more = (places - lane.places) * lane.width * self.token_bytes
            if self.held_bytes + more > self._budget:
                self._drop_empty(lane)
            if self.held_bytes + more <= self._budget:
                self._resize(lane, places)
                return True
        return False

    def _drop_empty(self, kept: Lane) -> None:
        for width, lane in list(self._lanes.items()):
            if not lane.slots and lane is not kept:
                del self._lanes[width]

    def _resize(self, lane: Lane, places: int) -> None:
        for number, shape in enumerate(self._shapes):
            for held, size in ((lane.keys, shape.key_size), (lane.values, shape.value_size)):
                # Zeros: what is masked is multiplied by 0, and memory may hold anything.
                room = torch.zeros(
                    (places, shape.heads, lane.width, size), dtype=self._dtype, device=self._device
                )
                if number < len(held):
                    room[: len(lane.slots)] = held[number][: len(lane.slots)]
                    held[number] = room
                else:
                    held.append(room)


def _width(tokens: int) -> int:
    return max(_NARROWEST, 1 << math.ceil(math.log2(max(tokens, 1))))


def _paired(one: Slot, other: Slot, length: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield what two slots hold of their first tokens, layer by layer."""
    for mine, theirs in ((one.lane.keys, other.lane.keys), (one.lane.values, other.lane.values)):
        for here, there in zip(mine, theirs, strict=True):
            yield here[one.index, :, :length], there[other.index, :, :length]
