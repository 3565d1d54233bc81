"""One answer being written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from luthier.inference.v1.generation_pb2 import Finish
from luthier_common.errors import Internal, PlatformError

from luthier_inference.engine.kv_cache import Slot
from luthier_inference.engine.lora_bank import LoraWeights, Placement
from luthier_inference.engine.sampling import Candidate, Chosen, Sampling
from luthier_inference.engine.text import TextStream

STOP = Finish.FinishReason.STOP
LENGTH = Finish.FinishReason.LENGTH


@dataclass(frozen=True)
class Piece:
    """What steps add to an answer."""

    text: str
    chosen: tuple[Chosen, ...] = ()
    """The tokens, where the row tells log-probabilities."""
    finish: Finish | None = None


@dataclass(eq=False)
class Row:
    """A request in the scheduler. The engine's thread advances it, the event loop reads from it."""

    project: str
    prompt: list[int]
    weights: LoraWeights | None
    sampling: Sampling
    text: TextStream
    limit: int
    """Most tokens to write."""
    ends: frozenset[int]
    start: tuple[int, ...] = ()
    """Of an encoder-decoder: what its decoder begins with; the prompt is the encoder's."""
    leader: Row | None = None
    """A row with the same prompt, which is read before this one, and once for both."""

    arrived: float = field(default_factory=time.monotonic)
    written: list[int] = field(default_factory=list)
    cancelled: bool = False
    """Set by the reader who leaves; the engine drops the row before its next step."""
    pieces: asyncio.Queue[tuple[Row, Piece | PlatformError]] = field(default_factory=asyncio.Queue)
    """Where its pieces go (`Answers`)."""

    # While it runs.
    slot: Slot | None = None
    source_slot: Slot | None = None
    placement: Placement | None = None
    held: int = 0
    """Tokens of the line whose keys and values are in the cache."""
    cached: int = 0
    """Of the prompt's tokens, those that the prefix cache gave."""
    read: bool = False
    """Whether the prompt has been read to its end."""
    over: bool = False

    @property
    def digest(self) -> str:
        """Of the adapter; empty for the base alone."""
        return "" if self.weights is None else self.weights.digest

    @property
    def encodes(self) -> bool:
        """Whether the prompt is for an encoder."""
        return bool(self.start)

    @property
    def line(self) -> list[int]:
        """Return the tokens that the decoder has before it."""
        return [*(self.start or self.prompt), *self.written]

    @property
    def length(self) -> int:
        """Return how many tokens `line` has."""
        return len(self.start or self.prompt) + len(self.written)

    def next_tokens(self, most: int) -> list[int]:
        """Return at most so many tokens of the line that are not held yet."""
        if self.held == self.length - 1 and self.written:
            return self.written[-1:]
        return self.line[self.held : self.held + most]

    def candidate(self) -> Candidate:
        """Return the row as one whose next token is wanted."""
        return Candidate(self.sampling, self.prompt, self.written)

    def advance(self, chosen: Chosen) -> Piece:
        """Take the token chosen."""
        token = chosen.token
        self.written.append(token)
        ends = token in self.ends
        guide = self.sampling.guide
        complete = guide is not None and guide.take(token)
        text = "" if ends else self.text.push(token)
        told = () if self.sampling.logprobs is None else (chosen,)
        if ends or complete or self.text.stopped:
            reason = STOP
        elif len(self.written) >= self.limit:
            reason = LENGTH
        else:
            return Piece(text, told)
        return Piece(text + self.text.finish(), told, self._finish(reason))

    def _finish(self, reason: Finish.FinishReason) -> Finish:
        self.over = True
        return Finish(
            reason=reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.written),
            cached_prompt_tokens=self.cached,
        )


class Answers:
    """The answers to one request, read as they are written."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._pieces: asyncio.Queue[tuple[Row, Piece | PlatformError]] = asyncio.Queue()
        for row in rows:
            row.pieces = self._pieces

    async def read(self) -> AsyncGenerator[tuple[int, Piece], None]:
        """Yield pieces with the answer's number; those that wait already come as one."""
        unfinished = len(self._rows)
        try:
            while unfinished:
                waiting = [await self._pieces.get()]
                while not self._pieces.empty():
                    waiting.append(self._pieces.get_nowait())
                for number, row in enumerate(self._rows):
                    pieces = [_sound(piece) for owner, piece in waiting if owner is row]
                    if pieces:
                        piece = _joined(pieces)
                        unfinished -= piece.finish is not None
                        if piece.text or piece.chosen or piece.finish is not None:
                            yield number, piece
        finally:
            for row in self._rows:
                row.cancelled = True


def _sound(piece: Piece | PlatformError) -> Piece:
    if isinstance(piece, PlatformError):
        raise piece
    return piece


def _joined(pieces: Sequence[Piece]) -> Piece:
    return Piece(
        "".join(piece.text for piece in pieces),
        tuple(one for piece in pieces for one in piece.chosen),
        pieces[-1].finish,
    )


def failed() -> Internal:
    """Return the error of a row whose batch broke; the log has the cause."""
    return Internal("the model failed while answering", reason="GENERATION_FAILED")


def not_finite() -> Internal:
    """Return the error of a row for which the model computed no numbers."""
    return Internal(
        "the model computed numbers that are not finite; its weights, or the adapter's, are "
        "damaged or overflow in this precision",
        reason="ANSWER_NOT_FINITE",
    )
