"""Counts tokens as the base model sees them: its tokenizer and its chat template, without torch.

The template is code from a model's files, so it runs in Jinja's sandbox.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from luthier_common.errors import FailedPrecondition
from tokenizers import Encoding, Tokenizer

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
FILES = (TOKENIZER, CONFIG, TEMPLATE)
"""The files of a base model that counting needs, as far as they are there."""


Spans = list[tuple[str, bool]]
"""A row as the model reads it, in pieces: the text, and whether it is learned."""


class Measured(NamedTuple):
    """Tokens of a row, and those of them that are learned."""

    tokens: int
    learned: int


class TokenCounter:
    """The tokenizer of one base model and, where it has one, its chat template.

    Models without a template read texts and pairs; encoder-decoders such as T5 are of these.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files`: those of FILES that the model has; FailedPrecondition if they do not do."""
        config: dict[str, Any] = _json(files.get(CONFIG, b"{}"))
        source = files[TEMPLATE].decode() if TEMPLATE in files else _template(config)
        try:
            self._tokenizer = Tokenizer.from_str(files[TOKENIZER].decode())
            # Files may ask for truncation or padding, which training does not do either.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._template = None if source is None else _environment().from_string(source)
        except KeyError as error:
            raise _unusable(f"has no {TOKENIZER}") from error
        except Exception as error:
            # The tokenizers library raises bare Exception; Jinja a tree of its own.
            raise _unusable(f"has an unreadable tokenizer or chat template ({error})") from error
        self.parts_words = _parts_words(self._tokenizer)
        """Whether no token can reach across a space between two words."""
        self._special = {
            key: value for key in ("bos_token", "eos_token", "pad_token", "unk_token")
            if (value := _token(config.get(key))) is not None
        }  # fmt: skip

    @property
    def reads_chats(self) -> bool:
        """Whether there is a chat template; without one, texts and pairs are all that counts."""
        return self._template is not None

    def count(self, text: str) -> int:
        """Return the tokens of a bare text, no special tokens added."""
        return len(self.encode(text))

    def encode(self, text: str) -> Encoding:
        """Return the tokens of a bare text, no special tokens added."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        *,
        answer: bool = False,
    ) -> str:
        """Return a conversation as the model reads it; FailedPrecondition if it cannot.

        `answer` adds what the model is to go on from.
        """
        if self._template is None:
            raise _unusable("has no chat template: only texts and pairs can be counted")
        try:
            return self._template.render(
                messages=[_for_template(message) for message in messages],
                tools=tools or None,
                add_generation_prompt=answer,
                **self._special,
            )
        except Exception as error:
            # A template is foreign code: it raises whatever it likes.
            raise _unusable(f"has a chat template that refuses a row ({error})") from error

    def measure(self, shape: str, body: Mapping[str, Any]) -> Measured:
        """Return the tokens of a row; of a preference, those with the longer answer.

        `shape` is one of `recipes.recipe.Shape`. FailedPrecondition if the template refuses, or if
        there is none and the row is a conversation.
        """
        if shape == "pair":
            read, learned = self.count(body["prompt"]), self.count(body["completion"])
            return Measured(read + learned, learned)
        return max(map(self._measure, self._ways(shape, body)))

    def spans(self, shape: str, body: Mapping[str, Any]) -> Spans:
        """Return a row as the model reads it, what is learned told from what is only read.

        What the template adds for an assistant's message behind the generation prompt is learned,
        unless its weight is 0: the rule that training follows. Errors as for `measure`.
        """
        if shape == "pair":
            return [(body["prompt"], False), (body["completion"], True)]
        return max(self._ways(shape, body), key=self._measure)

    def _ways(self, shape: str, body: Mapping[str, Any]) -> list[Spans]:
        """Return the spans of a row, one for each of its answers."""
        if shape == "text":
            return [[(body["text"], True)]]
        if shape == "chat":
            return [self._chat(body["messages"], body.get("tools"), 0)]
        read = body["input"]["messages"]
        return [
            self._chat([*read, *body[answer]], body["input"].get("tools"), len(read))
            for answer in ("preferred_output", "non_preferred_output")
        ]

    def _chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None, first: int
    ) -> Spans:
        """Return the spans of a conversation whose answers from message `first` on are learned."""
        text = self.render(messages, tools)
        spans: Spans = []
        done = 0
        for index, message in enumerate(messages):
            if index < first or message["role"] != "assistant" or message.get("weight", 1) == 0:
                continue
            last = index + 1 == len(messages)
            turn = text if last else self.render(messages[: index + 1], tools)
            prompt = self.render(messages[:index], tools, answer=True) if index else ""
            if not text.startswith(turn) or not turn.startswith(prompt):
                raise _rewriting()
            spans += [(text[done : len(prompt)], False), (text[len(prompt) : len(turn)], True)]
            done = len(turn)
        spans.append((text[done:], False))
        return [(piece, learned) for piece, learned in spans if piece]

    def _measure(self, spans: Spans) -> Measured:
        text = "".join(piece for piece, _ in spans)
        encoded = self.encode(text)
        if all(learned for _, learned in spans):
            return Measured(len(encoded), len(encoded))
        offsets = encoded.offsets
        ends = [end for _, end in offsets]

        def tokens(cut: int) -> int:
            """Return the tokens before a character."""
            count = bisect_right(ends, cut)
            if count == len(ends) or offsets[count][0] >= cut:
                return count
            # A token reaches across. Training encodes the turns before by themselves.
            before = self.encode(text[:cut]).ids
            if encoded.ids[: len(before)] != before:
                raise _rewriting()
            return len(before)

        start = taught = 0
        for piece, learned in spans:
            if learned:
                # The first token of a row has nothing to be guessed from.
                taught += tokens(start + len(piece)) - max(tokens(start), 1)
            start += len(piece)
        return Measured(len(encoded), taught)


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of OpenAI's form in the form that chat templates are written for.

    As training does: the arguments of calls as an object, no nulls, `developer` as `system`.
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
    return json.loads(arguments) if isinstance(arguments, str) else arguments


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant wrote; text passes as is."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _parts_words(tokenizer: Tokenizer) -> bool:
    text = "a a"
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    splitter = tokenizer.pre_tokenizer
    return splitter is not None and len(splitter.pre_tokenize_str(text)) > 1


def _environment() -> ImmutableSandboxedEnvironment:
    # The settings that chat templates are written for (those of transformers).
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.globals["raise_exception"] = _raise
    environment.filters["tojson"] = _tojson
    return environment


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _template(config: Mapping[str, Any]) -> str | None:
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {item["name"]: item["template"] for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token(value: object) -> str | None:
    """The text of a special token, which some configurations wrap in an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _rewriting() -> FailedPrecondition:
    return FailedPrecondition(
        "the base model's chat template changes earlier turns when a later one is added; "
        "give one answer in each row",
        reason="CHAT_TEMPLATE_REWRITES",
    )


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise _unusable(f"has an unreadable {CONFIG}") from error
    return found if isinstance(found, dict) else {}


def _unusable(what: str) -> FailedPrecondition:
    return FailedPrecondition(f"the base model {what}", reason="BASE_MODEL_UNUSABLE")
