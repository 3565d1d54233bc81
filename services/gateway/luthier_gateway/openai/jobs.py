"""`/v1/fine_tuning/jobs`: create, watch and cancel tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from luthier.inference.v1 import base_model_pb2
from luthier.trainer.v1 import training_job_pb2, training_job_service_pb2

from luthier_gateway.openai import models
from luthier_gateway.openai.errors import invalid
from luthier_gateway.openai.job_request import JobRequest
from luthier_gateway.openai.job_views import to_checkpoints, to_event, to_job
from luthier_gateway.openai.names import JOBS, cursor, event_cursor, resource
from luthier_gateway.openai.pages import gather, page
from luthier_gateway.owners import Owners, caller_parent, caller_project
from luthier_gateway.requests import After, Limit, OwnersDependency

router = APIRouter(prefix="/fine_tuning/jobs")


@router.post("")
async def create_job(body: JobRequest, owners: OwnersDependency) -> dict[str, Any]:
    """Create a job, which starts it."""
    base = await base_model(owners, body.model)
    job = await owners.jobs.CreateTrainingJob(
        training_job_service_pb2.CreateTrainingJobRequest(
            parent=caller_parent(), training_job=body.to_proto(caller_project(), base)
        )
    )
    return to_job(job)


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
    return page([to_job(job) for job in jobs], has_more)


@router.get("/{job_id}")
async def retrieve_job(job_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Return a job."""
    return to_job(await _get(owners, job_id))


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, owners: OwnersDependency) -> dict[str, Any]:
    """Ask a job to end; the body, if any, says nothing."""
    name = resource(caller_project(), JOBS, job_id)
    request = training_job_service_pb2.CancelTrainingJobRequest(name=name)
    return to_job(await owners.jobs.CancelTrainingJob(request))


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
    """List the models that a job published: one, once it has succeeded."""
    checkpoints = to_checkpoints(await _get(owners, job_id))
    return page([one for one in checkpoints if one["id"] != after][:limit])


async def base_model(owners: Owners, model: str) -> str:
    """Return the resource name of the base model that a body's `model` means."""
    found = await models.find(owners, model)
    if found is None:
        raise invalid(f"The model '{model}' does not exist", "model", reason="MODEL_NOT_FOUND")
    if not isinstance(found, base_model_pb2.BaseModel):
        raise invalid(
            f"model: '{model}' is a tuned model; only base models are supported here",
            "model",
            reason="UNSUPPORTED_MODEL",
        )
    return found.name


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
