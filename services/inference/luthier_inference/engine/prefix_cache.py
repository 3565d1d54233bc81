"""Keys and values of prompts read before, for those that begin in the same way.

They are kept in blocks of tokens, each under a digest of all tokens up to its end, and of whose
they are: the project and the adapter. Nothing is ever shared across these.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch

from luthier_inference.engine.kv_cache import Slot

BLOCK = 64
"""Tokens of a block."""


class PrefixCache:
    """Holds at most `budget` bytes; what has not been used for longest goes first."""

    def __init__(self, *, budget: int, token_bytes: int) -> None:
        self._limit = budget // max(1, BLOCK * token_bytes)
        self._blocks: OrderedDict[bytes, list[torch.Tensor]] = OrderedDict()

    def load(self, owner: tuple[str, str], tokens: Sequence[int], slot: Slot) -> int:
        """Copy the longest known beginning into an empty slot that has room; return its tokens."""
        count = 0
        for key in _keys(owner, tokens):
            block = self._blocks.get(key)
            if block is None:
                break
            self._blocks.move_to_end(key)
            for held, kept in zip(_layers(slot), block, strict=True):
                held[:, count : count + BLOCK] = kept
            count += BLOCK
        return count

    def store(self, owner: tuple[str, str], tokens: Sequence[int], slot: Slot) -> None:
        """Keep the whole blocks of `tokens`, which the slot holds."""
        if not self._limit:
            return
        for number, key in enumerate(_keys(owner, tokens)):
            if key not in self._blocks:
                span = slice(number * BLOCK, (number + 1) * BLOCK)
                self._blocks[key] = [held[:, span].clone() for held in _layers(slot)]
            self._blocks.move_to_end(key)
        while len(self._blocks) > self._limit:
            self._blocks.popitem(last=False)

    def forget(self) -> None:
        """Drop everything."""
        self._blocks.clear()


def _layers(slot: Slot) -> Iterator[torch.Tensor]:
    """Yield the slot's keys and values, layer by layer: (heads, width, size)."""
    for keys, values in zip(slot.lane.keys, slot.lane.values, strict=True):
        yield keys[slot.index]
        yield values[slot.index]


def _keys(owner: tuple[str, str], tokens: Sequence[int]) -> Iterator[bytes]:
    """Yield the digest up to the end of each whole block."""
    running = hashlib.sha256("\0".join(owner).encode())
    for first in range(0, len(tokens) - BLOCK + 1, BLOCK):
        running.update(array("q", tokens[first : first + BLOCK]).tobytes())
        yield running.digest()
