"""Tokens of rows as a run counts them (`run.rows`): tokenizer and chat template, without torch.

The template is code from a model's files, so it runs in Jinja's sandbox. A conversation that it
refuses is counted as the bare texts of its messages: this is an estimate, the run says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from luthier_common.errors import FailedPrecondition
from tokenizers import Tokenizer

from luthier_trainer.shapes import Shape

_TOKENIZER, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_TEMPLATE = "chat_template.jinja"
FILES = frozenset({_TOKENIZER, _CONFIG, _TEMPLATE})
"""The files of a base model that counting needs, as far as they are there."""
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")

_Message = Mapping[str, Any]


class TokenCounter:
    """The tokenizer and chat template of one base model."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files`: those of FILES that the model has; FailedPrecondition if they do not do."""
        try:
            config = json.loads(files.get(_CONFIG, b"{}"))
            self._tokenizer = Tokenizer.from_str(files[_TOKENIZER].decode())
            self._tokenizer.no_truncation()  # a run's neither cuts nor pads
            self._tokenizer.no_padding()
            source = files[_TEMPLATE].decode() if _TEMPLATE in files else _source(config)
            self._template = _environment().from_string(source) if source else None
        except Exception as error:
            # The tokenizers library raises bare Exception; Jinja a tree of its own.
            raise FailedPrecondition(
                f"the base model has no usable {_TOKENIZER} or chat template ({error})",
                reason="BASE_MODEL_UNUSABLE",
            ) from error
        self._special = {
            key: text for key in _SPECIAL if (text := _text(config.get(key))) is not None
        }

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be read."""
        return self._template is not None

    def lengths(self, shape: Shape, row: Mapping[str, Any], *, sides: bool = False) -> list[int]:
        """Return the tokens of each sequence of a row: both answers of a preference.

        `sides` counts the two sides of a pair apart, as an encoder-decoder reads them.
        """
        match shape:
            case Shape.CHAT:
                return [self._chat(row["messages"], row.get("tools"))]
            case Shape.TEXT:
                return [self._count(self._closed(row["text"]))]
            case Shape.PAIR if sides:
                return [self._count(row[side]) for side in ("prompt", "completion")]
            case Shape.PAIR:
                return [self._count(self._closed(row["prompt"] + row["completion"]))]
            case Shape.PREFERENCE:
                read = row["input"]
                return [
                    self._chat([*read["messages"], *row[answer]], read.get("tools"))
                    for answer in ("preferred_output", "non_preferred_output")
                ]

    def _chat(self, messages: Sequence[_Message], tools: Any) -> int:
        given = [_for_template(message) for message in messages]
        if self._template is not None:
            try:
                text = self._template.render(
                    messages=given, tools=tools or None, add_generation_prompt=False,
                    **self._special,
                )  # fmt: skip
                return self._count(text, special=False)
            except Exception:  # a template is foreign code: it raises whatever it likes
                pass
        return sum(self._count(str(message.get("content", "")), special=False) for message in given)

    def _count(self, text: str, *, special: bool = True) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def _closed(self, text: str) -> str:
        end = self._special.get("eos_token", "")
        return text if text.endswith(end) else text + end


def _for_template(message: _Message) -> dict[str, Any]:
    """Return a message of OpenAI's form as chat templates are written for; see `run.rows`."""
    given = {key: value for key, value in message.items() if value not in (None, [])}
    if given.get("role") == "developer":
        given["role"] = "system"
    if "tool_calls" in given:
        given["tool_calls"] = [_call(call) for call in given["tool_calls"]]
    return given


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = call["function"].get("arguments") or "{}"
    read = json.loads(arguments) if isinstance(arguments, str) else arguments
    return {**call, "function": {**call["function"], "arguments": read}}


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant wrote; text passes as is."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    # The settings that chat templates are written for (those of transformers).
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.globals["raise_exception"] = _refuse
    environment.filters["tojson"] = _tojson
    return environment


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _source(config: Mapping[str, Any]) -> str | None:
    template = config.get("chat_template")
    if isinstance(template, list):
        named: Iterable[Mapping[str, str]] = template
        template = {item["name"]: item["template"] for item in named}.get("default")
    return template if isinstance(template, str) else None


def _text(value: object) -> str | None:
    """The text of a special token, which some configurations wrap in an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
