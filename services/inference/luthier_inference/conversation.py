"""What a conversation and its sampling parameters must be like."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.inference.v1.generation_pb2 import ChatMessage, SamplingParameters
from luthier_common.errors import InvalidArgument

_ROLES = ("system", "user", "assistant")
_STOPS_LIMIT = 4
_STOP_CHARACTERS = 1000


def check_messages(messages: Sequence[ChatMessage]) -> None:
    """InvalidArgument names the message at fault."""
    if not messages:
        raise _invalid("messages", "must not be empty")
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            raise _invalid(f"messages[{index}].role", f"must be one of {', '.join(_ROLES)}")


def check_sampling(sampling: SamplingParameters) -> None:
    """InvalidArgument names the parameter at fault."""
    if sampling.max_tokens < 0:
        raise _invalid("sampling.max_tokens", "must not be negative")
    # Written so that NaN fails too.
    if sampling.HasField("temperature") and not 0 <= sampling.temperature <= 2:
        raise _invalid("sampling.temperature", "must be from 0 to 2")
    if sampling.HasField("top_p") and not 0 < sampling.top_p <= 1:
        raise _invalid("sampling.top_p", "must be above 0 and at most 1")
    if len(sampling.stop) > _STOPS_LIMIT:
        raise _invalid("sampling.stop", f"must be at most {_STOPS_LIMIT} texts")
    for index, stop in enumerate(sampling.stop):
        if not 0 < len(stop) <= _STOP_CHARACTERS:
            field = f"sampling.stop[{index}]"
            raise _invalid(field, f"must have 1 to {_STOP_CHARACTERS} characters")


def _invalid(field: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {what}", reason="INVALID_GENERATION_REQUEST", field=field)
