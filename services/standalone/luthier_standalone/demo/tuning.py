"""Step three and four: the fine-tuning job, by the unmodified OpenAI SDK."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import dataclass

from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.training_job_service_pb2 import GetTrainingJobRequest
from luthier_common.errors import FailedPrecondition
from openai import AsyncOpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from luthier_standalone.gateway import PROJECT, Gateway

_POLL_SECONDS = 0.5
_FINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The training loss at a step."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a job did, as its record and its result file say."""

    job_id: str
    model: str
    """The tuned model's public name."""
    steps: int
    trained_tokens: int
    trainable_parameters: int
    total_parameters: int
    quantized_layers: int
    """Layers held in NF4 with double quantization."""
    hyperparameters: dict[str, float]
    reasons: tuple[str, ...]
    """Why `auto` chose them."""
    losses: tuple[LossPoint, ...]

    @property
    def trainable_share(self) -> float:
        """Weights that were tuned, as a share of the base model's."""
        return self.trainable_parameters / self.total_parameters


async def create_job(client: AsyncOpenAI, model: str, file_id: str) -> FineTuningJob:
    """Start a supervised job with everything on `auto`."""
    return await client.fine_tuning.jobs.create(
        model=model,
        training_file=file_id,
        suffix="demo",
        seed=1,  # so that a machine shows the same figures every time
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "n_epochs": "auto",
                    "batch_size": "auto",
                    "learning_rate_multiplier": "auto",
                }
            },
        },
    )


async def follow(client: AsyncOpenAI, console: Console, job: FineTuningJob) -> FineTuningJob:
    """Show events and progress until the job ends; FailedPrecondition unless it succeeded."""
    shown: set[str] = set()
    with _progress(console) as progress:
        task = progress.add_task("waiting", total=None, figures="")
        while job.status not in _FINAL:
            await asyncio.sleep(_POLL_SECONDS)
            job = await client.fine_tuning.jobs.retrieve(job.id)
            for event in await _new_events(client, job.id, shown):
                if event.type == "metrics":
                    _show(progress, task, event)
                else:
                    console.print(f"  {event.message}")
    if job.status != "succeeded":
        reason = job.error.message if job.error else "no reason given"
        raise FailedPrecondition(f"the job {job.status}: {reason}", reason="JOB_FAILED")
    return job


async def _new_events(
    client: AsyncOpenAI, job_id: str, shown: set[str]
) -> list[FineTuningJobEvent]:
    """Events not yet shown, oldest first; the API lists the newest first."""
    fresh: list[FineTuningJobEvent] = []
    async for event in client.fine_tuning.jobs.list_events(job_id, limit=50):
        if event.id in shown:
            break
        fresh.append(event)
    shown.update(event.id for event in fresh)
    return fresh[::-1]


def _show(progress: Progress, task: TaskID, event: FineTuningJobEvent) -> None:
    data = event.data if isinstance(event.data, dict) else {}
    figures = (
        f"loss {data.get('train_loss', 0):.3f}  "
        f"{data.get('tokens_per_second', 0):,.0f} tokens/s  "
        f"{data.get('seconds_left', 0):.0f} s left"
    )
    progress.update(
        task,
        description="tuning",
        completed=data.get("step", 0),
        total=data.get("total_steps"),
        figures=figures,
    )


async def outcome(client: AsyncOpenAI, gateway: Gateway, job: FineTuningJob) -> Tuning:
    """Read what a succeeded job did."""
    name = f"projects/{PROJECT}/trainingJobs/{job.id}"
    record = await gateway.jobs.GetTrainingJob(GetTrainingJobRequest(name=name))
    metrics = await client.files.content(job.result_files[0])
    losses = read_losses(metrics.text)
    return Tuning(
        job_id=job.id,
        model=job.fine_tuned_model or "",
        steps=losses[-1].step,
        trained_tokens=record.result.trained_tokens,
        trainable_parameters=record.result.trainable_parameters,
        total_parameters=record.result.total_parameters,
        quantized_layers=record.result.quantized_layers,
        hyperparameters=_hyperparameters(record),
        reasons=tuple(record.resolved_hyperparameters.reasons),
        losses=losses,
    )


def read_losses(text: str) -> tuple[LossPoint, ...]:
    """Return the curve from the result file; FailedPrecondition if it holds none."""
    rows = csv.DictReader(io.StringIO(text))
    points = tuple(
        LossPoint(int(row["step"]), float(row["train_loss"])) for row in rows if row["train_loss"]
    )
    if not points:
        raise FailedPrecondition("the job's result file is empty", reason="EMPTY_RESULT")
    return points


def _hyperparameters(record: TrainingJob) -> dict[str, float]:
    chosen = record.resolved_hyperparameters
    return {
        "epochs": chosen.epoch_count,
        "batch_size": chosen.batch_size,
        "learning_rate": chosen.learning_rate,
        "lora_rank": chosen.lora_rank,
        "lora_alpha": chosen.lora_alpha,
        "retain_share": chosen.retain_share,
    }


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        TextColumn("step {task.completed:.0f}/{task.total}  {task.fields[figures]}"),
        console=console,
    )
