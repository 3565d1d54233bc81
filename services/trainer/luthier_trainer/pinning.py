"""What a job names, held fast by digest: later changes of it cannot change the job."""

from __future__ import annotations

import secrets

from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.errors import FailedPrecondition, InvalidArgument, not_found
from luthier_common.names import parent_of, parse

from luthier_trainer.job_requests import ADAPTER, FILE
from luthier_trainer.peers import Peers


async def pin(peers: Peers, parent: str, draft: TrainingJob) -> TrainingJob:
    """Return the job of a checked draft, not yet named, with what it names pinned by digest.

    InvalidArgument, NotFound, FailedPrecondition.
    """
    base = await peers.base_model(parent, draft.base_model)
    if base.tuning_origin.hold_reason:
        raise FailedPrecondition(
            f"{base.name} is held back: {base.tuning_origin.hold_reason}",
            reason="MODEL_HELD",
            field="training_job.base_model",
        )
    job = TrainingJob(
        base_model=base.name,
        base_model_digest=base.digest,
        suffix=draft.suffix,
        seed=draft.seed if draft.HasField("seed") else secrets.randbelow(2**31),
        metadata=draft.metadata,
        supervised=draft.supervised if draft.HasField("supervised") else None,
        preference=draft.preference if draft.HasField("preference") else None,
        priority=draft.priority,
        gate=draft.gate if draft.HasField("gate") else None,
        state=TrainingJob.VALIDATING,
    )
    for field in ("training_file", "validation_file", "regression_file"):
        name = getattr(draft, field)
        if name:
            file = await _rows(peers, parent, name, f"training_job.{field}")
            setattr(job, field, file.name)
            setattr(job, f"{field}_sha256", file.sha256)
            if field == "training_file":
                job.training_dataset = file.dataset
    if draft.start_adapter:
        start = await _start(peers, parent, draft.start_adapter, base.digest)
        job.start_adapter, job.start_adapter_digest = start.name, start.digest
        for held in start.files:
            job.start_adapter_files.add(
                path=held.path, sha256=held.sha256, size_bytes=held.size_bytes
            )
    return job


async def _rows(peers: Peers, parent: str, name: str, field: str) -> File:
    parse(name, FILE, field=field)
    if parent_of(name) != parent:
        raise not_found(name)
    file = await peers.file(parent, name)
    if file.purpose != File.FINE_TUNE:
        raise InvalidArgument(
            f"{name} was not uploaded for tuning: its purpose is not fine-tune",
            reason="WRONG_PURPOSE",
            field=field,
        )
    return file


async def _start(peers: Peers, parent: str, name: str, base_digest: str) -> Adapter:
    """Return the adapter to go on from."""
    field = "training_job.start_adapter"
    parse(name, ADAPTER, field=field)
    if parent_of(name) != parent:
        raise not_found(name)
    adapter = await peers.adapter(parent, name)
    if adapter.HasField("delete_time"):
        raise FailedPrecondition(f"{name} has been deleted", reason="ADAPTER_DELETED", field=field)
    if adapter.hold_reason:
        raise FailedPrecondition(
            f"{name} is held back: {adapter.hold_reason}", reason="ADAPTER_HELD", field=field
        )
    if adapter.base_model_digest != base_digest:
        raise InvalidArgument(
            f"{name} belongs to another base model: {adapter.base_model}",
            reason="OTHER_BASE_MODEL",
            field=field,
        )
    return adapter
