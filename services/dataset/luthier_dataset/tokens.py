"""Counts tokens as the base model sees them: its tokenizer and its chat template, without torch.

The template is code from a model's files, so it runs in Jinja's sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from luthier_common.errors import FailedPrecondition
from tokenizers import Tokenizer

from luthier_dataset.rows import ChatMessage

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
FILES = (TOKENIZER, CONFIG, TEMPLATE)
"""The files of a base model that counting needs, as far as they are there."""


class TokenCounter:
    """The tokenizer and chat template of one base model."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files`: those of FILES that the model has; FailedPrecondition if they do not do."""
        config: dict[str, Any] = _json(files.get(CONFIG, b"{}"))
        source = files[TEMPLATE].decode() if TEMPLATE in files else _template(config)
        try:
            self._tokenizer = Tokenizer.from_str(files[TOKENIZER].decode())
            self._template = _environment().from_string(source)
        except KeyError as error:
            raise _unusable(f"has no {TOKENIZER}") from error
        except Exception as error:
            # The tokenizers library raises bare Exception; Jinja a tree of its own.
            raise _unusable(f"has an unreadable tokenizer or chat template ({error})") from error
        self._special = {
            key: value for key in ("bos_token", "eos_token", "pad_token", "unk_token")
            if (value := _token(config.get(key))) is not None
        }  # fmt: skip

    def count(self, text: str) -> int:
        """Return the tokens of a bare text, no special tokens added."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def count_row(self, messages: Sequence[ChatMessage]) -> int:
        """Return the tokens of a conversation, chat template applied."""
        return self.count(self.render(messages))

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return a conversation as the model reads it; FailedPrecondition if it refuses."""
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=False, **self._special
            )
        except Exception as error:
            # A template is foreign code: it raises whatever it likes.
            raise _unusable(f"has a chat template that refuses a row ({error})") from error


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
    environment.globals["raise_exception"] = _raise
    environment.filters["tojson"] = _tojson
    return environment


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _template(config: Mapping[str, Any]) -> str:
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {item["name"]: item["template"] for item in template}
        template = named.get("default")
    if not isinstance(template, str):
        raise _unusable("has no chat template")
    return template


def _token(value: object) -> str | None:
    """The text of a special token, which some configurations wrap in an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise _unusable(f"has an unreadable {CONFIG}") from error
    return found if isinstance(found, dict) else {}


def _unusable(what: str) -> FailedPrecondition:
    return FailedPrecondition(f"the base model {what}", reason="BASE_MODEL_UNUSABLE")
