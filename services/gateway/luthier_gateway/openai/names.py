"""OpenAI's ids and the platform's resource names: mapped here and nowhere else.

file-…, upload-…, ftjob-…, dataset ids   the last segment of the resource's name
ftevent-{job}-{n}                   an event of a job; `job` without its `ftjob-`
ftckpt-{job}                        the published result of a job
ftckpt-{job}-{step}                 what it published on the way
{base}                              a base model of the project, else of the library
ft:{base}:{project}:{suffix}:{id}   what a job made, an adapter or a base model; the suffix may be
                                    empty or hold colons
ft:{…}:{id}:ckpt-step-{step}        an adapter `{id}-s{step}` that a job published on the way
"""

from __future__ import annotations

import re

from luthier.inference.v1 import adapter_pb2, base_model_pb2
from luthier.trainer.v1 import training_job_pb2
from luthier_common.errors import InvalidArgument, NotFound, not_found
from luthier_common.identity import LIBRARY
from luthier_common.names import format_name, id_of, project_of

FILES = "files"
UPLOADS = "uploads"
JOBS = "trainingJobs"
DATASETS = "datasets"
BASE_MODELS = "baseModels"
ADAPTERS = "adapters"

_JOB_PREFIX = "ftjob-"
_SNAPSHOT = re.compile(r"^(.+)-s(\d+)$")
_SNAPSHOT_STEP = "ckpt-step-"
_NAME = re.compile(r"projects/[a-z0-9-]+/[A-Za-z]+/([a-z0-9-]+)")
_KINDS = {
    FILES: ("file", "file_not_found"),
    UPLOADS: ("upload", "upload_not_found"),
    JOBS: ("fine-tuning job", "fine_tuning_job_not_found"),
    DATASETS: ("dataset", "dataset_not_found"),
    BASE_MODELS: ("model", "model_not_found"),
    ADAPTERS: ("model", "model_not_found"),
}


def resource(project: str, collection: str, public_id: str) -> str:
    """Return the name of a resource; an id that cannot exist is NotFound like any absent one."""
    try:
        return format_name(
            f"projects/{{project}}/{collection}/{{id}}", project=project, id=public_id
        )
    except InvalidArgument:
        raise not_found(f"projects/{project}/{collection}/{public_id}") from None


def cursor(project: str, collection: str, public_id: str | None) -> str:
    """Return what `after` is for the owner: a name, or nothing."""
    return resource(project, collection, public_id) if public_id else ""


def event_id(event_name: str) -> str:
    """Return the id of a job's event."""
    _, _, _, job, _, number = event_name.split("/")
    return f"ftevent-{_tail(job)}-{number}"


def event_cursor(job_name: str, public_id: str | None) -> str:
    """Return the name of the event that a page comes after; InvalidArgument for another job's."""
    if not public_id:
        return ""
    prefix = f"ftevent-{_tail(id_of(job_name))}-"
    number = public_id.removeprefix(prefix)
    if not public_id.startswith(prefix) or not number.isascii() or not number.isdigit():
        raise InvalidArgument(
            f"after: {public_id} is no event of this job", reason="INVALID_CURSOR", field="after"
        )
    return f"{job_name}/events/{number}"


def checkpoint_id(job_name: str, step: int | None = None) -> str:
    """Return the id of the checkpoint of a step or, without one, of a job's result."""
    result = f"ftckpt-{_tail(id_of(job_name))}"
    return result if step is None else f"{result}-{step}"


def tuned_model(base_model: str, suffix: str, tuned: str) -> str:
    """Return the public name of what a job made, from its name and those of its origin."""
    shown = _SNAPSHOT.sub(rf"\1:{_SNAPSHOT_STEP}\2", id_of(tuned))
    return f"ft:{id_of(base_model)}:{project_of(tuned)}:{suffix}:{shown}"


def model_of_adapter(adapter: adapter_pb2.Adapter) -> str:
    """Return the public name of an adapter."""
    return tuned_model(adapter.base_model, adapter.suffix, adapter.name)


def model_of_base(base: base_model_pb2.BaseModel) -> str:
    """Return the public name of a base model; one that tuning made is named like an adapter."""
    if not base.HasField("tuning_origin"):
        return id_of(base.name)
    return tuned_model(base.tuning_origin.base_model, base.tuning_origin.suffix, base.name)


def model_of_job(job: training_job_pb2.TrainingJob) -> str | None:
    """Return the public name of what a job made, once it is published."""
    tuned = job.adapter or job.tuned_base_model
    return tuned_model(job.base_model, job.suffix, tuned) if tuned else None


def is_tuned(model: str) -> bool:
    """Whether a public model name is one of what a job made."""
    return model.startswith("ft:")


def model_names(project: str, model: str) -> tuple[str, ...]:
    """Return where to look for a model; nowhere when the name cannot be one of this project."""
    try:
        if not is_tuned(model):
            return tuple(resource(owner, BASE_MODELS, model) for owner in (project, LIBRARY))
        parts = model.split(":")
        if len(parts) >= 5 and parts[2] == project:
            tuned = _tuned_id(parts)
            return tuple(resource(project, kind, tuned) for kind in (ADAPTERS, BASE_MODELS))
    except NotFound:
        pass
    return ()


def absent(error: NotFound) -> tuple[str, str]:
    """Return message and code for an absent resource, in OpenAI's words."""
    parts = error.metadata.get("resource", "").split("/", 3)
    if len(parts) < 4 or parts[2] not in _KINDS:
        return public_text(error.message), error.reason.lower()
    label, code = _KINDS[parts[2]]
    return f"No such {label}: {parts[3]}", code


def public_text(message: str) -> str:
    """Return a message with ids in place of resource names."""
    return _NAME.sub(r"\1", message)


def _tuned_id(parts: list[str]) -> str:
    """Return the id at the end of a tuned model's name."""
    *_, before, last = parts
    if last.startswith(_SNAPSHOT_STEP):
        return f"{before}-s{last.removeprefix(_SNAPSHOT_STEP)}"
    return last


def _tail(job: str) -> str:
    return job.removeprefix(_JOB_PREFIX)
