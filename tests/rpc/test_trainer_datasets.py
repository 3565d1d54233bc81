"""Training files of every shape, and the datasets that are made of those that were uploaded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.quality_pb2 import QualityRule
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.errors import InvalidArgument, Unavailable
from luthier_dataset.quality.report import actions

from tests.support.eventually import eventually
from tests.support.tiny_model import save_base
from tests.support.trainer_house import ACME, ROWS, House, open_house
from tests.support.trainer_service import trainer_service


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
async def house(tmp_path: Path, snapshot: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, snapshot) as opened:
        yield opened


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


TEXTS = lines({"text": "One."}, {"text": "Two."})
PREFERENCES = lines(
    {
        "input": {"messages": [{"role": "user", "content": "Who?"}]},
        "preferred_output": [{"role": "assistant", "content": "Ann"}],
        "non_preferred_output": [{"role": "assistant", "content": "Bo"}],
    }
)


async def dataset_of(house: House, name: str) -> str:
    """Return the dataset of a job's file once the job tells it."""

    async def told() -> bool:
        return bool((await house.trainer.get(name)).training_dataset)

    await eventually(told)
    return (await house.trainer.get(name)).training_dataset


@pytest.mark.parametrize(
    "data",
    [
        TEXTS,
        lines({"prompt": "Who?", "completion": "Ann"}),
        b"\xef\xbb\xbf" + TEXTS,
        TEXTS.replace(b"\n", b"\r\n").rstrip(),
    ],
)
async def test_files_of_every_shape_reach_a_run(house: House, data: bytes) -> None:
    file = await house.dataset.add(data)
    job = await house.create(house.draft(training_file=file.name, validation_file=file.name))
    await house.trainer.until(job.name, TrainingJob.RUNNING)


@pytest.mark.parametrize("field", ["training_file", "validation_file"])
@pytest.mark.parametrize(
    ("data", "reason"), [(PREFERENCES, "preference tuning"), (b"{}\n", "known shapes")]
)
async def test_a_file_that_cannot_be_learned_ends_the_job_before_a_run(
    house: House, field: str, data: bytes, reason: str
) -> None:
    file = await house.dataset.add(data)
    job = await house.create(house.draft(**{field: file.name}))
    failed = await house.trainer.until(job.name, TrainingJob.FAILED)
    assert failed.error.message.startswith(f"{file.name}: its first row ")
    assert reason in failed.error.message
    assert not house.trainer.stage.runs


async def test_an_uploaded_file_becomes_a_dataset_with_every_row(house: House) -> None:
    job = await house.create()
    assert not job.training_dataset, "the job does not wait for it"
    name = await dataset_of(house, job.name)
    (asked,) = house.dataset.asked
    assert name == f"{ACME}/datasets/{asked.dataset_id}"
    assert house.dataset.callers == ["services/trainer"]
    draft = asked.dataset
    assert (list(draft.source_files), draft.base_model) == ([house.rows.name], house.base.name)
    assert draft.display_name == "rows.jsonl"
    assert [recipe.WhichOneof("recipe") for recipe in draft.recipes] == ["rows"]
    assert not draft.split.validation_share
    # As the dataset service reads them, which would refuse a rule that it does not understand.
    assert set(actions(draft.quality_rules).values()) == {QualityRule.REPORT}
    running = await house.trainer.until(job.name, TrainingJob.RUNNING)
    assert running.training_file_sha256 == house.rows.sha256, "trained on what was uploaded"


async def test_jobs_on_one_file_and_model_share_a_dataset(house: House) -> None:
    first, second = (await house.create()).name, (await house.create()).name
    assert await dataset_of(house, first) == await dataset_of(house, second)
    one, other = house.dataset.asked
    assert one == other, "so that the service gives the same one"
    assert one.request_id
    file = await house.dataset.add(ROWS)
    third = await house.create(house.draft(training_file=file.name))
    assert await dataset_of(house, third.name) != await dataset_of(house, first)


async def test_a_minted_file_names_its_dataset(house: House) -> None:
    file = await house.dataset.add(TEXTS, dataset=f"{ACME}/datasets/handbook")
    job = await house.create(house.draft(training_file=file.name, validation_file=house.rows.name))
    assert job.training_dataset == f"{ACME}/datasets/handbook"
    uploaded = await house.create()
    await dataset_of(house, uploaded.name)
    assert [list(asked.dataset.source_files) for asked in house.dataset.asked] == [
        [house.rows.name]
    ], "none is made of the minted one"


async def test_a_dataset_that_was_deleted_or_failed_gets_a_successor(house: House) -> None:
    first = await dataset_of(house, (await house.create()).name)
    house.dataset.datasets[first].delete_time.GetCurrentTime()
    second = await dataset_of(house, (await house.create()).name)
    assert second == f"{first}-2"
    house.dataset.datasets[second].state = Dataset.FAILED
    third = await dataset_of(house, (await house.create()).name)
    assert third == f"{first}-3"
    house.dataset.datasets[third].state = Dataset.READY
    assert await dataset_of(house, (await house.create()).name) == third


async def test_a_file_whose_datasets_all_fail_is_given_no_more(house: House) -> None:
    for _ in range(4):
        name = await dataset_of(house, (await house.create()).name)
        house.dataset.datasets[name].state = Dataset.FAILED
    asked = len(house.dataset.asked)
    job = await house.create()
    await eventually(lambda: len(house.dataset.asked) == asked + 4)
    other = await house.dataset.add(TEXTS)
    await dataset_of(house, (await house.create(house.draft(training_file=other.name))).name)
    assert not (await house.trainer.get(job.name)).training_dataset
    assert len(house.dataset.datasets) == 5


async def test_a_dataset_that_is_refused_costs_no_job(house: House) -> None:
    house.dataset.failures = [InvalidArgument("not a kind of document", reason="UNKNOWN_KIND")]
    job = await house.create()
    run = await house.trainer.stage.run()
    await eventually(lambda: len(house.dataset.asked) == 1)
    await house.trainer.report(run, 1)
    other = await house.create()
    await dataset_of(house, other.name)
    assert not (await house.trainer.get(job.name)).training_dataset
    assert len(house.dataset.asked) == 2, "it is not asked again"
    assert (await house.trainer.get(job.name)).state == TrainingJob.RUNNING


async def test_what_is_away_is_asked_again(house: House) -> None:
    house.dataset.failures = [Unavailable("away", reason="AWAY")]
    name = await dataset_of(house, (await house.create()).name)
    assert [asked.dataset_id for asked in house.dataset.asked] == [name.rpartition("/")[2]] * 2


async def test_a_trainer_started_again_asks_for_what_is_missing(
    house: House, tmp_path: Path
) -> None:
    house.dataset.failures = [Unavailable("away", reason="AWAY")] * 100
    job = await house.create()
    await eventually(lambda: bool(house.dataset.asked))
    await house.trainer.lifespan.__aexit__(None, None, None)
    house.dataset.failures = []
    urls = (house.inference.nats_url, house.dataset.address, house.inference.address)
    async with trainer_service(tmp_path, *urls) as trainer:
        house.trainer = trainer
        assert await dataset_of(house, job.name)
