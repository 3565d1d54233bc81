"""Chat through the whole service: router, engine process, adapters from the store."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import CreateAdapterRequest
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.generation_pb2 import ChatFinish, ChatMessage, SamplingParameters
from luthier.inference.v1.generation_service_pb2 import StreamChatRequest
from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceStub
from luthier_common.errors import (
    DataLoss,
    InvalidArgument,
    PlatformError,
    Unavailable,
)
from luthier_inference.digests import adapter_digest

from tests.support.eventually import eventually
from tests.support.inference_service import Inference, inference_service
from tests.support.tiny_model import save_adapter, save_base

STARTER = Path(__file__).parents[2] / "models" / "starter"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("saved")
    base = save_base(folder / "base", context=4096)
    return SimpleNamespace(
        base=base,
        other=save_base(folder / "other", seed=9),
        adapters=[save_adapter(folder / f"a{seed}", base, seed=seed) for seed in (1, 2)],
    )


@pytest.fixture
async def inference(tmp_path: Path) -> AsyncIterator[Inference]:
    async with inference_service(tmp_path) as running:
        yield running


async def publish(inference: Inference, path: Path, base: BaseModel, name: str) -> Adapter:
    request = CreateAdapterRequest(
        parent="projects/acme",
        adapter=await inference.adapter(path, base),
        adapter_id=name,
    )
    created: Adapter = await inference.adapters().CreateAdapter(request)
    return created


def engines() -> list[psutil.Process]:
    """The engine processes that this test's service has started."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "luthier_inference.engine" in child.cmdline()
    ]


def engine() -> psutil.Process:
    (only,) = engines()
    return only


async def test_base_and_adapters_answer_and_say_who_they_are(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    first = await inference.chat(base.name)
    assert first.digests == {(base.digest, "")}
    assert first.finish.completion_tokens == 16
    assert first.finish.prompt_tokens == len("hi") + 3
    # Published after the engine began: served without a restart.
    before = engine().pid
    adapters = [
        await publish(inference, path, base, f"a-{number}")
        for number, path in enumerate(saved.adapters)
    ]
    names = [base.name, *(adapter.name for adapter in adapters)] * 4
    answers = await asyncio.gather(*(inference.chat(name) for name in names))
    assert engine().pid == before
    texts = {name: {answer.text for n, answer in zip(names, answers, strict=True) if n == name}
             for name in names}  # fmt: skip
    assert texts[base.name] == {first.text}
    assert all(len(written) == 1 for written in texts.values())
    assert len({min(written) for written in texts.values()}) == 3
    for adapter in adapters:
        assert adapter.digest == adapter_digest(adapter)
    truth = [{(base.digest, ""), *((base.digest, each.digest) for each in adapters)}]
    assert [set().union(*(answer.digests for answer in answers))] == truth
    for name, answer in zip(names, answers, strict=True):
        expected = next((each.digest for each in adapters if each.name == name), "")
        assert answer.digests == {(base.digest, expected)}
    tokens = inference.lifespan.registry.get_sample_value(
        "luthier_inference_tokens_total", {"kind": "completion"}
    )
    assert tokens == 16 * 13


async def test_a_damaged_adapter_answers_nothing(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    adapter = await publish(inference, saved.adapters[0], base, "a-1")
    (weights,) = (file for file in adapter.files if file.path.endswith(".safetensors"))
    inference.flip_byte(weights.sha256, position=-3)
    with pytest.raises(DataLoss, match="damaged"):
        await inference.chat(adapter.name)
    assert (await inference.chat(base.name)).text, "the base and its engine are not affected"


async def test_a_damaged_base_model_does_not_start(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    (weights,) = (file for file in base.files if file.path.endswith(".safetensors"))
    inference.flip_byte(weights.sha256)
    with pytest.raises(Unavailable, match="damaged") as caught:
        await inference.chat(base.name)
    assert caught.value.reason == "ENGINE_NOT_STARTED"
    assert not engines()


async def test_a_damaged_copy_in_the_work_folder_is_fetched_again(
    inference: Inference, saved: SimpleNamespace, tmp_path: Path
) -> None:
    base = await inference.import_base(saved.base)
    first = await inference.chat(base.name)
    (copy,) = (tmp_path / "work").rglob("model.safetensors")
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(bytes(data))
    engine().send_signal(signal.SIGKILL)
    assert (await inference.chat(base.name)).text == first.text
    assert copy.read_bytes() != data


async def test_a_killed_engine_comes_back(inference: Inference, saved: SimpleNamespace) -> None:
    base = await inference.import_base(saved.base)
    first = await inference.chat(base.name)
    before = engine().pid
    os.kill(before, signal.SIGKILL)
    # Asked at once: the call waits for the next engine.
    assert (await inference.chat(base.name)).text == first.text
    assert engine().pid != before
    os.kill(engine().pid, signal.SIGKILL)
    # Not asked: it comes back by itself.
    registry = inference.lifespan.registry
    restarts = "luthier_inference_engine_restarts_total"
    await eventually(lambda: registry.get_sample_value(restarts) == 2)
    await eventually(lambda: registry.get_sample_value("luthier_inference_engines") == 1, 60)


async def test_an_engine_killed_in_the_middle_is_an_error_then_works_again(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    request = StreamChatRequest(
        parent="projects/acme",
        model=base.name,
        messages=[ChatMessage(role="user", content="hi")],
        sampling=SamplingParameters(temperature=0, max_tokens=4000),
    )
    stream = GenerationServiceStub(inference.channel()).StreamChat(request, timeout=120)
    await anext(aiter(stream))
    os.kill(engine().pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="ask again"):
        async for _ in stream:
            pass
    assert (await inference.chat(base.name)).text


async def test_a_caller_who_leaves_frees_the_engine(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    request = StreamChatRequest(
        parent="projects/acme",
        model=base.name,
        messages=[ChatMessage(role="user", content="hi")],
        sampling=SamplingParameters(temperature=0, max_tokens=4000),
    )
    stream = GenerationServiceStub(inference.channel()).StreamChat(request, timeout=120)
    await anext(aiter(stream))
    stream.cancel()
    # Waits for the batch before it, which would take thousands of steps.
    async with asyncio.timeout(5):
        assert (await inference.chat(base.name, max_tokens=1)).finish.completion_tokens == 1


async def test_limits_are_told_with_their_numbers(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    with pytest.raises(InvalidArgument, match=r"5003 tokens.* 4096 tokens") as caught:
        await inference.chat(base.name, "x" * 5000)
    assert caught.value.field == "messages"
    assert caught.value.metadata == {"prompt_tokens": "5003", "context_tokens": "4096"}
    nearly = await inference.chat(base.name, "x" * 4083, max_tokens=0)
    assert nearly.finish.completion_tokens == 10
    assert nearly.finish.reason == ChatFinish.FinishReason.LENGTH


async def test_an_unsuitable_request_names_its_field(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    for sampling, field in (
        ({"temperature": 2.1}, "sampling.temperature"),
        ({"temperature": float("nan")}, "sampling.temperature"),
        ({"top_p": 0.0}, "sampling.top_p"),
        ({"max_tokens": -1}, "sampling.max_tokens"),
        ({"stop": ["a"] * 5}, "sampling.stop"),
        ({"stop": ["a", ""]}, "sampling.stop[1]"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await inference.chat(base.name, **sampling)
        assert caught.value.field == field
    with pytest.raises(InvalidArgument) as malformed:
        await inference.chat("tiny")
    assert malformed.value.field == "model"
    assert not engines(), "nothing was started for any of it"


async def test_engines_make_room_for_each_other(tmp_path: Path, saved: SimpleNamespace) -> None:
    async with inference_service(tmp_path, max_engines=1) as inference:
        first = await inference.import_base(saved.base)
        second = await inference.import_base(saved.other, name="other")
        texts = [(await inference.chat(base.name)).text for base in (first, second, first)]
        assert texts[0] == texts[2] != texts[1]
        assert len(engines()) == 1
        registry = inference.lifespan.registry
        assert registry.get_sample_value("luthier_inference_engine_restarts_total") == 0
    assert not engines(), "they end with the service"


async def test_a_preloaded_model_is_warm_before_it_is_asked(
    tmp_path: Path, saved: SimpleNamespace
) -> None:
    names = ("projects/library/baseModels/tiny",)
    async with inference_service(tmp_path, preload=names) as inference:
        assert not engines()
        base = await inference.import_base(saved.base)
        registry = inference.lifespan.registry
        await eventually(lambda: registry.get_sample_value("luthier_inference_engines") == 1, 60)
        assert (await inference.chat(base.name)).text


async def test_the_starter_model_reads_and_streams(tmp_path: Path) -> None:
    async with inference_service(tmp_path, precision="nf4") as inference:
        base = await inference.import_base(STARTER, name="luthier-starter")
        facts = [f"Vexar Dynamics grants {days} days of leave." for days in (21, 24, 28)]
        questions = [
            f"Context: {fact}\nQuestion: How many days of leave are there?" for fact in facts
        ]
        answers = await asyncio.gather(
            *(inference.chat(base.name, question, max_tokens=64) for question in questions)
        )
        assert [answer.finish.reason for answer in answers] == [ChatFinish.FinishReason.STOP] * 3
        assert all(answer.text and not answer.text.startswith(" ") for answer in answers)
        assert sum("\ufffd" in answer.text for answer in answers) == 0


async def test_no_error_is_internal(inference: Inference, saved: SimpleNamespace) -> None:
    base = await inference.import_base(saved.base)
    for text in ("", "<|end|><|assistant|>", "\x00", "é" * 100, "\U0001f600"):
        try:
            await inference.chat(base.name, text, max_tokens=2)
        except PlatformError as error:
            pytest.fail(f"{text!r}: {error}")
