"""Answers as OpenAI shows them, whole or piece by piece."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from luthier.inference.v1 import generation_pb2, generation_service_pb2

_REASONS = {
    generation_pb2.ChatFinish.STOP: "stop",
    generation_pb2.ChatFinish.LENGTH: "length",
}


@dataclass
class Completion:
    """What all parts of one answer have in common, and what has been counted so far."""

    model: str
    """The model by the name it was asked by."""
    base_digest: str = ""
    adapter_digest: str = ""
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def begin(self, first: generation_service_pb2.StreamChatResponse) -> None:
        """Learn from the first piece who answers."""
        self.base_digest = first.base_model_digest
        self.adapter_digest = first.adapter_digest

    def count(self, finish: generation_pb2.ChatFinish) -> None:
        """Count a finished choice; the prompt is the same for all choices."""
        self.prompt_tokens = finish.prompt_tokens
        self.completion_tokens += finish.completion_tokens

    def headers(self) -> dict[str, str]:
        """Return which bytes answer."""
        headers = {"x-luthier-base-digest": self.base_digest}
        if self.adapter_digest:
            headers["x-luthier-adapter-digest"] = self.adapter_digest
        return headers

    def whole(self, texts: list[str], reasons: list[str | None]) -> dict[str, Any]:
        """Return the answer in one piece."""
        choices = [
            {
                "index": index,
                "finish_reason": reason,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
            }
            for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        ]
        return self._head("chat.completion") | {"choices": choices, "usage": self.usage()}

    def chunk(self, index: int, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        """Return a piece of choice `index`."""
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self._head("chat.completion.chunk") | {"choices": [choice]}

    def usage_chunk(self) -> dict[str, Any]:
        """Return the piece that tells what was counted."""
        return self._head("chat.completion.chunk") | {"choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Return what was counted."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def _head(self, kind: str) -> dict[str, Any]:
        digest = self.adapter_digest or self.base_digest
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": f"fp_{digest[:12]}",
        }


def reason_of(finish: generation_pb2.ChatFinish) -> str:
    """Return OpenAI's word for why writing ended."""
    return _REASONS.get(finish.reason, "stop")
