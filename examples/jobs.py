"""What the examples share: a platform that is up, a job on pairs of texts, and its figures."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from luthier.trainer.v1.training_job_service_pb2 import GetTrainingJobRequest
from luthier.trainer.v1.training_job_service_pb2_grpc import TrainingJobServiceStub
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from rich.console import Console
from rich.table import Table

FIGURES = ("exact_match", "rouge1", "rouge2", "rougeL", "valid_loss", "perplexity")
"""Those of a job that are shown, before (`base_…`) and after tuning."""
_CONNECTION = Path(".luthier") / "connection.json"
_POLL_SECONDS = 0.5
_HELD_OUT = 10
"""One row of so many is judged by, and not learned."""

Pair = dict[str, str]
"""A row for a model without chat template: `prompt` and `completion`."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a platform listens, and the key that it knows."""

    base_url: str
    """Of the OpenAI API, such as `http://127.0.0.1:8080/v1`."""
    grpc: str
    """`host:port` of the gRPC API."""
    api_key: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every example takes: where the platform is, and the job's common settings."""
    parser.add_argument("--base-url", default=os.environ.get("OPENAI_BASE_URL"))
    parser.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY"))
    parser.add_argument("--grpc", default=os.environ.get("LUTHIER_GRPC"), help="HOST:PORT")
    parser.add_argument("--data", type=Path, help="JSON Lines of your own; every tenth is judged")
    parser.add_argument("--rows", type=int, default=400, help="rows to make, without --data")
    parser.add_argument("--epochs", type=int, help="passes over the rows")
    parser.add_argument(
        "--learning-rate-multiplier", type=float, help="factor on the rate that auto chooses"
    )


def connection(options: argparse.Namespace) -> Connection:
    """Return where the options point; without a base URL, the platform that is up in `.luthier`.

    SystemExit if there is none, or if the options leave out where to find another.
    """
    if options.base_url:
        if not (options.grpc and options.api_key):
            raise SystemExit("--base-url needs --grpc and --api-key beside it")
        return Connection(options.base_url, options.grpc, options.api_key)
    if not _CONNECTION.exists():
        raise SystemExit(
            f"{_CONNECTION} is not there: start a platform with `luthier up`, or give --base-url, "
            "--grpc and --api-key"
        )
    found = json.loads(_CONNECTION.read_text(encoding="utf-8"))
    return Connection(found["rest"], found["grpc"], found["api_key"])


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON Lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def tune(
    client: OpenAI,
    pairs: Sequence[Pair],
    hyperparameters: Mapping[str, Any],
    *,
    model: str,
    suffix: str,
) -> FineTuningJob:
    """Tune a model on nine tenths of the pairs and judge it by the rest; SystemExit if it fails.

    What is None among the hyperparameters is left to `auto`.
    """
    learned = [pair for number, pair in enumerate(pairs) if number % _HELD_OUT]
    given = {name: value for name, value in hyperparameters.items() if value is not None}
    # More of them than the SDK's types know.
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": given}}
    job = client.fine_tuning.jobs.create(
        model=model,
        training_file=_upload(client, "train.jsonl", learned),
        validation_file=_upload(client, "validation.jsonl", pairs[::_HELD_OUT]),
        suffix=suffix,
        seed=1,  # so that a machine shows the same figures every time
        method=method,
    )
    job = _ended(client, job)
    if job.status != "succeeded":
        raise SystemExit(f"the job {job.status}: {job.error.message if job.error else ''}")
    return job


def figures(where: Connection, job: FineTuningJob) -> dict[str, float]:
    """Return what a job measured, by name; `base_` stands before the figures of the untuned model.

    By gRPC: OpenAI's job has no place for them.
    """
    name = f"projects/{job.organization_id}/trainingJobs/{job.id}"
    with grpc.insecure_channel(where.grpc) as channel:
        record = TrainingJobServiceStub(channel).GetTrainingJob(
            GetTrainingJobRequest(name=name),
            metadata=(("authorization", f"Bearer {where.api_key}"),),
            timeout=60,
        )
    return dict(record.result.metrics)


def show(job: FineTuningJob, measured: Mapping[str, float]) -> None:
    """Print the tuned model's name, and the figures before and after."""
    console, table = Console(highlight=False), Table("figure", "before", "after")
    console.print(job.fine_tuned_model, soft_wrap=True)
    for name in FIGURES:
        if name in measured:
            table.add_row(name, f"{measured[f'base_{name}']:.3f}", f"{measured[name]:.3f}")
    console.print(table)


def _upload(client: OpenAI, name: str, pairs: Iterable[Pair]) -> str:
    lines = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    return client.files.create(file=(name, lines.encode()), purpose="fine-tune").id


def _ended(client: OpenAI, job: FineTuningJob) -> FineTuningJob:
    """Wait for a job's end, and print what happens, oldest first."""
    shown: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(job.id)
        fresh = []
        for event in client.fine_tuning.jobs.list_events(job.id, limit=50):
            if event.id in shown:
                break
            fresh.append(event)
        shown.update(event.id for event in fresh)
        for event in reversed(fresh):
            print(event.message)
        if job.finished_at:
            return job
        time.sleep(_POLL_SECONDS)
