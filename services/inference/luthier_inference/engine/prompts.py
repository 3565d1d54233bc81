"""The tokenizer's part: conversations to prompts, tokens to text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import TemplateError
from luthier.inference.v1.generation_pb2 import ChatMessage
from luthier_common.errors import InvalidArgument
from transformers import AutoTokenizer, PreTrainedModel


class Tokenizer:
    """The base model's tokenizer and chat template."""

    def __init__(self, folder: Path, context_tokens: int) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_fast=True
        )
        self._context = context_tokens

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Return the prompt's tokens.

        InvalidArgument when the template refuses the messages, or no token is left to write.
        """
        conversation = [{"role": item.role, "content": item.content} for item in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                conversation, add_generation_prompt=True, tokenize=False
            )
        except TemplateError as error:
            raise InvalidArgument(
                f"the model's chat template refuses the messages: {error}",
                reason="CHAT_TEMPLATE_REFUSED",
                field="messages",
            ) from error
        # The template has put in whatever special tokens there are.
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if not 0 < len(tokens) < self._context:
            raise InvalidArgument(
                f"the messages have {len(tokens)} tokens, but this model's context is "
                f"{self._context} tokens, the answer included; shorten them",
                reason="CONTEXT_LENGTH_EXCEEDED",
                field="messages",
                metadata={
                    "prompt_tokens": str(len(tokens)),
                    "context_tokens": str(self._context),
                },
            )
        return tokens

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self._tokenizer.backend_tokenizer.decode(tokens, skip_special_tokens=True))

    def room(self, prompt: list[int], max_tokens: int) -> int:
        """Return how many tokens may be written; `max_tokens` 0 means as many as fit."""
        room = self._context - len(prompt)
        return min(max_tokens, room) if max_tokens else room

    def end_tokens(self, model: PreTrainedModel) -> frozenset[int]:
        """Return the tokens that end an answer, as tokenizer and generation config say."""
        configured = getattr(model.generation_config, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        ends = [*ends, self._tokenizer.eos_token_id]
        return frozenset(token for token in ends if token is not None)
