"""From VALIDATING to QUEUED: what a job's rows amount to, and what `auto` makes of that."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.training_job_pb2 import ResolvedHyperparameters, TrainingJob
from luthier_common.errors import InvalidArgument
from luthier_common.names import parent_of, project_of
from luthier_common.objects.blobs import Blobs

from luthier_trainer import hyperparameters
from luthier_trainer.auto import Sizes, choose
from luthier_trainer.peers import Peers

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
        count = await self._count(project_of(job.name), job.training_file_sha256)
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

    async def _count(self, project: str, sha256: str) -> _Count:
        rows = size = 0
        line = b""
        async for chunk in self._blobs.stream(project, sha256):
            *whole, line = (line + chunk).split(b"\n")
            rows += sum(1 for row in whole if row.strip())
            size += len(chunk)
        return _Count(rows + bool(line.strip()), size)


def _has_general_rows(base: BaseModel) -> bool:
    return any(file.path == GENERAL_ROWS for file in base.files)
