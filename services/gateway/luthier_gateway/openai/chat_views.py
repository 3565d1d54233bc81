"""Chat completions as OpenAI shows them, whole or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from luthier.inference.v1.generation_pb2 import Finish, ToolCall
from luthier.inference.v1.generation_service_pb2 import StreamChatResponse

from luthier_gateway.openai.answers import Answers, reason_of
from luthier_gateway.openai.chat_request import ChatRequest
from luthier_gateway.openai.logprobs import chat_logprobs
from luthier_gateway.openai.tools import shown_call


class ChatAnswers(Answers):
    """The answers to a conversation."""

    prefix = "chatcmpl"
    chunk_kind = "chat.completion.chunk"

    def __init__(self, asked: ChatRequest, digest: str) -> None:
        super().__init__(asked, digest)
        self._logprobs = bool(asked.logprobs)
        self._most_calls = 1 if asked.parallel_tool_calls is False else None

    def whole(self, heard: Sequence[Sequence[StreamChatResponse]]) -> dict[str, Any]:
        """Return the answers in one piece."""
        choices = [self._choice(index, pieces) for index, pieces in enumerate(heard)]
        return self.head("chat.completion") | {"choices": choices, "usage": self.usage()}

    def opening(self) -> Iterator[dict[str, Any]]:
        """Say of every choice who speaks."""
        for index in range(self.count):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def chunks(self, index: int, piece: StreamChatResponse) -> Iterator[dict[str, Any]]:
        """Return the text of a piece, then the calls and the end of the choice."""
        if piece.text or piece.tokens:
            logprobs = chat_logprobs(piece.tokens) if piece.tokens else None
            yield self._chunk(index, {"content": piece.text}, logprobs=logprobs)
        if not piece.HasField("finish"):
            return
        for number, call in enumerate(self._calls(piece.finish)):
            yield self._chunk(index, {"tool_calls": [{"index": number} | shown_call(call)]})
        yield self._chunk(index, {}, reason=reason_of(piece.finish))

    def _choice(self, index: int, pieces: Sequence[StreamChatResponse]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        finish = pieces[-1].finish
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls := [shown_call(call) for call in self._calls(finish)]:
            message |= {"content": text or None, "tool_calls": calls}
        tokens = (token for piece in pieces for token in piece.tokens)
        return {
            "index": index,
            "finish_reason": reason_of(finish),
            "message": message,
            "logprobs": chat_logprobs(tokens) if self._logprobs else None,
        }

    def _calls(self, finish: Finish) -> Sequence[ToolCall]:
        """Return the calls of an answer; where they may not be parallel, the first alone."""
        return finish.tool_calls[: self._most_calls]

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        return self.head(self.chunk_kind) | {"choices": [choice]}
