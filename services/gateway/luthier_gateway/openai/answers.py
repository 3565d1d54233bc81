"""An answer as it comes in, and what all ways of telling it have in common."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, ClassVar

from luthier.inference.v1.generation_pb2 import Finish
from luthier_common.errors import Internal

from luthier_gateway.openai.generation_request import GenerationRequest

Pieces = AsyncGenerator[tuple[int, Any], None]
"""Pieces, each with the index of the choice that it belongs to."""

_REASONS = {
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.TOOL_CALLS: "tool_calls",
}


class Answers(ABC):
    """The choices of one answer: `n` for each prompt, those of the first prompt first."""

    prefix: ClassVar[str]
    """Of the answer's id."""
    chunk_kind: ClassVar[str]
    """What a part of a stream is called."""

    def __init__(self, asked: GenerationRequest, digest: str, *, prompts: int = 1) -> None:
        """`digest`: of the model that is asked."""
        self.each = asked.n or 1
        self.count = prompts * self.each
        self._model = asked.model  # by the name it was asked by
        self._digest = digest
        self._id = f"{self.prefix}-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._finishes: dict[int, Finish] = {}

    def hear(self, index: int, piece: Any) -> None:
        """Take note of a piece of choice `index`; Internal when another model speaks."""
        check_answerer(piece, self._digest)
        if piece.HasField("finish"):
            self._finishes[index] = piece.finish

    def check_finished(self) -> None:
        """Internal unless every choice came to its end."""
        if len(self._finishes) < self.count:
            raise unfinished()

    @abstractmethod
    def whole(self, heard: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the answer in one piece, of the pieces of each choice."""

    @abstractmethod
    def opening(self) -> Iterator[dict[str, Any]]:
        """Return what a stream begins with."""

    @abstractmethod
    def chunks(self, index: int, piece: Any) -> Iterator[dict[str, Any]]:
        """Return what a piece of choice `index` is in a stream."""

    def usage_chunk(self) -> dict[str, Any]:
        """Return the end of a stream that tells what was counted."""
        return self.head(self.chunk_kind) | {"choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, Any]:
        """Return what was counted; a prompt is the same for all answers to it, and counts once."""
        firsts = [self._finishes[index] for index in range(0, self.count, self.each)]
        prompt = sum(finish.prompt_tokens for finish in firsts)
        completion = sum(finish.completion_tokens for finish in self._finishes.values())
        cached = sum(finish.cached_prompt_tokens for finish in firsts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def head(self, kind: str) -> dict[str, Any]:
        """Return what every part of the answer begins with."""
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": f"fp_{self._digest[:12]}",
        }


def reason_of(finish: Finish) -> str:
    """Return OpenAI's word for why writing ended."""
    return _REASONS.get(finish.reason, "stop")


def check_answerer(piece: Any, digest: str) -> None:
    """Internal where another model has answered than the one of this digest."""
    if (piece.adapter_digest or piece.base_model_digest) != digest:
        raise Internal("another model answered than was asked", reason="WRONG_MODEL_ANSWERED")


def digest_headers(piece: Any) -> dict[str, str]:
    """Return which bytes answer, as headers."""
    headers = {"x-luthier-base-digest": piece.base_model_digest}
    if piece.adapter_digest:
        headers["x-luthier-adapter-digest"] = piece.adapter_digest
    return headers


def unfinished() -> Internal:
    """Return the failure of an answer that ends without a word."""
    return Internal("the answer ended too early", reason="ANSWER_UNFINISHED")
