"""Tokens and their log-probabilities, as chat completions and as completions tell them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any

from luthier.inference.v1.generation_pb2 import Token

_LEAST = -9999.0
"""What OpenAI says of tokens that are all but impossible; JSON has no infinity."""


def chat_logprobs(tokens: Iterable[Token]) -> dict[str, Any]:
    """Return the log-probabilities of tokens of a chat completion."""
    content = [
        _told(token) | {"top_logprobs": [_told(top) for top in token.top]} for token in tokens
    ]
    return {"content": content, "refusal": None}


class TextLogprobs:
    """Tells the tokens of one choice of a completion, each with its place in the text."""

    def __init__(self, start: int) -> None:
        """`start`: characters of the text before the first token."""
        self._at = start
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def shown(self, tokens: Iterable[Token]) -> dict[str, list[Any]]:
        """Return the log-probabilities of the next tokens.

        A token that is only a part of a character is told as `bytes:` and its bytes; `top_logprobs`
        has the token itself too, where it is not among the likeliest.
        """
        offsets, told = [], list(tokens)
        for token in told:
            offsets.append(self._at)
            self._at += len(self._decoder.decode(token.text))
        return {
            "tokens": [_name(token) for token in told],
            "token_logprobs": [_logprob(token) for token in told],
            "top_logprobs": [
                {_name(one): _logprob(one) for one in (*token.top, token)} for token in told
            ],
            "text_offset": offsets,
        }


def _told(token: Token) -> dict[str, Any]:
    text = _decoded(token) or _escaped(token)
    return {"token": text, "bytes": list(token.text), "logprob": _logprob(token)}


def _name(token: Token) -> str:
    return _decoded(token) or (f"bytes:{_escaped(token)}" if token.text else "")


def _decoded(token: Token) -> str:
    """Return the text of a token; nothing where its bytes are none."""
    try:
        return token.text.decode()
    except UnicodeDecodeError:
        return ""


def _escaped(token: Token) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token.text)


def _logprob(token: Token) -> float:
    return max(_LEAST, token.logprob)
