"""The servers that are compared: ours, and vLLM's with and without adapters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.inference.client import Door
from benchmarks.inference.engine import CONTEXT
from benchmarks.inference.environments import ROOT, VLLM
from benchmarks.inference.scale import ADAPTERS, ENGINE_THREADS, RANK
from tests.support.real_vllm import await_server, free_port

_TYPES = {"fp32": "float32", "bf16": "bfloat16"}
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@contextmanager
def luthier(folder: Path, model: Path, adapters: Sequence[Path], precision: str) -> Iterator[Door]:
    """Run gateway, inference service and engine, with all adapters registered."""
    folder.mkdir()
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.inference.stack", precision]
            + [str(path) for path in (folder, model, *adapters)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"our servers did not start:\n{log.read_text()[-4000:]}")
        yield Door(**json.loads(line))
    finally:
        process.communicate()


class Vllm:
    """A vLLM server that stands still unless it is asked: its scheduler spins, even idle."""

    def __init__(self, process: subprocess.Popen[bytes], door: Door) -> None:
        self._process = process
        self.door = door

    @contextmanager
    def awake(self) -> Iterator[Door]:
        """Let it run for a while."""
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            yield self.door
        finally:
            self.stop()

    def stop(self) -> None:
        """Have it stand still."""
        os.killpg(self._process.pid, signal.SIGSTOP)


@contextmanager
def vllm(folder: Path, model: Path, adapters: Sequence[Path], precision: str) -> Iterator[Vllm]:
    """Run vLLM; without adapters it is started without any support of them."""
    folder.mkdir()
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    command = [
        str(VLLM.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", "bench", "--host", "127.0.0.1", "--port", str(port),
        "--dtype", _TYPES[precision], "--max-model-len", str(CONTEXT),
    ]  # fmt: skip
    if precision == "fp32":
        command += ["--enforce-eager"]  # asked once; to compile takes longer than the answers
    if adapters:
        command += ["--enable-lora", "--max-loras", str(ADAPTERS), "--max-lora-rank", str(RANK)]
        command += ["--max-cpu-loras", "64", "--lora-modules"]
        command += [f"{path.name}={path}" for path in adapters]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | _OFFLINE | vllm_environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        await_server(process, url, log)
        server = Vllm(process, Door(url, "none", "bench", [path.name for path in adapters]))
        server.stop()
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def vllm_environment() -> dict[str, str]:
    """Return vLLM's settings: as many threads as our engine has, each on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))[-ENGINE_THREADS:]
    return {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_NO_USAGE_STATS": "1",
    }
