"""The tokenizer's part: conversations and texts to prompts, tokens to text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from luthier.inference.v1.generation_pb2 import ChatMessage, Tool
from luthier_common.errors import FailedPrecondition, InvalidArgument
from transformers import AutoTokenizer, PreTrainedModel

from luthier_inference.engine.tool_calls import ToolFormat, format_of


class Tokenizer:
    """The base model's tokenizer and chat template."""

    def __init__(self, folder: Path, context_tokens: int) -> None:
        self.own: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_fast=True
        )
        self._context = context_tokens
        template = self.own.chat_template
        self.tools: ToolFormat | None = format_of(template if isinstance(template, str) else "")
        """How the model calls tools; None: its template knows none."""
        # What a model writes around its calls is kept where the tokenizer takes it for a sign.
        self._marks = {
            token: text
            for text in (self.tools.marks if self.tools else ())
            if (token := self.own.convert_tokens_to_ids(text)) in self.own.all_special_ids
        }

    def sign(self, text: str) -> int | None:
        """Return the token that a mark around calls is to the tokenizer, if it is one."""
        return next((token for token, mark in self._marks.items() if mark == text), None)

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> list[int]:
        """Return the prompt's tokens.

        InvalidArgument when the template refuses the messages, or no token is left to write.
        """
        if tools and self.tools is None:
            raise InvalidArgument(
                "this model's chat template knows no tools; leave tools out, or ask another model",
                reason="TOOLS_UNSUPPORTED",
                field="tools",
            )
        if not self.own.chat_template:
            raise FailedPrecondition(
                "the model has no chat template; send a text instead",
                reason="CHAT_TEMPLATE_MISSING",
                field="messages",
            )
        try:
            text = self.own.apply_chat_template(
                [_message(item) for item in messages],
                tools=[_tool(tool) for tool in tools] or None,
                add_generation_prompt=True,
                tokenize=False,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise InvalidArgument(
                f"the model's chat template refuses the messages: {error}",
                reason="CHAT_TEMPLATE_REFUSED",
                field="messages",
            ) from error
        # The template has put in whatever special tokens there are.
        return self._checked(self.own(text, add_special_tokens=False)["input_ids"], "messages")

    def encode_text(self, text: str, *, ends: bool) -> list[int]:
        """Return a text's tokens, as tuning reads prompts; InvalidArgument when it is too long.

        `ends` closes it with the end of sequence, as encoders want it.
        """
        tokens: list[int] = self.own(text)["input_ids"]
        end = self.own.eos_token_id
        if ends and end is not None and tokens[-1:] != [end]:
            tokens = [*tokens, end]
        return self._checked(tokens, "text")

    def _checked(self, tokens: list[int], field: str) -> list[int]:
        if not 0 < len(tokens) < self._context:
            raise InvalidArgument(
                f"the {field} have {len(tokens)} tokens, but this model's context is "
                f"{self._context} tokens, the answer included; shorten them",
                reason="CONTEXT_LENGTH_EXCEEDED",
                field=field,
                metadata={
                    "prompt_tokens": str(len(tokens)),
                    "context_tokens": str(self._context),
                },
            )
        return tokens

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""
        if self._marks and not self._marks.keys().isdisjoint(tokens):
            at = next(index for index, token in enumerate(tokens) if token in self._marks)
            mark = self._marks[tokens[at]]
            return self.decode(tokens[:at]) + mark + self.decode(tokens[at + 1 :])
        return str(self.own.backend_tokenizer.decode(tokens, skip_special_tokens=True))

    def room(self, prompt: list[int], max_tokens: int, *, apart: bool = False) -> int:
        """Return how many tokens may be written; `max_tokens` 0 means as many as fit.

        `apart` says that the answer does not follow the prompt, as in a decoder's own line.
        """
        room = self._context - (1 if apart else len(prompt))
        return min(max_tokens, room) if max_tokens else room

    def end_tokens(self, model: PreTrainedModel) -> frozenset[int]:
        """Return the tokens that end an answer, as tokenizer and generation config say."""
        configured = getattr(model.generation_config, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        ends = [*ends, self.own.eos_token_id]
        return frozenset(token for token in ends if token is not None)


def _message(message: ChatMessage) -> dict[str, Any]:
    """Return a message as chat templates of transformers take it."""
    shown: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        shown["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        shown["tool_call_id"] = message.tool_call_id
    return shown


def _tool(tool: Tool) -> dict[str, Any]:
    schema = json.loads(tool.parameters_schema or '{"type": "object", "properties": {}}')
    function = {"name": tool.name, "description": tool.description, "parameters": schema}
    return {"type": "function", "function": function}
