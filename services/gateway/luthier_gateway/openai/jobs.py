"""`/v1/fine_tuning/jobs`: create, watch, pause, resume and cancel tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi import APIRouter, Request
from luthier.inference.v1 import base_model_pb2
from luthier.trainer.v1 import training_job_pb2, training_job_service_pb2

from luthier_gateway.openai import models
from luthier_gateway.openai.errors import invalid
from luthier_gateway.openai.job_request import JobRequest
from luthier_gateway.openai.job_views import to_checkpoints, to_event, to_job, to_preflight
from luthier_gateway.openai.names import JOBS, cursor, event_cursor, resource
from luthier_gateway.openai.pages import gather, page
from luthier_gateway.openai.tuned_names import public_names
from luthier_gateway.owners import Owners, caller_parent, caller_project
from luthier_gateway.requests import After, Limit, OwnersDependency

router = APIRouter(prefix="/fine_tuning/jobs")
_EXAMINATION_SECONDS = 300.0
"""The rows are read to the end before the answer."""


@router.post("")
async def create_job(body: JobRequest, owners: OwnersDependency) -> dict[str, Any]:
    """Create a job, which starts it, or only check it and tell what it will need."""
    base, start = await _beginning(owners, body.model)
    job = await owners.jobs.CreateTrainingJob(
        training_job_service_pb2.CreateTrainingJobRequest(
            parent=caller_parent(),
            training_job=body.to_proto(caller_project(), base, start),
            validate_only=body.validate_only,
        ),
        timeout=_EXAMINATION_SECONDS if body.validate_only else None,
    )
    if body.validate_only:
        return to_preflight(job, await public_names(owners, _start_adapters([job])))
    return await _shown(owners, job)


@router.get("")
async def list_jobs(
    request: Request, owners: OwnersDependency, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """List the project's jobs, newest first, perhaps only those with some metadata."""

    async def fetch(size: int, token: str) -> tuple[list[training_job_pb2.TrainingJob], str]:
        found = await owners.jobs.ListTrainingJobs(
            training_job_service_pb2.ListTrainingJobsRequest(
                parent=caller_parent(),
                page_size=size,
                page_token=token,
                after=cursor(caller_project(), JOBS, after),
            )
        )
        return list(found.training_jobs), found.next_page_token

    jobs, has_more = await gather(fetch, limit, keep=_metadata_filter(request))
    models = await public_names(owners, _start_adapters(jobs))
    return page([to_job(job, models) for job in jobs], has_more)


@router.get("/{job_id}")
async def retrieve_job(job_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Return a job."""
    return await _shown(owners, await _get(owners, job_id))


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Ask a job to end; the body, if any, says nothing."""
    name = resource(caller_project(), JOBS, job_id)
    request = training_job_service_pb2.CancelTrainingJobRequest(name=name)
    return await _shown(owners, await owners.jobs.CancelTrainingJob(request))


@router.post("/{job_id}/pause")
async def pause_job(job_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Ask a job to save its state and rest; the body, if any, says nothing."""
    name = resource(caller_project(), JOBS, job_id)
    request = training_job_service_pb2.PauseTrainingJobRequest(name=name)
    return await _shown(owners, await owners.jobs.PauseTrainingJob(request))


@router.post("/{job_id}/resume")
async def resume_job(job_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Have a paused job go on from where it was; the body, if any, says nothing."""
    name = resource(caller_project(), JOBS, job_id)
    request = training_job_service_pb2.ResumeTrainingJobRequest(name=name)
    return await _shown(owners, await owners.jobs.ResumeTrainingJob(request))


@router.get("/{job_id}/events")
async def list_events(
    job_id: str, owners: OwnersDependency, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """List what happened to a job, newest first."""
    name = resource(caller_project(), JOBS, job_id)
    position = event_cursor(name, after)

    async def fetch(size: int, token: str) -> tuple[list[training_job_pb2.TrainingJobEvent], str]:
        found = await owners.jobs.ListTrainingJobEvents(
            training_job_service_pb2.ListTrainingJobEventsRequest(
                parent=name, page_size=size, page_token=token, after=position
            )
        )
        return list(found.training_job_events), found.next_page_token

    events, has_more = await gather(fetch, limit)
    return page([to_event(event) for event in events], has_more)


@router.get("/{job_id}/checkpoints")
async def list_checkpoints(
    job_id: str, owners: OwnersDependency, after: After = None, limit: Limit = 10
) -> dict[str, Any]:
    """List the models that a job has published, newest first."""
    checkpoints = to_checkpoints(await _get(owners, job_id))
    ids = [one["id"] for one in checkpoints]
    if after and after not in ids:
        raise invalid(f"after: {after} is no checkpoint of this job", "after")
    rest = checkpoints[ids.index(after) + 1 if after else 0 :]
    return page(rest[:limit], len(rest) > limit)


async def base_model(owners: Owners, model: str) -> str:
    """Return the resource name of the base model that a body's `model` means."""
    found = await _found(owners, model)
    if not isinstance(found, base_model_pb2.BaseModel):
        raise invalid(
            f"model: '{model}' is a tuned model; only base models are supported here",
            "model",
            reason="UNSUPPORTED_MODEL",
        )
    return found.name


async def _beginning(owners: Owners, model: str) -> tuple[str, str]:
    """Return the base model and, where the body's `model` is an adapter, that one, too."""
    found = await _found(owners, model)
    if isinstance(found, base_model_pb2.BaseModel):
        return found.name, ""
    return found.base_model, found.name


async def _found(owners: Owners, model: str) -> models.Model:
    found = await models.find(owners, model)
    if found is None:
        raise invalid(f"The model '{model}' does not exist", "model", reason="MODEL_NOT_FOUND")
    return found


async def _shown(owners: Owners, job: training_job_pb2.TrainingJob) -> dict[str, Any]:
    return to_job(job, await public_names(owners, _start_adapters([job])))


def _start_adapters(jobs: Iterable[training_job_pb2.TrainingJob]) -> Iterator[str]:
    return (job.start_adapter for job in jobs if job.start_adapter)


async def _get(owners: Owners, job_id: str) -> training_job_pb2.TrainingJob:
    name = resource(caller_project(), JOBS, job_id)
    return await owners.jobs.GetTrainingJob(
        training_job_service_pb2.GetTrainingJobRequest(name=name)
    )


def _metadata_filter(request: Request) -> Callable[[training_job_pb2.TrainingJob], bool]:
    """`metadata[key]=value` wants jobs that have the pair, `metadata=null` those without any."""
    given = request.query_params
    if given.get("metadata") == "null":
        return lambda job: not job.metadata
    wanted = {
        key.removeprefix("metadata[").removesuffix("]"): value
        for key, value in given.items()
        if key.startswith("metadata[") and key.endswith("]")
    }
    return lambda job: wanted.items() <= dict(job.metadata).items()
