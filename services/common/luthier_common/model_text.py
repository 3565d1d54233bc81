"""A model's tokenizer and chat template, read from its files; without torch.

The template is code from a model's files, so it runs in Jinja's sandbox, with the settings and
functions that chat templates are written for (those of transformers).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from luthier_common.errors import FailedPrecondition

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
FILES = frozenset({TOKENIZER, TOKENIZER_CONFIG, TEMPLATE})
"""What is read of a model, as far as it is there."""
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


class ModelText:
    """What one model makes of texts and conversations."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files`: those of FILES that the model has; FailedPrecondition if they do not do."""
        try:
            config = json.loads(files.get(TOKENIZER_CONFIG, b"{}"))
            self.tokenizer = Tokenizer.from_str(files[TOKENIZER].decode())
            self.tokenizer.no_truncation()
            self.tokenizer.no_padding()
            source = files[TEMPLATE].decode() if TEMPLATE in files else _source(config)
            self._template = _environment().from_string(source) if source else None
        except Exception as error:
            # The tokenizers library raises bare Exception; Jinja a tree of its own.
            raise FailedPrecondition(
                f"the base model has no usable {TOKENIZER} or chat template ({error})",
                reason="BASE_MODEL_UNUSABLE",
            ) from error
        self.special: dict[str, str] = {
            key: text for key in _SPECIAL if (text := _text(config.get(key))) is not None
        }
        """Special tokens by transformers' names, such as `eos_token`."""

    @property
    def has_template(self) -> bool:
        """Whether it has a chat template."""
        return self._template is not None

    def tokens(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of a text, with those that the tokenizer adds if `special`."""
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=special).ids
        return tokens

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Any = None, *, answer: bool
    ) -> str:
        """Return a conversation as the template writes it; `answer` adds an answer's beginning.

        FailedPrecondition without a template. A template is foreign code: it raises whatever it
        likes.
        """
        if self._template is None:
            raise FailedPrecondition(
                "the base model has no chat template", reason="CHAT_TEMPLATE_MISSING", field="model"
            )
        return self._template.render(
            messages=messages, tools=tools or None, add_generation_prompt=answer, **self.special
        )


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant wrote; text passes as is."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
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
