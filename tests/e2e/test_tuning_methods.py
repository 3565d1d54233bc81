"""Every way of tuning, from the API to the registry, by real runs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import signal
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import GetAdapterRequest
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.base_model_service_pb2 import GetBaseModelRequest
from luthier.trainer.v1.training_job_pb2 import PublicationGate, TrainingJob
from luthier.trainer.v1.tuning_pb2 import (
    BF16,
    FP4,
    FP32,
    FULL,
    INT8,
    NF4,
    Hyperparameters,
    PreferenceTuningSpec,
    SupervisedTuningSpec,
)
from luthier_common.objects.folders import fetch_folder
from luthier_trainer.launchers import ChildProcessLauncher

from tests.support.eventually import eventually
from tests.support.forked_runs import Faults, ForkServer
from tests.support.tiny_architectures import save_architecture
from tests.support.tiny_model import save_base
from tests.support.trainer_house import House, open_house

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
LAYERS = 14
"""Linear layers of the decoder beside its head."""
NAMES, JUDGED = "abcdefgh", "ac"
CHAT, PAIR, PREFERENCE = "chat", "pair", "preference"
BATCH, EPOCHS = 4, 3
STEPS = len(NAMES) // BATCH * EPOCHS
FINAL = (TrainingJob.SUCCEEDED, TrainingJob.FAILED, TrainingJob.CANCELLED)
ROUGES = {"exact_match", "rouge1", "rouge2", "rougeL"}


def rows_of(kind: str, names: Iterable[str]) -> bytes:
    return b"".join(json.dumps(row_of(kind, name)).encode() + b"\n" for name in names)


def row_of(kind: str, name: str) -> dict[str, Any]:
    asked, answer = {"role": "user", "content": f"Item {name}?"}, f"It is {name * 3}."
    if kind == PAIR:
        return {"prompt": asked["content"], "completion": answer}
    if kind == CHAT:
        return {"messages": [asked, {"role": "assistant", "content": answer}]}
    return {
        "input": {"messages": [asked]},
        "preferred_output": [{"role": "assistant", "content": answer}],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }


class Workshop:
    """The house, its models, its files, and the jobs in it."""

    def __init__(self, house: House, t5: BaseModel, snapshot: Path, files: dict[str, str]) -> None:
        self.house = house
        self.t5 = t5
        self.snapshot = snapshot
        self.files = files

    async def job(self, kind: str = CHAT, *, judged: bool = False, **fields: Any) -> TrainingJob:
        """Create a job with its first hyperparameters among the fields."""
        chosen = {
            name: fields.pop(name)
            for name in list(fields)
            if name in Hyperparameters.DESCRIPTOR.fields_by_name
        }
        given: dict[str, Any] = {"epoch_count": EPOCHS, "batch_size": BATCH, "lora_rank": 4}
        if chosen.get("tuning_mode") == FULL:
            del given["lora_rank"]
        hyperparameters = Hyperparameters(**(given | chosen))
        if kind == PREFERENCE:
            beta = fields.pop("beta", None)
            fields["preference"] = PreferenceTuningSpec(hyperparameters=hyperparameters, beta=beta)
        else:
            fields["supervised"] = SupervisedTuningSpec(hyperparameters=hyperparameters)
        if judged:
            fields["validation_file"] = self.files[f"{kind}, judged"]
        fields = {"base_model": self.house.base.name, "seed": 3} | fields
        fields = {"training_file": self.files[kind]} | fields
        return await self.house.create(TrainingJob(**fields))

    async def ended(self, job: TrainingJob) -> TrainingJob:
        async def final() -> bool:
            return (await self.house.trainer.get(job.name)).state in FINAL

        await eventually(final, 60)
        return await self.house.trainer.get(job.name)

    async def done(self, kind: str = CHAT, *, judged: bool = False, **fields: Any) -> TrainingJob:
        """Return a job that has succeeded."""
        job = await self.ended(await self.job(kind, judged=judged, **fields))
        assert job.state == TrainingJob.SUCCEEDED, job.error.message
        return job

    async def adapter(self, name: str) -> Adapter:
        request = GetAdapterRequest(name=name)
        return await self.house.inference.adapters().GetAdapter(request)  # type: ignore[no-any-return]

    async def model(self, name: str) -> BaseModel:
        request = GetBaseModelRequest(name=name)
        return await self.house.inference.base_models().GetBaseModel(request)  # type: ignore[no-any-return]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workshop(
    tmp_path_factory: pytest.TempPathFactory, forks: ForkServer
) -> AsyncIterator[Workshop]:
    folder = tmp_path_factory.mktemp("workshop")
    snapshot = save_base(tmp_path_factory.mktemp("llama"))
    faults: Faults = {"quickly": {}}
    async with open_house(
        folder, snapshot, launcher_for=partial(forks.launcher, faults=faults)
    ) as house:
        t5 = save_architecture("t5", tmp_path_factory.mktemp("t5"))
        files = {}
        for kind in (CHAT, PAIR, PREFERENCE):
            for name, names in ((kind, NAMES), (f"{kind}, judged", JUDGED)):
                files[name] = (await house.dataset.add(rows_of(kind, names))).name
        yield Workshop(house, await house.inference.import_base(t5, name="t5"), snapshot, files)


METHODS: dict[str, tuple[str, dict[str, Any], str]] = {
    "LoRA, FP32": (CHAT, {"base_precision": FP32}, "weights in FP32"),
    "LoRA, BF16": (CHAT, {"base_precision": BF16}, "weights in BF16"),
    "LoRA, 8 bits": (CHAT, {"base_precision": INT8}, "14 linear layers in 8 bits"),
    "QLoRA, NF4 double": (
        CHAT,
        {"base_precision": NF4, "double_quantization": True},
        "14 linear layers in NF4 with double quantization",
    ),
    "QLoRA, FP4": (
        CHAT,
        {"base_precision": FP4, "double_quantization": False},
        "14 linear layers in FP4",
    ),
    "LoRA on pairs": (PAIR, {"base_precision": FP32}, "weights in FP32"),
    "DPO": (PREFERENCE, {"beta": 0.2}, "14 linear layers in NF4 with double quantization"),
}
"""Rows, what is chosen, and what the run says of the model."""


@pytest.mark.parametrize("method", METHODS)
async def test_an_adapter_of_each_method_is_published(method: str, workshop: Workshop) -> None:
    kind, chosen, said = METHODS[method]
    job = await workshop.done(kind, **chosen)
    adapter = await workshop.adapter(job.adapter)
    assert {file.path for file in adapter.files} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "probe.json",
    }
    assert len(adapter.digest) == 64
    assert (adapter.training_job, adapter.hold_reason) == (job.name, "")
    assert adapter.metrics == job.result.metrics
    assert adapter.metrics["train_loss"] > 0
    assert adapter.configuration["method"] == ("dpo" if kind == PREFERENCE else "supervised")
    if "beta" in chosen:
        assert adapter.configuration["beta"] == str(chosen["beta"])
    assert job.result.quantized_layers == (0 if said.startswith("weights") else LAYERS)
    assert job.result.trainable_parameters > 0

    told = await workshop.house.trainer.messages(job.name)
    once = [
        f"Created fine-tuning job: {job.name.rpartition('/')[2]}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        "New fine-tuned model created",
        "The job has successfully completed",
    ]
    assert [message for message in told if message in once] == once
    assert any(message.startswith(f"{said}; ") for message in told)
    assert any(message.startswith(f"Step {STEPS}/{STEPS}: ") for message in told)


async def test_full_tuning_makes_a_model_of_its_own(workshop: Workshop, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    job = await workshop.done(tuning_mode=FULL, learning_rate_multiplier=100.0)
    model = await workshop.model(job.tuned_base_model)
    assert not job.adapter
    assert model.tuning_origin.training_job == job.name
    assert model.tuning_origin.metrics == job.result.metrics
    assert model.architecture == "LlamaForCausalLM"
    assert job.result.trainable_parameters == model.parameter_count
    found: list[torch.Tensor] = []
    for base, folder in ((workshop.house.base, tmp_path / "base"), (model, tmp_path / "tuned")):
        files = [(file.path, file.sha256) for file in base.files]
        project = base.name.split("/")[1]
        await fetch_folder(workshop.house.inference.blobs, project, files, folder)
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            found.append(loaded(torch.arange(5, 25).unsqueeze(0)).logits)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


@pytest.mark.parametrize(("precision", "layers"), [(FP32, False), (NF4, True)])
async def test_an_encoder_decoder_learns_pairs_and_is_asked(
    precision: Any, layers: bool, workshop: Workshop
) -> None:
    job = await workshop.done(
        PAIR, base_model=workshop.t5.name, judged=True, base_precision=precision, epoch_count=1
    )
    adapter = await workshop.adapter(job.adapter)
    assert {f"{prefix}{name}" for name in ROUGES for prefix in ("", "base_")} <= set(
        adapter.metrics
    )
    assert (job.result.quantized_layers > 0) == layers
    assert adapter.base_model == workshop.t5.name


async def test_preferences_are_judged_by_their_rewards(workshop: Workshop) -> None:
    job = await workshop.done(PREFERENCE, judged=True, epoch_count=1)
    assert {"valid_reward_accuracy", "valid_reward_margin", "valid_loss"} <= set(job.result.metrics)
    assert "perplexity" not in job.result.metrics


async def test_the_best_step_by_validation_is_handed_over(workshop: Workshop) -> None:
    """What is judged says something else than what is learned: the more is learned, the worse."""
    other = [row_of(CHAT, name) for name in JUDGED]
    for row in other:
        row["messages"][1]["content"] = "No."
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in other)
    job = await workshop.done(
        validation_file=(await workshop.house.dataset.add(lines)).name,
        epoch_count=6,
        learning_rate_multiplier=100.0,
        base_precision=FP32,
    )
    content = await workshop.house.dataset.content(job.result_files[0])
    rows = csv.DictReader(io.StringIO(content.decode()))
    judged = {int(row["step"]): float(row["valid_loss"]) for row in rows if row["valid_loss"]}
    best = min(judged, key=judged.__getitem__)
    assert job.result.best_step == best
    assert job.result.metrics["valid_loss"] == pytest.approx(judged[best], abs=1e-4)
    assert best < max(judged), "else this shows nothing"


async def test_what_was_forgotten_is_told(workshop: Workshop) -> None:
    job = await workshop.done(regression_file=workshop.files[f"{CHAT}, judged"])
    metrics = (await workshop.adapter(job.adapter)).metrics
    assert metrics["base_regression_loss"] != metrics["regression_loss"]
    assert metrics["regression_perplexity"] == pytest.approx(math.exp(metrics["regression_loss"]))
    assert "regression_mean_token_accuracy" in metrics
    assert "valid_loss" not in metrics


async def test_the_last_epochs_are_published_on_the_way(workshop: Workshop) -> None:
    job = await workshop.done(judged=True)
    assert [checkpoint.step for checkpoint in job.checkpoints] == [
        epoch * STEPS // EPOCHS for epoch in range(1, EPOCHS)
    ]
    published = [await workshop.adapter(checkpoint.adapter) for checkpoint in job.checkpoints]
    final = await workshop.adapter(job.adapter)
    assert len({adapter.digest for adapter in (*published, final)}) == EPOCHS
    for checkpoint, adapter in zip(job.checkpoints, published, strict=True):
        assert adapter.configuration["step"] == str(checkpoint.step)
        assert adapter.training_job == job.name
        assert checkpoint.metrics["valid_loss"] > 0
    told = await workshop.house.trainer.messages(job.name)
    for checkpoint in job.checkpoints:
        assert told.count(f"Checkpoint created at step {checkpoint.step}") == 1


async def test_a_job_goes_on_from_an_earlier_adapter(workshop: Workshop) -> None:
    first = await workshop.done(judged=True, base_precision=FP32)
    second = await workshop.done(judged=True, base_precision=FP32, start_adapter=first.adapter)
    began, ended = second.result.metrics["base_valid_loss"], first.result.metrics["valid_loss"]
    assert began == pytest.approx(ended, abs=1e-4)
    assert second.result.metrics["valid_loss"] < ended
    adapter = await workshop.adapter(second.adapter)
    assert adapter.configuration["start_adapter"] == first.adapter
    assert adapter.digest != (await workshop.adapter(first.adapter)).digest


async def test_a_gate_holds_what_does_not_reach_it(workshop: Workshop) -> None:
    gate = PublicationGate(metric="valid_loss", threshold=0.01)
    job = await workshop.done(judged=True, gate=gate)
    assert job.gate_failure.startswith("valid_loss is ")
    adapter = await workshop.adapter(job.adapter)
    assert adapter.hold_reason == job.gate_failure
    told = await workshop.house.trainer.messages(job.name)
    assert f"The model is kept and not served: {job.gate_failure}" in told


async def test_a_gate_lets_through_what_reaches_it(workshop: Workshop) -> None:
    gate = PublicationGate(metric="valid_loss", improvement=0.5)
    job = await workshop.done(judged=True, gate=gate)
    assert not job.gate_failure
    assert not (await workshop.adapter(job.adapter)).hold_reason


async def test_a_row_that_cannot_be_learned_is_named(workshop: Workshop) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    hostile = row_of(CHAT, "c")
    hostile["messages"][1] = {"role": "assistant", "tool_calls": [call]}
    lines = rows_of(CHAT, "ab") + json.dumps(hostile).encode()
    file = await workshop.house.dataset.add(lines)
    job = await workshop.ended(await workshop.job(training_file=file.name))
    assert job.state == TrainingJob.FAILED
    assert job.error.message.startswith("training rows, line 3: the model's chat template has no")
    assert not job.adapter

    async def told() -> bool:
        last = (await workshop.house.trainer.messages(job.name))[-1]
        return last == f"The job failed: {job.error.message}"

    await eventually(told)


async def test_a_process_of_its_own_told_to_stop_gives_back_and_the_next_makes_the_same(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that is drained: SIGTERM, exit code 75, another run, the same bytes."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    epochs = 40
    expected = await workshop.job(epoch_count=epochs)
    async with open_house(tmp_path, workshop.snapshot, launcher_for=ChildProcessLauncher) as apart:
        rows = await apart.dataset.add(rows_of(CHAT, NAMES))
        theirs = Workshop(apart, apart.base, workshop.snapshot, {CHAT: rows.name})
        job = await theirs.job(epoch_count=epochs)

        async def steps() -> int:
            return (await apart.trainer.get(job.name)).progress.step

        await eventually(steps, 60)
        (run,) = [
            child
            for child in psutil.Process().children(recursive=True)
            if "luthier_trainer.run" in child.cmdline()
        ]
        run.send_signal(signal.SIGTERM)
        ended = await theirs.ended(job)
        assert ended.state == TrainingJob.SUCCEEDED, ended.error.message
        assert (ended.epoch, ended.fault_count) == (2, 0)
        told = " ".join(await apart.trainer.messages(job.name))
        gave_back = re.search(
            r"The run saved its state at step (\d+) and gave the device back; "
            r"it will go on from step \1",
            told,
        )
        assert gave_back, told
        assert 0 < int(gave_back[1]) < epochs * STEPS // EPOCHS
        adapter = await theirs.adapter(ended.adapter)
    whole = await workshop.adapter((await workshop.ended(expected)).adapter)
    assert [file.sha256 for file in adapter.files] == [file.sha256 for file in whole.files]
