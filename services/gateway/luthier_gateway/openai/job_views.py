"""Training jobs, their events and checkpoints as OpenAI shows them."""

from __future__ import annotations

import math
from typing import Any

from luthier.trainer.v1 import training_job_pb2
from luthier_common.names import id_of, project_of

from luthier_gateway.openai.errors import job_error
from luthier_gateway.openai.names import checkpoint_id, event_id, model_of_job

_Job = training_job_pb2.TrainingJob

_STATUSES = {
    _Job.VALIDATING: "validating_files",
    _Job.QUEUED: "queued",
    _Job.RUNNING: "running",
    _Job.CANCELLING: "running",
    _Job.SUCCEEDED: "succeeded",
    _Job.FAILED: "failed",
    _Job.CANCELLED: "cancelled",
}
_LEVELS = {
    training_job_pb2.TrainingJobEvent.INFO: "info",
    training_job_pb2.TrainingJobEvent.WARN: "warn",
    training_job_pb2.TrainingJobEvent.ERROR: "error",
}
_OPENAI_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
_OWN_HYPERPARAMETERS = ("lora_rank", "lora_alpha", "retain_share")


def to_job(job: _Job) -> dict[str, Any]:
    """Return a job as OpenAI shows it."""
    values = _hyperparameters(job)
    succeeded = job.state == _Job.SUCCEEDED
    return {
        "id": id_of(job.name),
        "object": "fine_tuning.job",
        "created_at": job.create_time.seconds,
        "finished_at": job.end_time.seconds or None,
        "estimated_finish": _estimated_finish(job),
        "error": job_error(job.error) if job.HasField("error") else None,
        "fine_tuned_model": model_of_job(job) if succeeded else None,
        "hyperparameters": {name: values[name] for name in _OPENAI_HYPERPARAMETERS},
        "method": {"type": "supervised", "supervised": {"hyperparameters": values}},
        "model": id_of(job.base_model),
        "organization_id": project_of(job.name),
        "result_files": [id_of(name) for name in job.result_files],
        "seed": job.seed,
        "status": _STATUSES.get(job.state, "queued"),
        "trained_tokens": job.result.trained_tokens if succeeded else None,
        "training_file": id_of(job.training_file),
        "validation_file": id_of(job.validation_file) or None,
        "training_dataset": id_of(job.training_dataset) or None,
        "integrations": [],
        "metadata": dict(job.metadata),
    }


def to_event(event: training_job_pb2.TrainingJobEvent) -> dict[str, Any]:
    """Return an event as OpenAI shows it; `data` holds the figures of a metrics event."""
    metrics = event.HasField("metrics")
    return {
        "id": event_id(event.name),
        "object": "fine_tuning.job.event",
        "created_at": event.create_time.seconds,
        "level": _LEVELS.get(event.level, "info"),
        "message": event.message,
        "type": "metrics" if metrics else "message",
        "data": _figures(event.metrics) if metrics else {},
    }


def to_checkpoints(job: _Job) -> list[dict[str, Any]]:
    """Return the checkpoints that can be asked: the published adapter of a job that succeeded."""
    model = model_of_job(job)
    if job.state != _Job.SUCCEEDED or model is None:
        return []
    step = job.progress.total_steps or job.progress.step
    figures = {"train_loss": job.progress.loss, **job.result.metrics}
    wanted = ("train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy")
    metrics = {name: _finite(figures[name]) for name in wanted if name in figures}
    return [
        {
            "id": checkpoint_id(job.name),
            "object": "fine_tuning.job.checkpoint",
            "created_at": job.end_time.seconds,
            "fine_tuned_model_checkpoint": model,
            "fine_tuning_job_id": id_of(job.name),
            "step_number": step,
            "metrics": {"step": step, **metrics},
        }
    ]


def _hyperparameters(job: _Job) -> dict[str, Any]:
    """What a run uses once it is known; before, what was given, `auto` for the rest."""
    fields = ("epoch_count", *_OPENAI_HYPERPARAMETERS[1:], *_OWN_HYPERPARAMETERS)
    names = (*_OPENAI_HYPERPARAMETERS, *_OWN_HYPERPARAMETERS)
    pairs = list(zip(names, fields, strict=True))
    if job.HasField("resolved_hyperparameters"):
        resolved = job.resolved_hyperparameters
        return {name: getattr(resolved, field) for name, field in pairs}
    given = job.supervised.hyperparameters
    return {
        name: getattr(given, field) if given.HasField(field) else "auto" for name, field in pairs
    }


def _estimated_finish(job: _Job) -> int | None:
    left = job.progress.seconds_left
    if job.state != _Job.RUNNING or not math.isfinite(left) or left <= 0:
        return None
    return int(job.update_time.seconds + left)


def _figures(progress: training_job_pb2.TrainingProgress) -> dict[str, float | int | None]:
    return {
        "step": progress.step,
        "total_steps": progress.total_steps,
        "epoch": _finite(progress.epoch),
        "train_loss": _finite(progress.loss),
        "train_mean_token_accuracy": _finite(progress.token_accuracy),
        "learning_rate": _finite(progress.learning_rate),
        "gradient_norm": _finite(progress.gradient_norm),
        "tokens_per_second": _finite(progress.tokens_per_second),
        "seconds_left": _finite(progress.seconds_left),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN
