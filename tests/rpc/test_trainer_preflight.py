"""The preflight of a job, asked for with `validate_only` and kept with a job that is queued."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import FULL, Hyperparameters, SupervisedTuningSpec
from luthier_common.errors import InvalidArgument

from tests.support.tiny_model import save_base
from tests.support.trainer_house import House, open_house

TEXT = b'{"text": "twelve bytes"}\n'
LONG = b'{"text": "' + b"a" * 300 + b'"}\n'


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
async def house(tmp_path: Path, snapshot: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, snapshot) as house:
        yield house


def supervised(**given: Any) -> SupervisedTuningSpec:
    return SupervisedTuningSpec(hyperparameters=Hyperparameters(**given))


async def test_it_is_told_without_a_job_and_kept_with_one(house: House) -> None:
    asked = await house.create(validate_only=True)
    found = asked.preflight
    assert found.data.accepted_row_count == found.data.sampled_row_count == 20
    # <|user|>question 0?<|end|><|assistant|>answer 0<|end|>
    assert found.data.tokens_per_epoch == 10 * 23 + 10 * 25
    assert 0 < found.data.padded_share < 1
    weights = asked.resolved_hyperparameters.lora_rank * house.base.lora_parameters_per_rank
    assert found.trainable_parameters == weights
    assert found.total_parameters == house.base.parameter_count
    assert len(found.alternatives) == 3
    assert {one.device_class for one in found.chosen.devices} >= {"t4", "a100-80gb", "h100", "cpu"}
    assert all(one.basis for one in found.chosen.devices)
    assert {one.engine for one in found.serving.engines} == {"transformers", "vllm", "tgi"}

    job = await house.create()
    queued = await house.trainer.until(job.name, TrainingJob.RUNNING)
    assert queued.preflight == found


async def test_long_rows_are_counted_and_full_tuning_serves_a_whole_model(house: House) -> None:
    file = await house.dataset.add(TEXT * 3 + LONG)
    job = await house.create(
        house.draft(training_file=file.name, supervised=supervised(tuning_mode=FULL)),
        validate_only=True,
    )
    found = job.preflight
    assert found.data.truncated_share == 0.25
    assert found.data.tokens_per_epoch == 3 * 13
    assert found.trainable_parameters == found.total_parameters
    assert found.serving.adapter_bytes == 0


async def test_a_module_that_is_not_there_is_refused_with_those_that_are(house: House) -> None:
    draft = house.draft(supervised=supervised(target_modules=["q_prj"]))
    with pytest.raises(InvalidArgument, match=r"'q_prj'.*q_proj") as caught:
        await house.create(draft, validate_only=True)
    assert caught.value.reason == "UNKNOWN_TARGET_MODULE"


async def test_rows_that_are_all_too_long_are_refused(house: House) -> None:
    file = await house.dataset.add(LONG)
    with pytest.raises(InvalidArgument, match="no row is within max_row_tokens, 256 tokens"):
        await house.create(house.draft(training_file=file.name), validate_only=True)


async def test_bad_rows_among_good_ones_are_listed(house: House) -> None:
    file = await house.dataset.add(TEXT + b'{"text": 1}\n' + TEXT)
    job = await house.create(house.draft(training_file=file.name), validate_only=True)
    (refused,) = job.preflight.data.refused_rows
    assert (refused.line, refused.reason) == (2, "has a `text` that is not a string")
    assert job.preflight.data.accepted_row_count == 2
