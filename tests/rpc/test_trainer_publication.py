"""What becomes of a run's result: published in the real registry, held back, never twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import GetAdapterRequest, ListAdaptersRequest
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.base_model_service_pb2 import (
    GetBaseModelRequest,
    ListBaseModelsRequest,
)
from luthier.trainer.v1.training_job_pb2 import (
    ArtifactFile,
    PublicationGate,
    TrainingJob,
    TrainingResult,
)
from luthier.trainer.v1.tuning_pb2 import Precision, ResolvedHyperparameters, TuningMode
from luthier_common.errors import DataLoss, FailedPrecondition
from luthier_common.identity import IdentitySigner
from luthier_common.rpc.client import connect
from luthier_trainer.peers import Peers
from luthier_trainer.publish import Publisher

from tests.support.grpc_server import SECRET
from tests.support.inference_service import Inference, inference_service
from tests.support.scripted_datasets import ScriptedDatasets, scripted_datasets
from tests.support.tiny_model import save_adapter, save_base

pytestmark = pytest.mark.asyncio(loop_scope="module")

CSV = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2.5,0.1,,\n"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class House:
    """The registry, a scripted dataset service, and what publishes there."""

    inference: Inference
    dataset: ScriptedDatasets
    publisher: Publisher
    base: BaseModel
    snapshot: Path
    adapter: Path

    async def artifacts(self, *paths: Path) -> list[ArtifactFile]:
        """Store files as a run does."""
        files = [await self.inference.upload(path, "acme") for path in paths]
        return [
            ArtifactFile(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes)
            for file in files
        ]

    async def job(self, job_id: str, **fields: Any) -> TrainingJob:
        """Return a job whose run has committed an adapter."""
        figures = await self.inference.blobs.put_bytes("acme", CSV)
        values: dict[str, Any] = {
            "name": f"projects/acme/trainingJobs/{job_id}",
            "base_model": self.base.name,
            "base_model_digest": self.base.digest,
            "training_file_sha256": "d" * 64,
            "suffix": "care",
            "resolved_hyperparameters": ResolvedHyperparameters(
                tuning_mode=TuningMode.LORA, base_precision=Precision.NF4, lora_rank=4
            ),
            "result": TrainingResult(
                model_files=await self.artifacts(*sorted(self.adapter.iterdir())),
                metrics={"rougeL": 0.5, "base_rougeL": 0.25},
                metrics_file=ArtifactFile(
                    path="step_metrics.csv", sha256=figures.sha256, size_bytes=figures.size
                ),
            ),
        }
        return TrainingJob(**(values | fields))

    async def full_job(self, job_id: str, folder: Path, **fields: Any) -> TrainingJob:
        """Return a job whose run has committed weights and the configuration beside them."""
        weights = folder / WEIGHTS
        numbers = bytearray((self.snapshot / WEIGHTS).read_bytes())
        numbers[-4] ^= 1  # the last bit of a number
        weights.write_bytes(numbers)
        job = await self.job(job_id, **fields)
        job.resolved_hyperparameters.tuning_mode = TuningMode.FULL
        job.resolved_hyperparameters.base_precision = Precision.FP32
        del job.result.model_files[:]
        files = await self.artifacts(weights, self.snapshot / "config.json")
        job.result.model_files.extend(files)
        return job

    async def adapter_of(self, name: str) -> Adapter:
        return await self.inference.adapters().GetAdapter(GetAdapterRequest(name=name))  # type: ignore[no-any-return]

    async def model_of(self, name: str) -> BaseModel:
        return await self.inference.base_models().GetBaseModel(GetBaseModelRequest(name=name))  # type: ignore[no-any-return]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    snapshot = save_base(tmp_path_factory.mktemp("base"))
    adapter = save_adapter(tmp_path_factory.mktemp("adapter"), snapshot, seed=1)
    (adapter / "README.md").unlink(missing_ok=True)
    signer = IdentitySigner(SECRET)
    async with AsyncExitStack() as stack:
        folder = tmp_path_factory.mktemp("services")
        inference = await stack.enter_async_context(inference_service(folder))
        dataset = await stack.enter_async_context(scripted_datasets(inference.blobs))
        peers = Peers(
            await stack.enter_async_context(connect(dataset.address, signer=signer)),
            await stack.enter_async_context(connect(inference.address, signer=signer)),
        )
        base = await inference.import_base(snapshot)
        publisher = Publisher(inference.blobs, peers)
        yield House(inference, dataset, publisher, base, snapshot, adapter)


async def test_an_adapter_is_published_with_all_that_it_came_from(house: House) -> None:
    job = await house.job("ftjob-lora", start_adapter="projects/acme/adapters/earlier")
    published = await house.publisher.publish(job)
    adapter = await house.adapter_of(published.adapter)
    assert (published.tuned_base_model, published.gate_failure) == ("", "")
    assert (adapter.training_job, adapter.suffix) == (job.name, "care")
    assert adapter.dataset_digest == job.training_file_sha256
    assert adapter.metrics["rougeL"] == 0.5
    assert adapter.configuration["lora_rank"] == "4"
    assert adapter.configuration["start_adapter"] == "projects/acme/adapters/earlier"
    (figures,) = published.result_files
    assert house.dataset.files[figures].purpose == File.FINE_TUNE_RESULTS
    assert await house.dataset.content(figures) == CSV


async def test_publishing_again_changes_nothing(house: House, tmp_path: Path) -> None:
    lora, full = await house.job("ftjob-twice"), await house.full_job("ftjob-again", tmp_path)
    first = [await house.publisher.publish(job) for job in (lora, full)]
    made = await house.adapter_of(first[0].adapter), await house.model_of(first[1].tuned_base_model)
    assert [await house.publisher.publish(job) for job in (lora, full)] == first
    assert made == (
        await house.adapter_of(first[0].adapter),
        await house.model_of(first[1].tuned_base_model),
    )


async def test_full_tuning_makes_a_model_of_the_jobs_own_project(
    house: House, tmp_path: Path
) -> None:
    job = await house.full_job("ftjob-full", tmp_path)
    published = await house.publisher.publish(job)
    assert published.adapter == ""
    model = await house.model_of(published.tuned_base_model)
    assert model.name.startswith("projects/acme/baseModels/m")
    assert model.tokenizer_digest == house.base.tokenizer_digest
    paths = {file.path for file in model.files}
    assert {WEIGHTS, "config.json", "tokenizer.json"} <= paths
    weights = [
        [file.sha256 for file in of.files if file.path == WEIGHTS] for of in (model, house.base)
    ]
    assert weights[0] != weights[1], "the library's weights are not the tuned ones"
    for file in model.files:
        assert await house.inference.blobs.exists("acme", file.sha256)
    origin = model.tuning_origin
    assert (origin.training_job, origin.base_model) == (job.name, house.base.name)
    assert (origin.base_model_digest, origin.suffix) == (house.base.digest, "care")
    assert origin.configuration["tuning_mode"] == "full"
    assert origin.metrics["rougeL"] == 0.5


async def test_a_fully_tuned_model_can_be_tuned_on(house: House, tmp_path: Path) -> None:
    first = await house.publisher.publish(await house.full_job("ftjob-one", tmp_path))
    base = await house.model_of(first.tuned_base_model)
    given = {"base_model": base.name, "base_model_digest": base.digest}
    second = await house.publisher.publish(await house.full_job("ftjob-two", tmp_path, **given))
    model = await house.model_of(second.tuned_base_model)
    assert model.tuning_origin.base_model == base.name
    third = await house.publisher.publish(await house.job("ftjob-three", **given))
    assert (await house.adapter_of(third.adapter)).base_model == base.name


@pytest.mark.parametrize("full", [False, True])
async def test_a_result_that_does_not_pass_its_gate_is_kept_and_not_served(
    house: House, tmp_path: Path, full: bool
) -> None:
    gate = PublicationGate(metric="rougeL", improvement=0.5)
    if full:
        job = await house.full_job("ftjob-gated-full", tmp_path, gate=gate)
    else:
        job = await house.job("ftjob-gated", gate=gate)
    published = await house.publisher.publish(job)
    said = "rougeL is 0.5 after 0.25; the gate asks for 0.5 better"
    assert published.gate_failure == said
    if full:
        model = await house.model_of(published.tuned_base_model)
        assert model.tuning_origin.hold_reason == said
    else:
        assert (await house.adapter_of(published.adapter)).hold_reason == said
    with pytest.raises(FailedPrecondition) as caught:
        await house.inference.chat(published.adapter or published.tuned_base_model)
    assert said in caught.value.message


async def test_a_result_that_passes_its_gate_is_not_held(house: House) -> None:
    gate = PublicationGate(metric="rougeL", threshold=0.5, improvement=0.25)
    published = await house.publisher.publish(await house.job("ftjob-passes", gate=gate))
    assert published.gate_failure == ""
    assert (await house.adapter_of(published.adapter)).hold_reason == ""


async def test_a_snapshot_is_an_adapter_beside_the_result(house: House) -> None:
    job = await house.job("ftjob-snapshots")
    files = list(job.result.model_files)
    names = [
        await house.publisher.publish_checkpoint(job, step, files, {"valid_loss": 1.0})
        for step in (5, 5, 10)
    ]
    assert names[0] == names[1]
    result = await house.publisher.publish(job)
    assert names[0::2] == [f"{result.adapter}-s5", f"{result.adapter}-s10"]
    snapshot = await house.adapter_of(names[0])
    assert snapshot.configuration["step"] == "5"
    assert dict(snapshot.metrics) == {"valid_loss": 1.0}
    assert (snapshot.suffix, snapshot.hold_reason) == ("care", "")


async def test_a_snapshot_is_no_way_around_the_gate(house: House) -> None:
    job = await house.job("ftjob-around", gate=PublicationGate(metric="rougeL", threshold=0.1))
    files = list(job.result.model_files)
    held = await house.publisher.publish_checkpoint(job, 1, files, {"valid_loss": 1.0})
    assert "not measured" in (await house.adapter_of(held)).hold_reason
    served = await house.publisher.publish_checkpoint(job, 2, files, {"rougeL": 0.2})
    assert (await house.adapter_of(served)).hold_reason == ""


async def test_a_snapshot_may_be_an_improvement(house: House) -> None:
    job = await house.job(
        "ftjob-better", gate=PublicationGate(metric="valid_loss", improvement=0.25)
    )
    files = list(job.result.model_files)
    figures = {"base_valid_loss": 2.0, "valid_loss": 1.0}
    served = await house.publisher.publish_checkpoint(job, 1, files, figures)
    assert (await house.adapter_of(served)).hold_reason == ""


async def published_of(house: House, job: TrainingJob) -> list[str]:
    """Return what the registry holds of a job."""
    adapters = await house.inference.adapters().ListAdapters(
        ListAdaptersRequest(parent="projects/acme")
    )
    models = await house.inference.base_models().ListBaseModels(
        ListBaseModelsRequest(parent="projects/acme")
    )
    return [one.name for one in adapters.adapters if one.training_job == job.name] + [
        one.name for one in models.base_models if one.tuning_origin.training_job == job.name
    ]


@pytest.mark.parametrize("full", [False, True])
async def test_a_base_model_that_is_another_by_now_is_not_built_upon(
    house: House, tmp_path: Path, full: bool
) -> None:
    changed = {"base_model_digest": "0" * 64}
    if full:
        job = await house.full_job("ftjob-moved-full", tmp_path, **changed)
    else:
        job = await house.job("ftjob-moved", **changed)
    with pytest.raises(FailedPrecondition) as caught:
        await house.publisher.publish(job)
    assert caught.value.reason == "BASE_MODEL_CHANGED"
    assert await published_of(house, job) == []


async def test_nothing_is_published_of_bytes_that_are_damaged(house: House, tmp_path: Path) -> None:
    job = await house.full_job("ftjob-damaged", tmp_path)
    weights = job.result.model_files[0]
    other = tmp_path / "other.safetensors"
    other.write_bytes((house.snapshot / "model.safetensors").read_bytes() + b"\0")
    (file,) = await house.artifacts(other)
    weights.sha256, weights.size_bytes = file.sha256, file.size_bytes
    house.inference.flip_byte(file.sha256)
    with pytest.raises(DataLoss):
        await house.publisher.publish(job)
    assert await published_of(house, job) == []
