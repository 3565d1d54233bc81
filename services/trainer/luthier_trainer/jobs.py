"""Training jobs: what may be asked for, and which state follows which."""

from __future__ import annotations

import secrets

from luthier.dataset.v1.file_pb2 import File
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    not_found,
)
from luthier_common.names import choose_id, parent_of, parse
from luthier_common.paging import Page, coerce_page_size
from luthier_common.records.collection import Collection
from luthier_common.records.requests import create_once, made_before

from luthier_trainer import hyperparameters
from luthier_trainer.peers import Peers

PATTERN = "projects/{project}/trainingJobs/{training_job}"
_FILE = "projects/{project}/files/{file}"
_BASE_MODEL = "projects/{project}/baseModels/{base_model}"
_LONGEST_SUFFIX = 64
_LONGEST_REQUEST_ID = 255
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512

State = TrainingJob.State
FINAL = frozenset({TrainingJob.SUCCEEDED, TrainingJob.FAILED, TrainingJob.CANCELLED})
_NEXT: dict[State, frozenset[State]] = {
    TrainingJob.VALIDATING: frozenset(
        {TrainingJob.QUEUED, TrainingJob.FAILED, TrainingJob.CANCELLED}
    ),
    TrainingJob.QUEUED: frozenset({TrainingJob.RUNNING, TrainingJob.FAILED, TrainingJob.CANCELLED}),
    TrainingJob.RUNNING: frozenset(
        {
            TrainingJob.QUEUED,
            TrainingJob.CANCELLING,
            TrainingJob.SUCCEEDED,
            TrainingJob.FAILED,
        }
    ),
    TrainingJob.CANCELLING: frozenset({TrainingJob.CANCELLED}),
}


def move(job: TrainingJob, state: State) -> TrainingJob:
    """Put `job` into `state`, with the times that go with it; Internal if it cannot follow."""
    if state not in _NEXT.get(job.state, frozenset()):
        names = f"{State.Name(job.state)} cannot become {State.Name(state)}"
        raise Internal(f"{job.name}: {names}", reason="ILLEGAL_TRANSITION")
    job.state = state
    if state == TrainingJob.RUNNING and not job.HasField("start_time"):
        job.start_time.GetCurrentTime()
    if state in FINAL:
        job.end_time.GetCurrentTime()
    return job


class Jobs:
    """The jobs of all projects, as their callers see them."""

    def __init__(self, records: Collection[TrainingJob], peers: Peers) -> None:
        self._records = records
        self._peers = peers

    async def create(
        self,
        parent: str,
        draft: TrainingJob,
        job_id: str,
        request_id: str,
        *,
        validate_only: bool = False,
    ) -> TrainingJob:
        """Check what can be checked at once, pin files and base model, and store the job.

        InvalidArgument, NotFound, AlreadyExists.
        """
        _check_request(draft, request_id)
        earlier = made_before(self._records, parent, request_id)
        if earlier is not None:
            return _repeated(earlier, draft)
        job = await self._pinned(parent, draft)
        job.request_id = request_id
        chosen = choose_id("ftjob", parent, job_id, request_id, field="training_job_id")
        job.name = f"{parent}/trainingJobs/{chosen}"
        if validate_only:
            return job
        return _repeated(await create_once(self._records, job), draft)

    async def get(self, name: str) -> TrainingJob:
        """Return a job; NotFound."""
        return await self._records.get(name)

    def list(
        self, parent: str, *, page_size: int, page_token: str, after: str, order_by: str
    ) -> Page[TrainingJob]:
        """Return a page of a project's jobs."""
        return self._records.list(
            parent,
            order_by=order_by or "create_time desc",
            after=after or None,
            page_size=coerce_page_size(page_size, default=20, maximum=1000),
            page_token=page_token,
        )

    async def cancel(self, name: str) -> TrainingJob:
        """Ask a job to end; NotFound, FailedPrecondition when it is beyond that."""

        def change(job: TrainingJob) -> TrainingJob | None:
            if job.state == TrainingJob.CANCELLING:
                return None
            if job.state in FINAL or job.HasField("result"):
                happened = State.Name(job.state).lower() if job.state in FINAL else "been tuned"
                raise FailedPrecondition(
                    f"{name} has already {happened}; it cannot be cancelled",
                    reason="JOB_ENDED",
                    metadata={"state": State.Name(job.state)},
                )
            running = job.state == TrainingJob.RUNNING
            return move(job, TrainingJob.CANCELLING if running else TrainingJob.CANCELLED)

        return await self._records.update(name, change)

    async def _pinned(self, parent: str, draft: TrainingJob) -> TrainingJob:
        base = await self._peers.base_model(parent, draft.base_model)
        job = TrainingJob(
            base_model=base.name,
            base_model_digest=base.digest,
            suffix=draft.suffix,
            seed=draft.seed if draft.HasField("seed") else secrets.randbelow(2**31),
            metadata=draft.metadata,
            supervised=draft.supervised,
            state=TrainingJob.VALIDATING,
        )
        for field in ("training_file", "validation_file"):
            name = getattr(draft, field)
            if name:
                file = await self._rows(parent, name, f"training_job.{field}")
                setattr(job, field, file.name)
                setattr(job, f"{field}_sha256", file.sha256)
                if field == "training_file":
                    job.training_dataset = file.dataset
        return job

    async def _rows(self, parent: str, name: str, field: str) -> File:
        parse(name, _FILE, field=field)
        if parent_of(name) != parent:
            raise not_found(name)
        file = await self._peers.file(parent, name)
        if file.purpose != File.FINE_TUNE:
            raise InvalidArgument(
                f"{name} was not uploaded for tuning: its purpose is not fine-tune",
                reason="WRONG_PURPOSE",
                field=field,
            )
        return file


def _check_request(draft: TrainingJob, request_id: str) -> None:
    parse(draft.base_model, _BASE_MODEL, field="training_job.base_model")
    parse(draft.training_file, _FILE, field="training_job.training_file")
    if not draft.HasField("supervised"):
        raise _invalid("supervised", "is required")
    hyperparameters.check(draft.supervised.hyperparameters)
    if len(draft.suffix) > _LONGEST_SUFFIX or not draft.suffix.isprintable():
        raise _invalid("suffix", f"must be at most {_LONGEST_SUFFIX} printable characters")
    if len(request_id) > _LONGEST_REQUEST_ID or not request_id.isprintable():
        raise InvalidArgument(
            f"request_id must be at most {_LONGEST_REQUEST_ID} printable characters",
            reason="INVALID_TRAINING_JOB",
            field="request_id",
        )
    _check_metadata(draft)


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


def _repeated(earlier: TrainingJob, draft: TrainingJob) -> TrainingJob:
    """The job of an earlier request, unless this one asks for something else."""
    if _asked(draft) != _asked(earlier):
        raise InvalidArgument(
            "request_id was used for another job",
            reason="REQUEST_ID_REUSED",
            field="request_id",
            metadata={"resource": earlier.name},
        )
    return earlier


def _asked(job: TrainingJob) -> TrainingJob:
    # The seed is left out: a job that was given none has one of the service's choice.
    return TrainingJob(
        base_model=job.base_model,
        training_file=job.training_file,
        validation_file=job.validation_file,
        suffix=job.suffix,
        metadata=job.metadata,
        supervised=job.supervised,
    )
