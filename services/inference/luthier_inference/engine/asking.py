"""From a request to rows for the scheduler, and from what they write to the answer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

from luthier.inference.v1.engine_service_pb2 import GenerateRequest
from luthier.inference.v1.generation_pb2 import Finish, ToolChoice
from luthier_common.errors import InvalidArgument

from luthier_inference.conversation import (
    check_messages,
    check_sampling,
    check_text,
    check_texts,
    check_tools,
)
from luthier_inference.engine.grammar import Guide, Vocabulary
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.prompts import Tokenizer
from luthier_inference.engine.row import STOP, Piece, Row
from luthier_inference.engine.sampling import Sampling
from luthier_inference.engine.text import TextStream
from luthier_inference.engine.tool_calls import ToolFormat

_TOOL_CALLS = Finish.FinishReason.TOOL_CALLS


@dataclass(frozen=True)
class ModelSigns:
    """What an answer needs to know of the model."""

    vocabulary_size: int
    """Width of its logits."""
    ends: frozenset[int]
    """Tokens that end an answer."""
    start: tuple[int, ...]
    """What an encoder-decoder's decoder begins with; empty for a decoder."""
    room: int
    """Most tokens of one row that the cache can hold."""


class Asker:
    """Makes rows of requests to one model."""

    def __init__(self, tokenizer: Tokenizer, signs: ModelSigns) -> None:
        self._tokenizer = tokenizer
        self._signs = signs

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens as bytes; made when it is first needed, which takes a second."""
        signs = self._signs
        return Vocabulary(self._tokenizer.own, signs.vocabulary_size, signs.ends)

    def prepare(self, request: GenerateRequest) -> Asked:
        """Return a request checked and tokenized; InvalidArgument says what is wrong with it."""
        check_sampling(request.sampling)
        for token in request.sampling.logit_bias:
            if token >= self._signs.vocabulary_size:
                at = f"sampling.logit_bias[{token}]"
                message = f"{at}: this model has no token {token}"
                raise InvalidArgument(message, reason="INVALID_GENERATION_REQUEST", field=at)
        prompt, tools = self._prompt(request)
        guide = self._guide(request, tools)
        encodes = bool(self._signs.start)
        room = self._tokenizer.room(prompt, request.sampling.max_tokens, apart=encodes)
        held = len(self._signs.start) if encodes else len(prompt)
        if held >= self._signs.room or (encodes and len(prompt) > self._signs.room):
            raise InvalidArgument(
                f"the prompt has {len(prompt)} tokens, more than this engine has memory for",
                reason="CONTEXT_LENGTH_EXCEEDED",
                field="text" if request.text else "messages",
            )
        if guide is not None or request.sampling.logprobs:
            _ = self.vocabulary  # made here, in a thread
        return Asked(
            request,
            prompt,
            min(room, self._signs.room - held),
            self._signs,
            self._tokenizer,
            tools,
            guide,
        )

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts to be turned into vectors."""
        check_texts(texts)
        ends = bool(self._signs.start)
        return [self._tokenizer.encode_text(text, ends=ends) for text in texts]

    def _prompt(self, request: GenerateRequest) -> tuple[list[int], ToolFormat | None]:
        if request.text or not request.messages:
            check_text(request.text)
            return self._tokenizer.encode_text(request.text, ends=bool(self._signs.start)), None
        check_messages(request.messages)
        check_tools(request.tools, request.tool_choice)
        told = () if request.tool_choice.mode == ToolChoice.NONE else request.tools
        tokens = self._tokenizer.encode(request.messages, told)
        return tokens, self._tokenizer.tools if told else None

    def _guide(self, request: GenerateRequest, tools: ToolFormat | None) -> Guide | None:
        choice = request.tool_choice
        if tools is None or choice.mode != ToolChoice.REQUIRED:
            wanted = request.sampling.format
            return self.vocabulary.guide(wanted) if wanted.WhichOneof("kind") else None
        named = [tool for tool in request.tools if choice.name in ("", tool.name)]
        return self.vocabulary.guide_by(
            tools.grammar(named, opening=self._tokenizer.sign(tools.opens.strip()))
        )


@dataclass
class Asked:
    """A request that can be answered."""

    _request: GenerateRequest
    _prompt: list[int]
    _limit: int
    _signs: ModelSigns
    _tokenizer: Tokenizer
    _tools: ToolFormat | None
    _guide: Guide | None
    _held: dict[int, str] = field(default_factory=dict)

    def rows(self, project: str, weights: LoraWeights | None) -> list[Row]:
        """Return a row for each answer; the prompt is read once for all of them."""
        wanted = self._request.sampling
        rows: list[Row] = []
        for number in range(wanted.answer_count or 1):
            sampling = Sampling.of(wanted, answer=number)
            sampling.guide = self._guide.copy() if self._guide else None
            rows.append(
                Row(
                    project=project,
                    prompt=self._prompt,
                    weights=weights,
                    sampling=sampling,
                    text=TextStream(self._tokenizer.decode, wanted.stop),
                    limit=self._limit,
                    ends=self._signs.ends,
                    start=self._signs.start,
                    leader=rows[0] if rows else None,
                )
            )
        return rows

    def settled(self, number: int, piece: Piece) -> tuple[str, Finish | None]:
        """Return what to pass on of a piece: text that may be a call waits until it is whole."""
        if self._tools is None:
            return piece.text, piece.finish
        text = self._held.pop(number, "") + piece.text
        if piece.finish is None:
            kept = self._tools.may_begin(text)
            self._held[number] = text[kept:]
            return text[:kept], None
        before, calls = self._tools.split(text)
        finish = Finish()
        finish.CopyFrom(piece.finish)
        if calls:
            finish.tool_calls.extend(calls)
            finish.reason = _TOOL_CALLS if finish.reason == STOP else finish.reason
        return before, finish
