"""Datasets of uploaded training files: what a job learns from can be looked up, whoever made it.

A file that a dataset has minted names it. Of any other the dataset service is asked to make one,
for its statistics, quality report and lineage. The job trains on the file itself and does not
wait; where the dataset cannot be made, the log says why and the job goes on without.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule
from luthier.dataset.v1.recipe_pb2 import Recipe, RowsRecipe
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.errors import AlreadyExists, FailedPrecondition, PlatformError
from luthier_common.names import parent_of
from luthier_common.records.collection import Collection

from luthier_trainer.peers import TRANSIENT, Peers

_RETRY_SECONDS = 10.0
_MOST_DATASETS = 4
"""Of one file and model: a failure that a new try does not mend is not repeated for every job."""

logger = logging.getLogger(__name__)


class TrainingDatasets:
    """Gives every job the dataset of its training file, one after the other."""

    def __init__(self, records: Collection[TrainingJob], peers: Peers) -> None:
        self._records = records
        self._peers = peers

    async def run(self) -> None:
        """Work until cancelled."""
        changes = self._records.changes()
        seen = {job.name for job in self._records.values()}
        waiting = [job.name for job in self._records.values() if _wants_dataset(job)]
        while True:
            waiting = [name for name in waiting if not await self._settle(name)]
            try:
                async with asyncio.timeout(_RETRY_SECONDS if waiting else None):
                    name = await anext(changes)
            except TimeoutError:
                continue
            if name not in seen:
                seen.add(name)
                waiting.append(name)

    async def _settle(self, name: str) -> bool:
        """Do what can be done for a job; false if it is worth another try."""
        try:
            job = await self._records.get(name)
            if _wants_dataset(job):
                await self._give_dataset(job)
        except TRANSIENT as error:
            logger.info("dataset must wait", extra={"job": name, "cause": error.message})
            return False
        except PlatformError as error:
            logger.warning("job without dataset", extra={"job": name, "cause": error.message})
        except Exception:
            logger.exception("job without dataset", extra={"job": name})
        return True

    async def _give_dataset(self, job: TrainingJob) -> None:
        parent = parent_of(job.name)
        file = await self._peers.file(parent, job.training_file)
        draft = Dataset(
            display_name=file.display_name,
            source_files=[file.name],
            recipes=[Recipe(rows=RowsRecipe(sequence_to_sequence=True))],
            base_model=job.base_model,
            quality_rules=_ONLY_REPORT,
        )
        dataset = await self._usable(parent, draft, _dataset_id(job))

        def change(job: TrainingJob) -> TrainingJob:
            job.training_dataset = dataset.name
            return job

        await self._records.update(job.name, change)

    async def _usable(self, parent: str, draft: Dataset, dataset_id: str) -> Dataset:
        """Return the dataset of that id, or its successor where it was deleted or has failed."""
        for number in range(_MOST_DATASETS):
            counted = f"{dataset_id}-{number + 1}" if number else dataset_id
            try:
                dataset = await self._peers.create_dataset(parent, draft, counted)
            except AlreadyExists:
                continue
            if dataset.state != Dataset.FAILED:
                return dataset
        raise FailedPrecondition(
            f"{_MOST_DATASETS} datasets of {draft.source_files[0]} were deleted or have failed",
            reason="DATASETS_FAILED",
        )


_ONLY_REPORT = [
    QualityRule(check=name, action=QualityRule.REPORT)
    for name, number in QualityCheck.items()
    if number not in (QualityCheck.QUALITY_CHECK_UNSPECIFIED, QualityCheck.UNEXPECTED_LANGUAGE)
]
"""The dataset has the rows that are trained on: all of them. No language is unexpected."""


def _wants_dataset(job: TrainingJob) -> bool:
    return not job.training_dataset and job.state not in (TrainingJob.FAILED, TrainingJob.CANCELLED)


def _dataset_id(job: TrainingJob) -> str:
    # All jobs that tune one model on one file share it; tokens are counted by the model.
    key = f"{job.training_file} {job.base_model} {job.base_model_digest}"
    return f"dataset-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
