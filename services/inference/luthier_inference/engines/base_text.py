"""A base model's tokenizer and chat template, for engines that are given prompts; without torch.

The template is code from a model's files, so it runs in Jinja's sandbox, with what transformers
gives to templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.generation_pb2 import ChatMessage
from luthier_common.errors import FailedPrecondition, InvalidArgument
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs
from tokenizers import Tokenizer

from luthier_inference.model_facts import TEMPLATE, TOKENIZER, TOKENIZER_CONFIG
from luthier_inference.snapshots import TEXT_LIMIT

_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's


class BaseText:
    """What one base model makes of conversations, texts and tokens."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files` by path; FailedPrecondition if they do not do."""
        try:
            config = json.loads(files.get(TOKENIZER_CONFIG, b"{}"))
            self._tokenizer = Tokenizer.from_str(files[TOKENIZER].decode())
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            source = files[TEMPLATE].decode() if TEMPLATE in files else _source(config)
            self._template = _environment().from_string(source) if source else None
            self._byte_level = '"ByteLevel"' in json.dumps(
                json.loads(files[TOKENIZER]).get("decoder")
            )
        except Exception as error:
            # The tokenizers library raises bare Exception; Jinja a tree of its own.
            raise FailedPrecondition(
                f"the base model has no usable {TOKENIZER} or chat template ({error})",
                reason="BASE_MODEL_UNUSABLE",
            ) from error
        self._special = {
            key: text for key in _SPECIAL if (text := _text(config.get(key))) is not None
        }

    def prompt(self, messages: Sequence[ChatMessage]) -> str:
        """Return a conversation as the template writes it; InvalidArgument when it refuses."""
        if self._template is None:
            raise FailedPrecondition(
                "the base model has no chat template", reason="CHAT_TEMPLATE_MISSING", field="model"
            )
        given = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(
                messages=given, tools=None, add_generation_prompt=True, **self._special
            )
        except Exception as error:  # a template is foreign code: it raises whatever it likes
            raise InvalidArgument(
                f"the model's chat template refuses the messages: {error}",
                reason="CHAT_TEMPLATE_REFUSED",
                field="messages",
            ) from error

    def tokens(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of a text, with those that the tokenizer adds if `special`."""
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return tokens

    def without_start(self, prompt: str) -> str:
        """Return a prompt without the start token that a server's tokenizer puts before it."""
        return prompt.removeprefix(self._special.get("bos_token", ""))

    def token_bytes(self, token: int) -> bytes:
        """Return what a token writes; characters may be parted between tokens."""
        text = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if self._byte_level and all(character in _BYTES for character in text):
            return bytes(_BYTES[character] for character in text)
        byte = _BYTE.fullmatch(text)
        if byte is not None:
            return bytes([int(byte[1], 16)])
        return str(text).replace(_SPACE, " ").encode()


async def read_base_text(blobs: Blobs, base: BaseModel) -> BaseText:
    """Read it from the store; DataLoss when bytes are missing or damaged."""
    wanted = {TOKENIZER, TOKENIZER_CONFIG, TEMPLATE}
    project = project_of(base.name)
    files = {
        file.path: await blobs.read(project, file.sha256, max_bytes=TEXT_LIMIT)
        for file in base.files
        if file.path in wanted
    }
    return BaseText(files)


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (GPT-2)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    alphabet = {chr(byte): byte for byte in visible}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_alphabet()


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
