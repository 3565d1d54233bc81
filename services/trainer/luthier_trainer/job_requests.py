"""What may be asked for: the checks that a job's request takes by itself."""

from __future__ import annotations

from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.errors import InvalidArgument
from luthier_common.names import parse

from luthier_trainer import gates, hyperparameters

FILE = "projects/{project}/files/{file}"
ADAPTER = "projects/{project}/adapters/{adapter}"
_BASE_MODEL = "projects/{project}/baseModels/{base_model}"
_LONGEST_SUFFIX = 64
_LONGEST_REQUEST_ID = 255
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
_HIGHEST_PRIORITY = 100
_ASKED = (
    "base_model",
    "training_file",
    "validation_file",
    "regression_file",
    "suffix",
    "metadata",
    "supervised",
    "preference",
    "start_adapter",
    "priority",
    "gate",
)
"""What makes two requests the same one. The seed is left out: a job that was given none has one of
the service's choice."""


def check(draft: TrainingJob, request_id: str) -> None:
    """InvalidArgument names the first field that is wrong whatever else exists."""
    parse(draft.base_model, _BASE_MODEL, field="training_job.base_model")
    parse(draft.training_file, FILE, field="training_job.training_file")
    if draft.WhichOneof("tuning_spec") is None:
        raise _invalid("supervised", "is required, or preference in its place")
    hyperparameters.check(draft)
    gates.check(draft)
    if draft.start_adapter and hyperparameters.is_full(draft):
        raise _invalid("start_adapter", "goes with LoRA; full tuning begins with a base model")
    if not -_HIGHEST_PRIORITY <= draft.priority <= _HIGHEST_PRIORITY:
        raise _invalid("priority", f"must be from -{_HIGHEST_PRIORITY} to {_HIGHEST_PRIORITY}")
    if len(draft.suffix) > _LONGEST_SUFFIX or not draft.suffix.isprintable():
        raise _invalid("suffix", f"must be at most {_LONGEST_SUFFIX} printable characters")
    if len(request_id) > _LONGEST_REQUEST_ID or not request_id.isprintable():
        raise InvalidArgument(
            f"request_id must be at most {_LONGEST_REQUEST_ID} printable characters",
            reason="INVALID_TRAINING_JOB",
            field="request_id",
        )
    _check_metadata(draft)


def same(earlier: TrainingJob, draft: TrainingJob) -> TrainingJob:
    """Return the job of an earlier request; InvalidArgument if this one asks for another."""
    if _asked(draft) != _asked(earlier):
        raise InvalidArgument(
            "request_id was used for another job",
            reason="REQUEST_ID_REUSED",
            field="request_id",
            metadata={"resource": earlier.name},
        )
    return earlier


def _check_metadata(draft: TrainingJob) -> None:
    if len(draft.metadata) > _MOST_PAIRS:
        raise _invalid("metadata", f"must have at most {_MOST_PAIRS} pairs")
    for key, value in draft.metadata.items():
        if not key or len(key) > _LONGEST_KEY:
            raise _invalid("metadata", f"must have keys of 1 to {_LONGEST_KEY} characters")
        if len(value) > _LONGEST_VALUE:
            raise _invalid("metadata", f"must have values of at most {_LONGEST_VALUE} characters")


def _invalid(field: str, what: str) -> InvalidArgument:
    path = f"training_job.{field}"
    return InvalidArgument(f"{path} {what}", reason="INVALID_TRAINING_JOB", field=path)


def _asked(job: TrainingJob) -> TrainingJob:
    asked = TrainingJob()
    asked.CopyFrom(job)
    for field, _ in job.ListFields():
        if field.name not in _ASKED:
            asked.ClearField(field.name)
    return asked
