"""From VALIDATING to QUEUED: what a job's rows are and come to, and what `auto` makes of it."""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.training_job_pb2 import ResolvedHyperparameters, TrainingJob
from luthier_common.errors import InvalidArgument
from luthier_common.names import parent_of, project_of
from luthier_common.objects.blobs import Blobs

from luthier_trainer import hyperparameters
from luthier_trainer.auto import Sizes, choose
from luthier_trainer.peers import Peers
from luthier_trainer.shapes import shape_of

GENERAL_ROWS = "retain.jsonl"
"""The base model's file of rows that show what it can do."""
_BYTES_PER_TOKEN = 4
"""A rule of thumb for text; the run counts exactly."""


@dataclass(frozen=True)
class _Count:
    rows: int
    size: int


class Validation:
    """Checks jobs against the bytes that they have pinned."""

    def __init__(self, blobs: Blobs, peers: Peers) -> None:
        self._blobs = blobs
        self._peers = peers

    async def resolve(self, job: TrainingJob) -> ResolvedHyperparameters:
        """Return what the run shall use; a PlatformError says what is wrong with the job."""
        base = await self._peers.base_model(parent_of(job.name), job.base_model)
        count = await self._count(job, "training_file")
        if job.validation_file:
            await self._count(job, "validation_file")
        general = _has_general_rows(base)
        given = job.supervised.hyperparameters
        if given.retain_share and not general:
            raise InvalidArgument(
                f"{base.name} ships no general rows ({GENERAL_ROWS}), so there are none to retain",
                reason="NO_GENERAL_ROWS",
                field=f"{hyperparameters.FIELD}.retain_share",
            )
        choice = choose(
            Sizes(
                parameters=base.parameter_count,
                lora_parameters_per_rank=base.lora_parameters_per_rank,
                rows=count.rows,
                tokens=count.size // _BYTES_PER_TOKEN,
                ships_general_rows=general,
            )
        )
        return hyperparameters.resolve(given, choice)

    async def _count(self, job: TrainingJob, field: str) -> _Count:
        """Count the rows of one of a job's files; InvalidArgument if they are of no use to it."""
        rows = size = 0
        async for line in self._lines(project_of(job.name), getattr(job, f"{field}_sha256")):
            if rows == 0:  # the dataset service has seen to it that all others are like it
                _check_shape(line, getattr(job, field), field)
            rows += 1
            size += len(line)
        return _Count(rows, size)

    async def _lines(self, project: str, sha256: str) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._blobs.stream(project, sha256):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
        if rest.strip():
            yield rest


def _check_shape(line: bytes, file: str, field: str) -> None:
    try:
        shape_of(json.loads(line.removeprefix(codecs.BOM_UTF8)))
    except InvalidArgument as error:
        raise InvalidArgument(
            f"{file}: its first row {error.message}",
            reason=error.reason,
            field=f"training_job.{field}",
        ) from error


def _has_general_rows(base: BaseModel) -> bool:
    return any(file.path == GENERAL_ROWS for file in base.files)
