"""What the platform adds around the steps of a job, through OpenAI's client."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets.measuring import Measurement
from benchmarks.trainer.racing import Scale
from tests.support.luthier_up import LuthierUp, luthier_up, until

_SECONDS = 300.0
_ROWS = 24
_STEPS = 6


@dataclass(frozen=True)
class Spans:
    """Seconds of one job."""

    to_first_step: float
    """From the request until the figures of a step can be read."""
    to_served: float
    """From when the last step's can be read until the tuned model has answered."""


def measure(scale: Scale, folder: Path) -> Measurement:
    """See the package's README."""
    with luthier_up(folder / "data") as platform:
        jobs = [_job(platform, number) for number in range(scale.jobs)]
    imports = _import_seconds()
    first = statistics.median(job.to_first_step for job in jobs)
    served = statistics.median(job.to_served for job in jobs)
    notes = [
        f"Job overhead with the starter model, median of {len(jobs)} jobs: {first:.1f} s from the "
        f"request to the first step's figures, {served:.1f} s from the last step's to the tuned "
        f"model's first answer. Of the former, the imports of a run (torch and its family) take "
        f"{imports:.1f} s by themselves. A run tells its figures once a second."
    ]
    details = {"jobs": [vars(job) for job in jobs], "import_seconds": imports}
    return Measurement([], notes, details)


def _job(platform: LuthierUp, number: int) -> Spans:
    client = platform.client
    file = client.files.create(file=("rows.jsonl", _rows(number)), purpose="fine-tune")
    begun = time.perf_counter()
    job = client.fine_tuning.jobs.create(
        model=platform.model,
        training_file=file.id,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": _STEPS * 8 // _ROWS, "batch_size": 8}},
        },
    )
    until(lambda: _step(platform, job.id), _SECONDS)
    first = time.perf_counter()
    until(lambda: _step(platform, job.id) >= _STEPS, _SECONDS)
    last = time.perf_counter()

    def ended() -> Any:
        found = client.fine_tuning.jobs.retrieve(job.id)
        return found if found.finished_at else None

    done = until(ended, _SECONDS)
    if done.status != "succeeded":
        raise RuntimeError(f"the job has {done.status}: {done.error}")
    platform.ask(str(done.fine_tuned_model), "What is the code of item 3?")
    return Spans(first - begun, time.perf_counter() - last)


def _step(platform: LuthierUp, job: str) -> int:
    """Return the newest step whose figures can be read; 0 before there are any."""
    events = platform.client.fine_tuning.jobs.list_events(job, limit=100)
    steps = [event.data.get("step", 0) for event in events if isinstance(event.data, dict)]
    return int(max(steps, default=0))


def _rows(number: int) -> bytes:
    """Return the rows of a job; other ones for each, so that nothing of the one before is used."""
    talks = [
        {
            "messages": [
                {"role": "user", "content": f"What is the code of item {row}?"},
                {"role": "assistant", "content": f"{(row * 37 + number) % 97}"},
            ]
        }
        for row in range(_ROWS)
    ]
    return "".join(json.dumps(talk) + "\n" for talk in talks).encode()


def _import_seconds() -> float:
    """Return how long a run's imports take, in a process of their own."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import luthier_trainer.run.app"], check=True)
    return time.perf_counter() - start
