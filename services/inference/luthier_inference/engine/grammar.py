"""Answers that must be JSON of a given schema: which tokens may come next, by llguidance."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from luthier.inference.v1.generation_pb2 import AnswerFormat
from luthier_common.errors import InvalidArgument

_ANY_OBJECT = '{"type": "object"}'


class Vocabulary:
    """A tokenizer's tokens as bytes."""

    def __init__(self, tokenizer: Any, size: int, ends: frozenset[int]) -> None:
        """`size` is that of the model's logits, which may exceed the tokenizer's."""
        self._tokenizer: LLTokenizer = from_tokenizer(
            tokenizer, n_vocab=max(size, len(tokenizer)), eos_token=sorted(ends)
        )

    def spelled(self, token: int) -> bytes:
        """Return a token's bytes."""
        return self._tokenizer.decode_bytes([token])

    def guide(self, wanted: AnswerFormat) -> Guide | None:
        """Return the guide of a format, None where it is free; InvalidArgument for bad schemas."""
        kind = wanted.WhichOneof("kind")
        if kind is None or (kind == "json_object" and not wanted.json_object):
            return None
        schema = _ANY_OBJECT if kind == "json_object" else wanted.json_schema
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema)
        except ValueError as error:
            raise _refused(str(error)) from error
        return self.guide_by(grammar)

    def guide_by(self, grammar: str) -> Guide:
        """Return the guide of a grammar of llguidance; InvalidArgument."""
        matcher = LLMatcher(self._tokenizer, grammar)
        if matcher.is_error():
            raise _refused(matcher.get_error())
        return Guide(matcher)


class Guide:
    """One answer's way through its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def copy(self) -> Guide:
        """Return a guide of its own, at the same place."""
        return Guide(self._matcher.deep_copy())

    def allowed(self, size: int) -> torch.Tensor:
        """Return which of the first `size` tokens may come next (size), bool."""
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8)
        mask = numpy.unpackbits(bits, bitorder="little")[:size].astype(bool)
        if len(mask) < size:
            mask = numpy.pad(mask, (0, size - len(mask)))
        return torch.from_numpy(mask)

    def take(self, token: int) -> bool:
        """Go on with a token; whether the answer is complete, so that nothing may follow."""
        self._matcher.consume_token(token)
        return self._matcher.is_stopped()


def _refused(why: str) -> InvalidArgument:
    return InvalidArgument(
        f"sampling.format is no JSON schema that can be followed: {why[:500]}",
        reason="INVALID_JSON_SCHEMA",
        field="sampling.format.json_schema",
    )
