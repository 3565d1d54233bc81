"""Reads a safetensors file that comes in pieces: its header and, if asked, every number in it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from luthier_inference.tensors import HEADER_LIMIT, BadTensors, Tensors, header_bytes, read_header

_PIECE_BYTES = 1 << 20
# Unsigned integers of the same width, and the exponent's bits: all set in NaN and infinity alone.
_EXPONENTS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}


class TensorReader:
    """Takes a file of `size` bytes piece by piece, and holds no more of it than its header.

    `finite` has every number looked at, and the header be of at most `header_limit` bytes: NaN,
    infinity, and types other than F32, F16 and BF16 are refused.
    """

    def __init__(
        self, size: int, *, finite: bool = False, header_limit: int = HEADER_LIMIT
    ) -> None:
        self._size = size
        self._finite = finite
        self._header_limit = header_limit
        self._start = bytearray()
        self._tensors: Tensors | None = None
        self._scan: _Scan | None = None
        self._error: BadTensors | None = None

    @property
    def done(self) -> bool:
        """Whether more bytes would change nothing."""
        return self._error is not None or (self._tensors is not None and not self._finite)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; what is wrong with them is said by `result`.

        Not at once: the caller has yet to learn whether these are the right bytes.
        """
        if not self.done:
            try:
                self._take(piece)
            except BadTensors as error:
                self._error = error

    def result(self) -> Tensors:
        """Return what the file holds, after its last byte; BadTensors."""
        if self._error is not None:
            raise self._error
        if self._tensors is None:
            raise BadTensors("HEADER_TRUNCATED", "it ends within its header")
        return self._tensors

    def _take(self, piece: bytes) -> None:
        data = memoryview(piece)
        if self._tensors is None:
            self._start += piece
            end = header_bytes(self._start, self._header_limit)
            if len(self._start) < end:
                return
            self._tensors = read_header(self._start, self._size)
            data = memoryview(bytes(self._start[end:]))
            self._start.clear()
            if self._finite:
                self._scan = _Scan(self._tensors)
        if self._scan is not None:
            self._scan.feed(data)


@dataclass
class _Run:
    """Tensors of one type, one behind the other."""

    kind: str
    last: int
    """Where they end, in bytes behind the header."""


class _Scan:
    """Looks for NaN and infinity in the bytes behind the header."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._position = 0
        self._rest = b""
        """The first bytes of a number whose others come with the next piece."""
        self._runs: deque[_Run] = deque()
        for name, tensor in tensors.entries.items():
            if tensor.kind not in _EXPONENTS:
                raise BadTensors(
                    "UNSUPPORTED_DTYPE",
                    f"tensor {name[:100]!r} is of type {tensor.kind}; "
                    f"save it as {', '.join(_EXPONENTS)}",
                )
            if self._runs and self._runs[-1].kind == tensor.kind:
                self._runs[-1].last = tensor.last
            else:
                self._runs.append(_Run(tensor.kind, tensor.last))

    def feed(self, data: memoryview) -> None:
        """Look at the next bytes; BadTensors."""
        while data and self._runs:
            run = self._runs[0]
            missing = run.last - self._position - len(self._rest)
            if not missing:
                self._runs.popleft()
                continue
            taken = min(missing, _PIECE_BYTES)
            self._look(run.kind, self._rest + bytes(data[:taken]))
            data = data[taken:]

    def _look(self, kind: str, data: bytes) -> None:
        bits, exponent = _EXPONENTS[kind]
        whole = len(data) - len(data) % np.dtype(bits).itemsize
        numbers = np.frombuffer(data[:whole], bits)
        wrong = (numbers & exponent) == exponent
        if wrong.any():
            at = self._position + int(wrong.argmax()) * numbers.itemsize
            name = next(name for name, it in self._tensors.entries.items() if it.last > at)
            raise BadTensors("NOT_FINITE", f"tensor {name[:100]!r} holds NaN or infinity")
        self._position += whole
        self._rest = data[whole:]
