"""One answer being written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import torch
from luthier.inference.v1.generation_pb2 import ChatFinish, SamplingParameters
from luthier_common.errors import Internal

from luthier_inference.engine.adapter_files import AdapterWeights
from luthier_inference.engine.text import TextStream

STOP = ChatFinish.FinishReason.STOP
LENGTH = ChatFinish.FinishReason.LENGTH


@dataclass(frozen=True)
class Piece:
    """What one step adds to an answer."""

    text: str
    finish: ChatFinish | None = None


@dataclass(frozen=True)
class Sampling:
    """How a row's tokens are chosen."""

    temperature: float
    """0 means greedy."""
    top_p: float
    generator: torch.Generator
    """The row's own, so that its answer depends on no other row."""

    @classmethod
    def of(cls, parameters: SamplingParameters) -> Sampling:
        """Return the request's way, defaults filled in."""
        generator = torch.Generator()
        if parameters.HasField("seed"):
            generator.manual_seed(parameters.seed & (2**63 - 1))
        else:
            generator.seed()
        return cls(
            temperature=parameters.temperature if parameters.HasField("temperature") else 1.0,
            top_p=parameters.top_p if parameters.HasField("top_p") else 1.0,
            generator=generator,
        )


@dataclass(eq=False)
class Row:
    """A request in the scheduler. The worker thread advances it, the event loop reads from it."""

    prompt: list[int]
    adapter: AdapterWeights | None
    sampling: Sampling
    text: TextStream
    limit: int
    """Most tokens to write."""
    written: int = 0
    cancelled: bool = False
    """Set by the reader who leaves; the worker drops the row before its next step."""
    pieces: asyncio.Queue[Piece | Exception] = field(default_factory=asyncio.Queue)

    def advance(self, token: int, *, ends: bool) -> Piece:
        """Take the token chosen; `ends` says that it is an end token."""
        self.written += 1
        text = "" if ends else self.text.push(token)
        if ends or self.text.stopped:
            reason = STOP
        elif self.written >= self.limit:
            reason = LENGTH
        else:
            return Piece(text)
        finish = ChatFinish(
            reason=reason, prompt_tokens=len(self.prompt), completion_tokens=self.written
        )
        return Piece(text + self.text.finish(), finish)

    async def read(self) -> AsyncGenerator[Piece, None]:
        """Yield the pieces up to the last; those that wait already come as one."""
        try:
            while True:
                text = ""
                waiting: Piece | Exception = await self.pieces.get()
                while isinstance(waiting, Piece):
                    text += waiting.text
                    if waiting.finish is not None or self.pieces.empty():
                        break
                    waiting = self.pieces.get_nowait()
                if isinstance(waiting, Exception):
                    raise waiting
                if text or waiting.finish is not None:
                    yield Piece(text, waiting.finish)
                if waiting.finish is not None:
                    return
        finally:
            self.cancelled = True


def failed() -> Internal:
    """Return the error of a row whose batch broke; the log has the cause."""
    return Internal("the model failed while answering", reason="GENERATION_FAILED")
