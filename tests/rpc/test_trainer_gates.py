"""Jobs with a gate, from creation to a model that is kept and not served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from luthier.inference.v1.adapter_service_pb2 import GetAdapterRequest
from luthier.trainer.v1.calibration_pb2 import Calibration
from luthier.trainer.v1.training_job_pb2 import (
    ArtifactFile,
    Measurement,
    PublicationGate,
    TrainingJob,
    TrainingJobEvent,
    TrainingResult,
)
from luthier_common.errors import InvalidArgument
from luthier_common.nats_client import open_nats
from luthier_common.records.collection import Collection
from luthier_common.records.jetstream import open_records
from luthier_trainer.calibrations import PATTERN

from tests.support.eventually import eventually
from tests.support.tiny_model import save_adapter, save_base
from tests.support.trainer_house import House, open_house


async def result_of(house: House, adapter: Path, **fields: Any) -> TrainingResult:
    """Store an adapter and figures as a run does."""
    files = [
        await house.inference.upload(path, "acme")
        for path in sorted(adapter.iterdir())
        if path.name != "README.md"
    ]
    figures = await house.inference.blobs.put_bytes("acme", b"step\n1\n")
    return TrainingResult(
        model_files=[
            ArtifactFile(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes)
            for file in files
        ],
        metrics_file=ArtifactFile(
            path="step_metrics.csv", sha256=figures.sha256, size_bytes=figures.size
        ),
        **fields,
    )


async def test_a_gate_is_checked_at_once_and_held_against_the_result(tmp_path: Path) -> None:
    snapshot = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", snapshot, seed=1)
    async with open_house(tmp_path / "services", snapshot) as house:
        gate = PublicationGate(metric="rougeL", threshold=0.5)
        with pytest.raises(InvalidArgument) as caught:
            await house.create(house.draft(gate=gate))  # without rows to judge by
        assert caught.value.field == "training_job.gate.metric"

        gate = PublicationGate(metric="train_loss", threshold=0.5)
        job = await house.create(house.draft(gate=gate))
        run = await house.trainer.stage.run()
        measured = Measurement(device_class="cpu", tokens_per_second=50.0, step_count=3)
        result = await result_of(house, adapter, metrics={"train_loss": 0.75}, measurement=measured)
        await house.trainer.complete(run, result)
        done = await house.trainer.until(job.name, TrainingJob.SUCCEEDED)

        said = "train_loss is 0.75; the gate asks for at most 0.5"
        assert done.gate_failure == said
        held = await house.inference.adapters().GetAdapter(GetAdapterRequest(name=done.adapter))
        assert held.hold_reason == said

        async def warned() -> bool:
            events = await house.trainer.events(job.name)
            return any(e.level == TrainingJobEvent.WARN and said in e.message for e in events)

        await eventually(warned)
        async with open_nats(house.inference.nats_url, name="test") as nats:
            records = await open_records(nats.jetstream(), "trainer")
            async with Collection(records, Calibration, PATTERN) as calibrations:
                await eventually(lambda: bool(calibrations.values()))
                (one,) = calibrations.values()
        assert (one.device_class, one.architecture) == ("cpu", house.base.architecture)
        assert [point.tokens_per_second for point in one.points] == [50.0]
