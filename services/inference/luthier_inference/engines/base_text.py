"""A base model's tokenizer and chat template, for engines that are given prompts; without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.generation_pb2 import ChatMessage
from luthier_common.errors import InvalidArgument, PlatformError
from luthier_common.model_text import FILES, TOKENIZER, ModelText
from luthier_common.names import project_of
from luthier_common.objects.blobs import Blobs

from luthier_inference.snapshots import TEXT_LIMIT

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's


class BaseText:
    """What one base model makes of conversations, texts and tokens."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files` by path; FailedPrecondition if they do not do."""
        self._text = ModelText(files)
        decoder = json.loads(files[TOKENIZER]).get("decoder")
        self._byte_level = '"ByteLevel"' in json.dumps(decoder)

    def prompt(self, messages: Sequence[ChatMessage]) -> str:
        """Return a conversation as the template writes it; InvalidArgument when it refuses."""
        given = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._text.render(given, answer=True)
        except PlatformError:
            raise
        except Exception as error:
            raise InvalidArgument(
                f"the model's chat template refuses the messages: {error}",
                reason="CHAT_TEMPLATE_REFUSED",
                field="messages",
            ) from error

    def tokens(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of a text, with those that the tokenizer adds if `special`."""
        return self._text.tokens(text, special=special)

    def without_start(self, prompt: str) -> str:
        """Return a prompt without the start token that a server's tokenizer puts before it."""
        return prompt.removeprefix(self._text.special.get("bos_token", ""))

    def token_bytes(self, token: int) -> bytes:
        """Return what a token writes; characters may be parted between tokens."""
        text = self._text.tokenizer.id_to_token(token)
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
    project = project_of(base.name)
    files = {
        file.path: await blobs.read(project, file.sha256, max_bytes=TEXT_LIMIT)
        for file in base.files
        if file.path in FILES
    }
    return BaseText(files)


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (GPT-2)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    alphabet = {chr(byte): byte for byte in visible}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_alphabet()
