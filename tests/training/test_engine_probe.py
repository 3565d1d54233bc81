"""What tuning computed last, and what serving makes of it: one that differs is not served."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from luthier.inference.v1.adapter_pb2 import Adapter, ProbeResult
from luthier.inference.v1.adapter_service_pb2 import CreateAdapterRequest, GetAdapterRequest
from luthier.trainer.v1.tuning_pb2 import BF16, FP32, INT8, NF4
from luthier_common.errors import DataLoss, FailedPrecondition
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.probing import judge, read_probe

from tests.support.engine_rows import engine_bench, weights
from tests.support.eventually import eventually
from tests.support.inference_service import Inference, inference_service
from tests.support.tiny_runs import CHAT, PAIR, PREFERENCE, inputs_of, run

PROBE = "probe.json"


async def probed(
    base: Path, adapter: Path, served: Any, changed: LoraWeights | None = None
) -> ProbeResult:
    """What an engine that holds the base so makes of an adapter's probe."""
    async with engine_bench(base, precision=served) as bench:
        probe = read_probe(
            (adapter / PROBE).read_bytes(),
            start=bench.model.start,
            vocabulary=bench.model.vocabulary_size,
        )
        given = changed or weights(adapter)
        seen = [await bench.scheduler.examine(row, given) for row in probe.rows]
        assert bench.memory.cache.used_bytes == 0
        return judge(probe, seen, served)


@pytest.mark.parametrize(
    ("kind", "tuned", "served", "most"),
    [
        (CHAT, NF4, "nf4", 1e-3),
        (CHAT, NF4, "nf4-packed", 0.15),
        (CHAT, FP32, "fp32", 1e-3),
        (CHAT, BF16, "bf16", 0.15),
        (CHAT, INT8, "int8", 0.15),
        (CHAT, FP32, "bf16", 0.15),
        (PAIR, NF4, "nf4", 1e-3),
        (PREFERENCE, NF4, "nf4", 1e-3),
    ],
)
async def test_serving_computes_what_tuning_did(
    llama: Path, rows: Path, tmp_path: Path, kind: str, tuned: Any, served: Any, most: float
) -> None:
    made = run(inputs_of(llama, rows, tmp_path, kind, base_precision=tuned))
    result = await probed(llama, made.folder, served)
    assert result.divergence < most
    assert result.bound >= result.divergence
    assert result.passed
    # The base alone, as if the adapter had been lost on the way, is told apart.
    adapter = weights(made.folder)
    nothing = {name: (a, b * 0) for name, (a, b) in adapter.layers.items()}
    lost = LoraWeights(adapter.digest, adapter.rank, adapter.scale, nothing)
    without = await probed(llama, made.folder, served, lost)
    assert without.divergence > 5 * result.divergence
    if kind != PREFERENCE:  # whose few steps change little
        assert not without.passed


async def test_an_encoder_decoder_too(t5: Path, rows: Path, tmp_path: Path) -> None:
    made = run(inputs_of(t5, rows, tmp_path, PAIR, judged=True, base_precision=FP32))
    result = await probed(t5, made.folder, "fp32")
    assert result.passed
    assert result.divergence < 1e-3
    assert result.trained_accuracy == result.served_accuracy


@pytest_asyncio.fixture
async def inference(tmp_path: Path) -> AsyncIterator[Inference]:
    async with inference_service(tmp_path, precision="nf4") as running:
        yield running


async def publish(inference: Inference, folder: Path, base: Any, name: str) -> Adapter:
    adapter = await inference.adapter(folder, base)
    request = CreateAdapterRequest(parent="projects/acme", adapter=adapter, adapter_id=name)
    created: Adapter = await inference.adapters().CreateAdapter(request)
    return created


async def publish_false(inference: Inference, made: Path, base: Any, folder: Path) -> Adapter:
    """Publish an adapter again, with other log-probabilities in its probe."""
    shutil.copytree(made, folder)
    probe = json.loads((folder / PROBE).read_text())
    for row in probe["rows"]:
        row["logprobs"] = [logprob - 1.0 for logprob in row["logprobs"]]
    (folder / PROBE).write_text(json.dumps(probe))
    return await publish(inference, folder, base, "held")


def refused(inference: Inference) -> float:
    """Requests that an engine has refused; those that the service refuses do not count."""
    labels = {"base_model": "tiny", "method": "chat", "code": "FAILED_PRECONDITION"}
    registry = inference.lifespan.registry
    return registry.get_sample_value("luthier_inference_requests_total", labels) or 0


@pytest.mark.parametrize("running", [True, False])
async def test_an_adapter_that_diverges_is_held_and_says_why(
    inference: Inference, llama: Path, rows: Path, tmp_path: Path, running: bool
) -> None:
    made = run(inputs_of(llama, rows, tmp_path / "run"))
    base = await inference.import_base(llama)
    if running:
        assert (await inference.chat(base.name)).text
    sound = await publish(inference, made.folder, base, "sound")
    held = await publish_false(inference, made.folder, base, tmp_path / "false")
    assert (await inference.chat(sound.name)).digests == {(base.digest, sound.digest)}
    with pytest.raises(FailedPrecondition, match=r"1\.0\d\d nats a token") as caught:
        await inference.chat(held.name)
    assert caught.value.reason == "ADAPTER_DIVERGES"

    async def states() -> bool:
        got = [
            await inference.adapters().GetAdapter(GetAdapterRequest(name=adapter.name))
            for adapter in (sound, held)
        ]
        return [each.state for each in got] == [Adapter.READY, Adapter.HELD] and all(
            len(each.probe_results) == 1 for each in got
        )

    await eventually(states)
    # What is known now changes nothing about what it is called by.
    assert (await inference.chat(sound.name)).digests == {(base.digest, sound.digest)}
    before = refused(inference)
    assert before == 1 or running
    with pytest.raises(FailedPrecondition) as again:
        await inference.chat(held.name)
    assert again.value.message == caught.value.message
    assert refused(inference) == before, "no engine was asked"


async def test_nobody_says_what_his_own_probe_shows(
    inference: Inference, llama: Path, rows: Path, tmp_path: Path
) -> None:
    made = run(inputs_of(llama, rows, tmp_path / "run"))
    base = await inference.import_base(llama)
    adapter = await inference.adapter(made.folder, base)
    adapter.probe_results.add(engine="transformers", served_precision="nf4", passed=True)
    request = CreateAdapterRequest(parent="projects/acme", adapter=adapter, adapter_id="praised")
    assert not (await inference.adapters().CreateAdapter(request)).probe_results


@pytest.mark.parametrize(
    "probe",
    [
        b"no json",
        b"[]",
        b'{"version": 2, "rows": []}',
        b'{"version": 1, "precision": "nf4", "rows": []}',
        b'{"version": 1, "rows": [{"first": [1], "tokens": [99999], "logprobs": [-1.0], '
        b'"likeliest": [1]}]}',
        b'{"version": 1, "rows": [{"first": [1], "tokens": [2, 3], "logprobs": [-1.0], '
        b'"likeliest": [1, 1]}]}',
        b'{"version": 1, "rows": [{"first": [1], "tokens": [2], "logprobs": ["x"], '
        b'"likeliest": [1]}]}',
        b'{"version": 1, "rows": [{"first": [], "tokens": [2], "logprobs": [-1.0], '
        b'"likeliest": [1]}]}',
    ],
)
def test_a_probe_that_is_none_is_refused(probe: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_probe(probe, start=(), vocabulary=261)


async def test_a_damaged_probe_fails_closed(
    inference: Inference, llama: Path, rows: Path, tmp_path: Path
) -> None:
    made = run(inputs_of(llama, rows, tmp_path / "run"))
    base = await inference.import_base(llama)
    (made.folder / PROBE).write_text("{}")
    adapter = await publish(inference, made.folder, base, "damaged")
    with pytest.raises(DataLoss, match="probe"):
        await inference.chat(adapter.name)
