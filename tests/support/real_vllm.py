"""A real vLLM server in its own environment (`make test-vllm` installs it), with real adapters."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_inference.digests import adapter_digest, base_model_digest
from luthier_inference.engines.adapter_folders import AdapterFolders
from luthier_inference.engines.configuration import VllmEngines
from luthier_inference.engines.vllm import VllmEngine, connect_vllm
from luthier_inference.importer import import_base_model

from tests.support.tiny_model import save_adapter

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
STARTER = ROOT / "models" / "starter"
CONTEXT = 512
_START_SECONDS = 300.0
_SEEDS = (4, 6)  # of adapters that write long answers
_RUNNING = re.compile(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\d+)", re.MULTILINE)


class RealVllm:
    """A running server, the base model that it serves, and adapters for it."""

    def __init__(
        self, folder: Path, url: str, process: subprocess.Popen[bytes], saved: list[Path]
    ) -> None:
        self.url = url
        self.folder = folder
        self.process = process
        self.blobs = Blobs(DirectoryObjects(folder / "objects"))
        self.saved = saved
        self.base = BaseModel()
        self.adapters: list[Adapter] = []

    async def store(self) -> None:
        """Put the models into the store, as the registry has them."""
        base = await import_base_model(STARTER, self.blobs, "library")
        base.name = "projects/library/baseModels/starter"
        base.digest = base_model_digest(base.files)
        base.architecture, base.context_tokens = "LlamaForCausalLM", CONTEXT
        (tokenizer,) = (file for file in base.files if file.path == "tokenizer.json")
        base.tokenizer_digest = tokenizer.sha256
        base.has_chat_template = True
        self.base = base
        self.adapters = [await self.adapter(folder) for folder in self.saved]

    async def adapter(self, folder: Path) -> Adapter:
        """Store what peft has saved and return its record."""
        stored = await import_files(self.blobs, folder)
        adapter = Adapter(
            name=f"projects/acme/adapters/{folder.name}",
            base_model=self.base.name,
            base_model_digest=self.base.digest,
            tokenizer_digest=self.base.tokenizer_digest,
            dataset_digest="d" * 64,
            training_job="projects/acme/trainingJobs/ftjob-1",
            files=stored,
        )
        adapter.digest = adapter_digest(adapter)
        return adapter

    async def connect(self, **changes: object) -> VllmEngine:
        """Return the engine, as the router has it."""
        if not self.adapters:
            await self.store()
        given = {"kind": "vllm", "urls": [self.url], "model": str(STARTER)} | changes
        config = VllmEngines.model_validate(given)
        folders = AdapterFolders(self.blobs, self.folder / "adapters")
        return await connect_vllm(self.base, self.url, config, self.blobs, folders)

    async def running(self) -> int:
        """Return how many requests it works at."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"{self.url}/metrics")).text
        found = _RUNNING.findall(text)
        assert found, "vLLM tells how many requests run"
        return sum(map(int, found))

    def kill(self) -> None:
        """Kill it, and the processes that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


async def import_files(blobs: Blobs, folder: Path) -> list[ModelFile]:
    files = []
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        blob = await blobs.put_file("acme", folder / name)
        files.append(ModelFile(path=name, sha256=blob.sha256, size_bytes=blob.size))
    return files


@contextmanager
def real_vllm(folder: Path) -> Iterator[RealVllm]:
    """Start a server in fp32 and wait until it answers; it takes a minute."""
    assert PYTHON.exists(), "make test-vllm installs vLLM first"
    saved = [save_adapter(folder / f"a{seed}", STARTER, seed=seed, rank=8) for seed in _SEEDS]
    process, url, log = start_server(folder)
    server = RealVllm(folder, url, process, saved)
    try:
        await_server(process, url, log)
        yield server
    finally:
        server.kill()


def start_server(folder: Path, port: int = 0) -> tuple[subprocess.Popen[bytes], str, Path]:
    """Start a server; it is not ready yet."""
    port = port or free_port()
    log = folder / f"vllm-{port}.log"
    command = [
        str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(STARTER),
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
        "--max-model-len", str(CONTEXT), "--enable-lora", "--max-loras", "4",
        "--max-lora-rank", "16", "--max-num-seqs", "16", "--enforce-eager",
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    ]  # fmt: skip
    environment = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    return process, f"http://127.0.0.1:{port}", log


def await_server(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until it answers; AssertionError with the end of its log if it does not."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/health", timeout=5, trust_env=False).is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"vLLM did not start:\n{log.read_text()[-3000:]}")


def free_port() -> int:
    """Return a port that is free now: vLLM does not say which one it has taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
