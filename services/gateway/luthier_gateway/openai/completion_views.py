"""Completions as OpenAI shows them: whole and in pieces they have the same form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from luthier.inference.v1.generation_pb2 import Token
from luthier.inference.v1.generation_service_pb2 import StreamCompleteResponse

from luthier_gateway.openai.answers import Answers, reason_of
from luthier_gateway.openai.completion_request import CompletionRequest
from luthier_gateway.openai.logprobs import TextLogprobs

_KIND = "text_completion"


class CompletionAnswers(Answers):
    """The answers to one prompt or to several."""

    prefix = "cmpl"
    chunk_kind = _KIND

    def __init__(self, asked: CompletionRequest, digest: str) -> None:
        super().__init__(asked, digest, prompts=len(asked.prompt))
        self._echoed = asked.prompt if asked.echo else None
        self._logprobs: list[TextLogprobs] | None = None
        if asked.logprobs is not None:
            self._logprobs = [TextLogprobs(0) for _ in range(self.count)]

    def whole(self, heard: Sequence[Sequence[StreamCompleteResponse]]) -> dict[str, Any]:
        """Return the answers in one piece."""
        choices = []
        for index, pieces in enumerate(heard):
            text = self._beginning(index) + "".join(piece.text for piece in pieces)
            tokens = [token for piece in pieces for token in piece.tokens]
            choices.append(self._choice(index, text, tokens, reason_of(pieces[-1].finish)))
        return self.head(_KIND) | {"choices": choices, "usage": self.usage()}

    def opening(self) -> Iterator[dict[str, Any]]:
        """Return the prompts, if they are asked for."""
        for index in range(self.count if self._echoed else 0):
            yield self._chunk(self._choice(index, self._beginning(index)))

    def chunks(self, index: int, piece: StreamCompleteResponse) -> Iterator[dict[str, Any]]:
        """Return the text of a piece, then the end of the choice."""
        if piece.text or piece.tokens:
            yield self._chunk(self._choice(index, piece.text, piece.tokens))
        if piece.HasField("finish"):
            yield self._chunk(self._choice(index, "", reason=reason_of(piece.finish)))

    def _beginning(self, index: int) -> str:
        return self._echoed[index // self.each] if self._echoed else ""

    def _choice(
        self, index: int, text: str, tokens: Sequence[Token] = (), reason: str | None = None
    ) -> dict[str, Any]:
        logprobs = self._logprobs[index].shown(tokens) if self._logprobs else None
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        return self.head(_KIND) | {"choices": [choice]}
