"""One row to tokens and labels: a format for each kind of tuning.

Which tokens are learned, and which are added, follows trl 1.16 (`SFTTrainer._prepare_dataset`):
the answers of a chat, a text whole, of a pair the completion; an end-of-sequence token closes texts
and completions that do not end with it, and the tokenizer puts in front what it always does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from luthier_common.errors import InvalidArgument
from trl.data_utils import common_prefix_length

from luthier_trainer.shapes import Shape, shape_of

IGNORED = -100
"""The label of a token that is read but not learned."""

Row = dict[str, list[int]]
"""Token lists by name; of a decoder `input_ids` and `labels`, equally long, with IGNORED labels
where nothing is learned."""

_Message = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """What a model is asked to see what it has learned."""

    prompt: list[int]
    """Tokens."""
    answer: str
    """The text expected."""


class CausalFormat:
    """Rows of a decoder: chats, texts and pairs, each one sequence of read and learned tokens."""

    def __init__(self, tokenizer: Any, context_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens

    def tokenize(self, body: Mapping[str, Any]) -> Row:
        """Return `input_ids` and `labels` of a row; InvalidArgument for one not to be learned so.

        It may be longer than the context.
        """
        match shape_of(body):
            case Shape.CHAT:
                return _chat(body, self._tokenizer)
            case Shape.TEXT:
                return _text(body["text"], self._tokenizer, self._context_tokens)
            case Shape.PAIR:
                return _pair(body["prompt"], body["completion"], self._tokenizer)
            case Shape.PREFERENCE:
                raise InvalidArgument(
                    "is a preference row, which preference tuning (`method: dpo`) learns from",
                    reason="PREFERENCE_ROWS",
                )

    def tokens(self, row: Row) -> int:
        """Return how many tokens the row has."""
        return len(row["input_ids"])

    def longest(self, row: Row) -> int:
        """Return the same: it is one sequence."""
        return len(row["input_ids"])

    def teaches(self, row: Row) -> bool:
        """Whether any token is learned."""
        return any(label != IGNORED for label in row["labels"])

    def question(self, body: Mapping[str, Any]) -> Question | None:
        """Return what leads to a chat's last answer, or to a pair's completion; None for a text."""
        match shape_of(body):
            case Shape.CHAT:
                *before, last = body["messages"]
                return _question(before, body.get("tools"), last, self._tokenizer)
            case Shape.PAIR:
                prompt = _encode(body["prompt"], self._tokenizer)
                return Question(prompt, body["completion"]) if prompt else None
            case _:
                return None


class Seq2SeqFormat:
    """Pairs for an encoder, which reads the prompt, and a decoder, which learns the completion."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def tokenize(self, body: Mapping[str, Any]) -> Row:
        """Return `input_ids` and `labels` of a pair; both end as the tokenizer ends sequences."""
        if shape_of(body) is not Shape.PAIR:
            raise InvalidArgument(
                "is not a pair: an encoder-decoder learns from `prompt` and `completion`",
                reason="SEQ2SEQ_NEEDS_PAIRS",
            )
        return {
            "input_ids": self._ended(_encode(body["prompt"], self._tokenizer)),
            "labels": self._ended(_encode(body["completion"], self._tokenizer)),
        }

    def tokens(self, row: Row) -> int:
        """Return how many tokens both have."""
        return len(row["input_ids"]) + len(row["labels"])

    def longest(self, row: Row) -> int:
        """Return the length of the longer one."""
        return max(len(row["input_ids"]), len(row["labels"]))

    def teaches(self, row: Row) -> bool:
        """Whether there is a completion beside the end of sequence."""
        return len(row["labels"]) > 1

    def question(self, body: Mapping[str, Any]) -> Question:
        """Return the pair as a question and its answer."""
        return Question(self.tokenize(body)["input_ids"], body["completion"])

    def _ended(self, tokens: list[int]) -> list[int]:
        end = self._tokenizer.eos_token_id
        return tokens if end is None or tokens[-1:] == [end] else [*tokens, end]


class PreferenceFormat:
    """Preference rows for DPO: an input, its preferred and its other answer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def tokenize(self, body: Mapping[str, Any]) -> Row:
        """Return `prompt_ids`, `chosen_ids` and `rejected_ids` of a row; InvalidArgument."""
        if shape_of(body) is not Shape.PREFERENCE:
            raise InvalidArgument(
                "is not a preference row: `input`, `preferred_output` and `non_preferred_output`",
                reason="NO_PREFERENCE_ROWS",
            )
        given = body["input"]
        messages = [_for_template(message) for message in given["messages"]]
        tools = given.get("tools") or None
        prompt = _render(messages, tools, self._tokenizer, answer=True)
        row = {"prompt_ids": prompt}
        for key, output in (("chosen", "preferred_output"), ("rejected", "non_preferred_output")):
            talk = [*messages, *(_for_template(message) for message in body[output])]
            tokens = _render(talk, tools, self._tokenizer)
            _check_tools_are_read(talk, tools, tokens, self._tokenizer)
            if tokens[: len(prompt)] != prompt:
                raise _template_rewrites()
            row[f"{key}_ids"] = tokens[len(prompt) :]
        return row

    def tokens(self, row: Row) -> int:
        """Return how many tokens both conversations have."""
        return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])

    def longest(self, row: Row) -> int:
        """Return the length of the longer conversation."""
        return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))

    def teaches(self, row: Row) -> bool:
        """Whether the answers differ."""
        return row["chosen_ids"] != row["rejected_ids"]

    def question(self, body: Mapping[str, Any]) -> Question | None:
        """Return the input, and the preferred answer as the one expected."""
        given, (preferred, *_) = body["input"], body["preferred_output"]
        return _question(given["messages"], given.get("tools"), preferred, self._tokenizer)


def _text(text: str, tokenizer: Any, context_tokens: int) -> Row:
    tokens = _encode(_closed(text, tokenizer), tokenizer)
    if len(tokens) > context_tokens:
        # A chunk cut to the model's whole context has no room for special tokens: without them.
        tokens = _encode(text, tokenizer, special=False)
    return _learned_from(0, tokens)


def _pair(prompt: str, completion: str, tokenizer: Any) -> Row:
    tokens = _encode(_closed(prompt + completion, tokenizer), tokenizer)
    # Not simply the prompt's length: its last token may have merged with the completion's first.
    return _learned_from(common_prefix_length(_encode(prompt, tokenizer), tokens), tokens)


def _chat(body: Mapping[str, Any], tokenizer: Any) -> Row:
    """Tokenize a conversation; what the template adds for an answer is learned.

    An answer is what rendering one more message adds behind the generation prompt, so any chat
    template serves, marked or not. A message with `weight` 0 is read only.
    """
    messages = [_for_template(message) for message in body["messages"]]
    tools = body.get("tools") or None
    tokens = _render(messages, tools, tokenizer)
    _check_tools_are_read(messages, tools, tokens, tokenizer)
    labels = [IGNORED] * len(tokens)
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or message.get("weight", 1) == 0:
            continue
        prompt = _render(messages[:index], tools, tokenizer, answer=True)
        turn = _render(messages[: index + 1], tools, tokenizer)
        if tokens[: len(turn)] != turn or turn[: len(prompt)] != prompt:
            raise _template_rewrites()
        labels[len(prompt) : len(turn)] = turn[len(prompt) :]
    labels[:1] = [IGNORED]
    return {"input_ids": tokens, "labels": labels}


def _question(
    before: Sequence[_Message], tools: Any, last: _Message, tokenizer: Any
) -> Question | None:
    if last["role"] != "assistant" or not last.get("content") or last.get("tool_calls"):
        return None
    messages = [_for_template(message) for message in before]
    if not messages:
        return None
    return Question(_render(messages, tools or None, tokenizer, answer=True), last["content"])


def _template_rewrites() -> InvalidArgument:
    return InvalidArgument(
        "the model's chat template changes earlier turns when a later one is added; "
        "give one answer in each row",
        reason="CHAT_TEMPLATE_REWRITES",
    )


def _check_tools_are_read(
    messages: Sequence[_Message], tools: Any, tokens: list[int], tokenizer: Any
) -> None:
    """Refuse what the template would leave out in silence: it shows by changing nothing."""
    if tools and _render(messages, None, tokenizer) == tokens:
        raise _no_place("tools")
    renamed = [_with_other_calls(message) for message in messages]
    if renamed != messages and _render(renamed, tools, tokenizer) == tokens:
        raise _no_place("tool calls")


def _for_template(message: _Message) -> _Message:
    """Return a message of OpenAI's form in the form that transformers' templates are written for.

    OpenAI writes a call's arguments as JSON text, and null where there is no content; `developer`
    is its newer word for `system`, as it is where the model is served.
    """
    given = {key: value for key, value in message.items() if value not in (None, [])}
    if given["role"] == "developer":
        given["role"] = "system"
    if "tool_calls" in given:
        given["tool_calls"] = [
            call | {"function": call["function"] | {"arguments": _arguments(call["function"])}}
            for call in given["tool_calls"]
        ]
    return given


def _arguments(function: Mapping[str, Any]) -> Any:
    arguments = function.get("arguments") or "{}"
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError as error:
        raise InvalidArgument(
            f"the arguments of a call of {function['name']} are not JSON: {error}",
            reason="INVALID_TOOL_CALL",
        ) from error


def _with_other_calls(message: _Message) -> _Message:
    if not message.get("tool_calls"):
        return message
    calls = [
        call | {"function": call["function"] | {"name": call["function"]["name"] + "_"}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _no_place(what: str) -> InvalidArgument:
    return InvalidArgument(
        f"the model's chat template has no place for {what}, so the model would never read them; "
        "tune a model that knows tools, or leave them out of the rows",
        reason="CHAT_TEMPLATE_WITHOUT_TOOLS",
    )


def _render(
    messages: Sequence[_Message], tools: Any, tokenizer: Any, *, answer: bool = False
) -> list[int]:
    if not messages:
        return []
    try:
        encoded = tokenizer.apply_chat_template(
            list(messages),
            tools=tools,
            add_generation_prompt=answer,
            tokenize=True,
            return_dict=True,
        )
    except Exception as error:
        # A template is foreign code: it raises whatever it likes.
        raise InvalidArgument(
            f"the model's chat template refuses this conversation: {error}",
            reason="CHAT_TEMPLATE_REFUSES",
        ) from error
    return cast(list[int], encoded["input_ids"])


def _closed(text: str, tokenizer: Any) -> str:
    end: str = tokenizer.eos_token or ""
    return text if text.endswith(end) else text + end


def _encode(text: str, tokenizer: Any, *, special: bool = True) -> list[int]:
    return cast(list[int], tokenizer(text, add_special_tokens=special)["input_ids"])


def _learned_from(start: int, tokens: list[int]) -> Row:
    # The first token of a row has nothing to be guessed from.
    start = max(start, 1)
    return {"input_ids": tokens, "labels": [IGNORED] * start + tokens[start:]}
