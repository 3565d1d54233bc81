"""A model that writes by a script, for stand-ins of engines: every token is a byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_inference.digests import adapter_digest, base_model_digest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from tests.support.safetensors_files import Part, tensor_file

CONTEXT = 512
END = 0
END_TEXT = "<|end|>"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
LAYER = "model.layers.0.self_attn.q_proj"
LORA = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj"],
    "bias": "none",
    "task_type": "CAUSAL_LM",
}


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer with a token for each byte, and one that ends answers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([END_TEXT, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_TEXT])
    return tokenizer


class ScriptedStore:
    """A store with a base model of one layer, and adapters for it."""

    def __init__(self, folder: Path) -> None:
        self.blobs = Blobs(DirectoryObjects(folder / "objects"))

    async def base(
        self, name: str = "scripted", *, template: str = TEMPLATE, adds_start: bool = False
    ) -> BaseModel:
        """Store a base model and return its record; its tokenizer may add a token in front."""
        config = {"chat_template": template, "bos_token": END_TEXT, "name": name}
        tokenizer = byte_tokenizer()
        if adds_start:
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{END_TEXT} $A", special_tokens=[(END_TEXT, END)]
            )
        contents = {
            "tokenizer.json": tokenizer.to_str().encode(),
            "tokenizer_config.json": json.dumps(config).encode(),
            "model.safetensors": tensor_file({f"{LAYER}.weight": Part((8, 8))}),
        }
        files = [await self._file("library", path, data) for path, data in contents.items()]
        return BaseModel(
            name=f"projects/library/baseModels/{name}",
            files=files,
            digest=base_model_digest(files),
            tokenizer_digest=files[0].sha256,
            architecture="LlamaForCausalLM",
            context_tokens=CONTEXT,
            has_chat_template=True,
        )

    async def adapter(
        self, base: BaseModel, name: str = "a", *, probe: bool = False, **config: object
    ) -> Adapter:
        """Store an adapter, with a probe or without one, and return its record."""
        contents = {
            "adapter_config.json": json.dumps(LORA | config).encode(),
            "adapter_model.safetensors": f"weights of {name}".encode(),
        }
        if probe:
            contents["probe.json"] = b"what the script makes of it is said there"
        adapter = Adapter(
            name=f"projects/acme/adapters/{name}",
            base_model=base.name,
            base_model_digest=base.digest,
            tokenizer_digest=base.tokenizer_digest,
            dataset_digest="d" * 64,
            training_job="projects/acme/trainingJobs/ftjob-1",
            files=[await self._file("acme", path, data) for path, data in contents.items()],
        )
        adapter.digest = adapter_digest(adapter)
        return adapter

    async def _file(self, project: str, path: str, data: bytes) -> ModelFile:
        blob = await self.blobs.put_bytes(project, data)
        return ModelFile(path=path, sha256=blob.sha256, size_bytes=blob.size)


@dataclass
class Script:
    """What the model does. It writes `{who}: {last line it was told}`, who being a digest.

    `full` and `broken` are of the next call; while `open` is clear, calls wait after `pieces`
    tokens. `left` counts calls that were given up by their callers.
    """

    full: bool = False
    broken: bool = False
    open: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: int = 0
    asked: int = 0
    running: int = 0
    left: int = 0
    seeds: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.set()

    def answer(self, prompt: str, who: str) -> bytes:
        """Return what is written to a prompt, until the limit."""
        lines = [line for line in prompt.splitlines() if line and line != "assistant: "]
        return f"{who[:8] or 'base'}: {lines[-1].removeprefix('user: ')}".encode()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Count a call."""
        self.asked += 1
        self.running += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise
        finally:
            self.running -= 1

    async def write(
        self, prompt: str, who: str, *, limit: int, stops: list[str]
    ) -> AsyncIterator[tuple[bytes, str]]:
        """Yield tokens' bytes, each with the reason if it is the last: the stop text is written."""
        written = b""
        answer = self.answer(prompt, who)
        for number, byte in enumerate(answer):
            if number == self.pieces:
                await self.open.wait()
            written += bytes([byte])
            stopped = any(written.endswith(stop.encode()) for stop in stops)
            reason = "stop" if stopped else "length" if number + 1 == limit else ""
            yield bytes([byte]), reason
            if reason:
                return
            await asyncio.sleep(0)
        yield b"", "end"
