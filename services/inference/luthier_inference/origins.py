"""Where tuned weights come from: checked alike for adapters and for models of full tuning."""

from __future__ import annotations

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel, TuningOrigin
from luthier_common.errors import FailedPrecondition, InvalidArgument, not_found
from luthier_common.identity import LIBRARY
from luthier_common.names import parse
from luthier_common.records.collection import Collection

BASE_MODEL = "projects/{project}/baseModels/{base_model}"
TRAINING_JOB = "projects/{project}/trainingJobs/{training_job}"


async def check_origin(
    base_models: Collection[BaseModel], project: str, origin: Adapter | TuningOrigin, *, field: str
) -> BaseModel:
    """Return the base model that tuning in `project` began with.

    InvalidArgument for what is missing, NotFound for what the project cannot see,
    FailedPrecondition when the base model has other bytes. `field` is the origin's, for errors.
    """
    job = parse(origin.training_job, TRAINING_JOB, field=f"{field}.training_job")
    if job["project"] != project:
        raise not_found(origin.training_job)
    if not origin.dataset_digest:
        at = f"{field}.dataset_digest"
        raise InvalidArgument(f"{at} is required", reason="REQUIRED", field=at)
    owner = parse(origin.base_model, BASE_MODEL, field=f"{field}.base_model")["project"]
    if owner not in (project, LIBRARY):
        raise not_found(origin.base_model)
    base = await base_models.get(origin.base_model)
    check_same(base, "digest", origin.base_model_digest)
    return base


def check_same(base: BaseModel, field: str, given: str) -> None:
    """FailedPrecondition when `given` is not what the base model has in `field`."""
    own = getattr(base, field)
    if given != own:
        raise FailedPrecondition(
            f"this was tuned on another {base.name}: its {field} is {given or 'not given'}, "
            f"the base model's {own}",
            reason="BASE_MODEL_MISMATCH",
        )
