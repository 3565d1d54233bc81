"""`luthier up` as a user runs it: a process of its own, reached through connection.json."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import openai
import psutil
from openai import OpenAI

T = TypeVar("T")
LUTHIER = str(Path(sys.executable).with_name("luthier"))
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0


class LuthierUp:
    """A platform that is up."""

    def __init__(self, process: subprocess.Popen[str], data: Path) -> None:
        self.process = process
        self.data = data
        self.connection = json.loads((data / "connection.json").read_text())
        self.client = OpenAI(
            base_url=self.connection["rest"],
            api_key=self.connection["api_key"],
            max_retries=5,
            timeout=120,
        )

    @property
    def model(self) -> str:
        """The starter model's name."""
        return str(self.connection["models"][0])

    def kill(self, part: str) -> int:
        """Kill a process and return its pid, once it is gone."""
        process = until(lambda: self._matching(part), 60)[0]
        process.kill()
        psutil.wait_procs([process], timeout=10)
        return process.pid

    def _matching(self, part: str) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                command = child.cmdline()
            except psutil.NoSuchProcess:
                continue
            # Exactly: the trainer is not its run, nor the inference service its engine.
            if any(word == part or word.endswith("/" + part) for word in command):
                found.append(child)
        return found

    def ask(self, model: str, question: str) -> str:
        """Return a model's answer."""
        answer = self.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=32,
        )
        return answer.choices[0].message.content or ""

    def stop(self) -> int:
        """End it as Ctrl-C does and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_STOP_SECONDS)


def run_luthier(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a `luthier` command to its end."""
    return subprocess.run(
        [LUTHIER, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


@contextmanager
def luthier_up(data: Path, *options: str) -> Iterator[LuthierUp]:
    """Start a platform in a data directory, and end it if it has not ended."""
    log = data.with_suffix(".out")
    arguments = ["up", "--data-dir", str(data), "--rest-port", "0", "--grpc-port", "0", *options]
    with log.open("a") as output:
        process = subprocess.Popen(
            [LUTHIER, *arguments], stdout=output, stderr=subprocess.STDOUT, text=True
        )
    try:
        until(
            lambda: process.poll() is not None or (data / "connection.json").exists(),
            _START_SECONDS,
        )
        assert process.poll() is None, log.read_text()
        yield LuthierUp(process, data)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(check: Callable[[], T], seconds: float = 60.0) -> T:
    """Return the first truthy result of `check`; errors of a platform in repair mean not yet."""
    deadline = time.monotonic() + seconds
    while True:
        problem: Exception | None = None
        try:
            if found := check():
                return found
        except (openai.APIError, psutil.NoSuchProcess) as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {seconds} s") from problem
        time.sleep(0.1)
