from collections.abc import AsyncIterator

import pytest
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.errors import AlreadyExists
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_common.records.requests import create_once, made_before

ACME = "projects/acme"
NAME = f"{ACME}/datasets/one"


@pytest.fixture
async def datasets() -> AsyncIterator[Collection[Dataset]]:
    async with Collection(MemoryRecords(), Dataset, "projects/{project}/datasets/{id}") as records:
        yield records


async def test_a_repeated_request_returns_what_it_made(datasets: Collection[Dataset]) -> None:
    assert made_before(datasets, ACME, "r1") is None
    made = await create_once(datasets, Dataset(name=NAME, request_id="r1"))
    assert made_before(datasets, ACME, "r1") == made
    assert made_before(datasets, ACME, "") is None
    assert made_before(datasets, "projects/rivals", "r1") is None
    assert await create_once(datasets, Dataset(name=NAME, request_id="r1")) == made


@pytest.mark.parametrize("request_id", ["r2", ""])
async def test_another_request_finds_the_name_taken(
    datasets: Collection[Dataset], request_id: str
) -> None:
    await create_once(datasets, Dataset(name=NAME, request_id="r1"))
    with pytest.raises(AlreadyExists, match=f"{NAME} already exists"):
        await create_once(datasets, Dataset(name=NAME, request_id=request_id))


async def test_what_was_deleted_since_is_no_answer(datasets: Collection[Dataset]) -> None:
    tombstone = Dataset(name=NAME, request_id="r1")
    tombstone.delete_time.GetCurrentTime()
    await datasets.create(NAME, tombstone)
    with pytest.raises(AlreadyExists, match=f"{NAME} .* has been deleted") as caught:
        made_before(datasets, ACME, "r1")
    assert caught.value.metadata == {"resource": NAME}
    with pytest.raises(AlreadyExists, match=f"{NAME} .* has been deleted"):
        await create_once(datasets, Dataset(name=NAME, request_id="r1"))


async def test_records_that_leave_no_tombstones_are_answers() -> None:
    pattern, name = "projects/{project}/trainingJobs/{id}", f"{ACME}/trainingJobs/one"
    async with Collection(MemoryRecords(), TrainingJob, pattern) as records:
        made = await create_once(records, TrainingJob(name=name, request_id="r1"))
        assert made_before(records, ACME, "r1") == made
        assert await create_once(records, TrainingJob(name=name, request_id="r1")) == made
