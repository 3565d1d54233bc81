"""Training jobs, their events and checkpoints as OpenAI shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from luthier.trainer.v1 import training_job_pb2, tuning_pb2
from luthier_common.names import id_of, project_of
from luthier_common.plain import complete, shown

from luthier_gateway.openai.errors import job_error
from luthier_gateway.openai.job_request import PUBLIC_NAMES
from luthier_gateway.openai.names import checkpoint_id, event_id, model_of_job, tuned_model

_Job = training_job_pb2.TrainingJob

_STATUSES = {
    _Job.VALIDATING: "validating_files",
    _Job.QUEUED: "queued",
    _Job.RUNNING: "running",
    _Job.CANCELLING: "running",
    _Job.PAUSING: "pausing",
    _Job.PAUSED: "paused",
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
_ZEROES: dict[str, Any] = {
    "retain_share": 0.0,
    "lora_dropout": 0.0,
    "double_quantization": False,
    "gradient_checkpointing": False,
    "packing": False,
    "length_buckets": False,
}
"""What a run that does without is told nothing of; any other silence leaves it to the run."""
_OF_LORA = ("lora_rank", "lora_alpha", "lora_dropout", "target_modules", "double_quantization")
_CHECKPOINT_METRICS = (
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)


def to_job(job: _Job, models: Mapping[str, str]) -> dict[str, Any]:
    """Return a job as OpenAI shows it, and what we tell besides; `models` names start adapters."""
    method = "dpo" if job.HasField("preference") else "supervised"
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
        "method": {"type": method, method: {"hyperparameters": values}},
        "model": id_of(job.base_model),
        "organization_id": project_of(job.name),
        "result_files": [id_of(name) for name in job.result_files],
        "seed": job.seed,
        "status": _STATUSES.get(job.state, "queued"),
        "trained_tokens": job.result.trained_tokens if succeeded else None,
        "training_file": id_of(job.training_file),
        "validation_file": id_of(job.validation_file) or None,
        "integrations": [],
        "metadata": dict(job.metadata),
    } | _extension(job, models)


def to_preflight(job: _Job, models: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of a job that was only checked: it could be created."""
    checked = {"id": None, "object": "fine_tuning.job.preflight", "status": "valid"}
    return to_job(job, models) | checked | {"created_at": None}


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
    """Return the models that a job has published, newest first: its result, then its snapshots."""
    snapshots = [
        _checkpoint(
            job,
            checkpoint_id(job.name, one.step),
            tuned_model(job.base_model, job.suffix, one.adapter),
            one.step,
            one.create_time,
            one.metrics,
        )
        for one in sorted(job.checkpoints, key=lambda one: one.step, reverse=True)
    ]
    model = model_of_job(job)
    if job.state != _Job.SUCCEEDED or model is None:
        return snapshots
    step = job.result.best_step or job.progress.total_steps or job.progress.step
    figures = {"train_loss": job.progress.loss, **job.result.metrics}
    result = _checkpoint(job, checkpoint_id(job.name), model, step, job.end_time, figures)
    return [result, *snapshots]


def _checkpoint(
    job: _Job, public_id: str, model: str, step: int, made: Timestamp, figures: Mapping[str, float]
) -> dict[str, Any]:
    # Every judgement reads the whole validation file.
    shown = {
        name: figures.get(name.removeprefix("full_"), math.nan) for name in _CHECKPOINT_METRICS
    }
    known = {name: value for name, value in shown.items() if math.isfinite(value)}
    return {
        "id": public_id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": made.seconds,
        "fine_tuned_model_checkpoint": model,
        "fine_tuning_job_id": id_of(job.name),
        "step_number": step,
        "metrics": {"step": step, **known},
    }


def _extension(job: _Job, models: Mapping[str, str]) -> dict[str, Any]:
    """Return what OpenAI's job does not have."""
    return {
        "training_dataset": id_of(job.training_dataset) or None,
        "regression_file": id_of(job.regression_file) or None,
        "start_model": models[job.start_adapter] if job.start_adapter else None,
        "priority": job.priority,
        "queue_position": job.queue_position or None,
        "estimated_start": job.estimated_start_time.seconds or None,
        "progress": _figures(job.progress) if job.HasField("progress") else None,
        "gate": shown(job.gate) if job.HasField("gate") else None,
        "gate_failure": job.gate_failure or None,
        "learning_rate": job.resolved_hyperparameters.learning_rate or None,
        "result_metrics": _result_metrics(job),
        "auto_reasons": list(job.resolved_hyperparameters.reasons),
        "preflight": complete(job.preflight) if job.HasField("preflight") else None,
    }


def _result_metrics(job: _Job) -> dict[str, float] | None:
    return {
        name: value for name, value in sorted(job.result.metrics.items()) if math.isfinite(value)
    } or None


def _hyperparameters(job: _Job) -> dict[str, Any]:
    """What a run uses once it is known; before, what was given, `auto` for the rest."""
    spec = job.preference if job.HasField("preference") else job.supervised
    resolved = job.HasField("resolved_hyperparameters")
    told = shown(job.resolved_hyperparameters if resolved else spec.hyperparameters)
    if resolved:
        told = _ZEROES | told
    elif job.HasField("preference"):
        told |= shown(job.preference)
    left_out = _OF_LORA if told.get("tuning_mode") == "full" else ()
    names = list(tuning_pb2.Hyperparameters.DESCRIPTOR.fields_by_name)
    if job.HasField("preference"):
        names.append("beta")
    return {
        PUBLIC_NAMES.get(name, name): told.get(name, "auto")
        for name in names
        if name not in left_out
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
        "peak_memory_bytes": progress.peak_memory_bytes or None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN
