"""Chat through the whole service: router, engine process, adapters from the store."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import pytest_asyncio
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import (
    CreateAdapterRequest,
    DeleteAdapterRequest,
    PinAdapterRequest,
    UnloadAdapterRequest,
    UnpinAdapterRequest,
)
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.generation_pb2 import ChatMessage, Finish, SamplingParameters
from luthier.inference.v1.generation_service_pb2 import StreamChatRequest
from luthier.inference.v1.generation_service_pb2_grpc import GenerationServiceStub
from luthier_common.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlatformError,
    Unavailable,
)
from luthier_common.identity import IdentitySigner, service_identity
from luthier_common.rpc.client import connect
from luthier_inference.digests import adapter_digest

from tests.support.eventually import eventually
from tests.support.inference_service import SECRET, Inference, inference_service
from tests.support.tiny_model import save_adapter, save_base

pytestmark = pytest.mark.asyncio(loop_scope="module")

STARTER = Path(__file__).parents[2] / "models" / "starter"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("saved")
    base = save_base(folder / "base", context=4096)
    return SimpleNamespace(
        base=base,
        other=save_base(folder / "other", seed=8),
        third=save_base(folder / "third", seed=9),
        adapters=[save_adapter(folder / f"a{seed}", base, seed=seed) for seed in (1, 2, 3)],
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inference(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inference]:
    """One service for most tests: every engine takes seconds to start."""
    async with inference_service(tmp_path_factory.mktemp("service"), precision="nf4") as running:
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
        for number, path in enumerate(saved.adapters[:2])
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
        "luthier_inference_tokens_total", {"base_model": "tiny", "kind": "completion"}
    )
    assert tokens == 16 * 13, "this is the first test of the service"


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
    assert nearly.finish.reason == Finish.FinishReason.LENGTH


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


async def test_no_error_is_internal(inference: Inference, saved: SimpleNamespace) -> None:
    base = await inference.import_base(saved.base)
    for text in ("", "<|end|><|assistant|>", "\x00", "é" * 100, "\U0001f600"):
        try:
            await inference.chat(base.name, text, max_tokens=2)
        except PlatformError as error:
            pytest.fail(f"{text!r}: {error}")


async def test_a_damaged_adapter_answers_nothing(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    adapter = await publish(inference, saved.adapters[2], base, "damaged")
    (weights,) = (file for file in adapter.files if file.path.endswith(".safetensors"))
    inference.flip_byte(weights.sha256, position=-3)
    with pytest.raises(DataLoss, match="damaged"):
        await inference.chat(adapter.name)
    assert (await inference.chat(base.name)).text, "the base and its engine are not affected"


async def test_a_damaged_base_model_does_not_start(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.other, name="damaged")
    (weights,) = (file for file in base.files if file.path.endswith(".safetensors"))
    inference.flip_byte(weights.sha256)
    with pytest.raises(Unavailable, match="damaged") as caught:
        await inference.chat(base.name)
    assert caught.value.reason == "ENGINE_NOT_STARTED"


async def test_the_starter_model_reads_and_streams(inference: Inference) -> None:
    base = await inference.import_base(STARTER, name="luthier-starter")
    ask = [f"Context: Leave is {days} days.\nQuestion: How long is leave?" for days in (21, 24)]
    answers = await asyncio.gather(
        *(inference.chat(base.name, question, max_tokens=64) for question in ask)
    )
    assert [answer.finish.reason for answer in answers] == [Finish.FinishReason.STOP] * 2
    for answer in answers:
        assert answer.text.strip() == answer.text != ""
        assert "\ufffd" not in answer.text
        assert "<|" not in answer.text


def restarts(inference: Inference) -> float:
    registry = inference.lifespan.registry
    return registry.get_sample_value("luthier_inference_engine_restarts_total") or 0


def holds(process: psutil.Process, base: BaseModel) -> bool:
    return f'"digest": "{base.digest}"' in process.environ()["LUTHIER_ENGINE_BASE_MODEL"]


async def test_adapters_are_pinned_unloaded_and_deleted(
    inference: Inference, saved: SimpleNamespace
) -> None:
    base = await inference.import_base(saved.base)
    adapter = await publish(inference, saved.adapters[1], base, "held-1")
    folder = inference.work / "adapters" / adapter.digest
    registry = inference.adapters()
    answer = (await inference.chat(adapter.name)).text
    pinned = await registry.PinAdapter(PinAdapterRequest(name=adapter.name))
    assert pinned.pinned
    with pytest.raises(FailedPrecondition):
        await registry.UnloadAdapter(UnloadAdapterRequest(name=adapter.name))
    assert folder.is_dir()
    assert not (await registry.UnpinAdapter(UnpinAdapterRequest(name=adapter.name))).pinned
    await registry.UnloadAdapter(UnloadAdapterRequest(name=adapter.name))
    assert not folder.exists()
    # It is fetched again when it is asked again; once deleted, never.
    assert (await inference.chat(adapter.name)).text == answer
    assert folder.is_dir()
    await registry.DeleteAdapter(DeleteAdapterRequest(name=adapter.name))
    await eventually(lambda: not folder.exists())
    with pytest.raises(NotFound):
        await inference.chat(adapter.name)


async def test_killed_engines_come_back(inference: Inference, saved: SimpleNamespace) -> None:
    base = await inference.import_base(saved.base)
    first, died = await inference.chat(base.name), restarts(inference)

    def pid() -> int:
        (running,) = (process.pid for process in engines() if holds(process, base))
        return running

    # Its copy of the model is damaged as well: it is fetched again.
    (copy,) = (tmp for tmp in inference.work.rglob(f"{base.digest}/model.safetensors"))
    intact = copy.read_bytes()
    copy.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    before = pid()
    os.kill(before, signal.SIGKILL)
    # Asked at once, while it is down: the call waits for the next engine.
    assert (await inference.chat(base.name)).text == first.text
    assert pid() != before
    assert copy.read_bytes() == intact

    # In the middle of an answer: an error, since half of it is out already.
    stream = GenerationServiceStub(inference.channel()).StreamChat(endless(base), timeout=120)
    await anext(aiter(stream))
    os.kill(pid(), signal.SIGKILL)
    with pytest.raises(Unavailable, match="ask again") as caught:
        async for _ in stream:
            pass
    assert caught.value.reason == "ENGINE_LOST"

    # Nobody asks: it comes back by itself.
    await eventually(lambda: restarts(inference) == died + 2)
    await eventually(lambda: len([each for each in engines() if holds(each, base)]) == 1, 60)
    assert (await inference.chat(base.name)).text == first.text


async def test_engines_are_warm_when_asked_for_and_make_room_for_each_other(
    tmp_path: Path, saved: SimpleNamespace
) -> None:
    running = set(map(pid_of, engines()))
    names = ("projects/library/baseModels/tiny",)
    async with inference_service(tmp_path, preload=names, max_engines=1) as inference:
        registry = inference.lifespan.registry
        first = await inference.import_base(saved.base)
        await eventually(lambda: registry.get_sample_value("luthier_inference_engines") == 1, 60)
        assert len(set(map(pid_of, engines())) - running) == 1
        second = await inference.import_base(saved.third, name="third")
        assert (await inference.chat(first.name)).text != (await inference.chat(second.name)).text
        (only,) = (each for each in engines() if each.pid not in running)
        assert holds(only, second)
        assert restarts(inference) == 0, "the first was stopped; it did not die"
    assert set(map(pid_of, engines())) == running, "they end with the service"


async def test_callers_who_leave_and_deadlines_free_the_engine(
    tmp_path: Path, saved: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It writes one answer at a time: the next one waits for what nobody reads any more.
    monkeypatch.setenv("LUTHIER_ENGINE_ROWS", "1")
    async with inference_service(tmp_path) as inference:
        base = await inference.import_base(saved.base)
        await inference.chat(base.name, max_tokens=1)
        stub = GenerationServiceStub(inference.channel())
        stream = stub.StreamChat(endless(base), timeout=120)
        await anext(aiter(stream))
        stream.cancel()
        async with asyncio.timeout(2):
            assert (await inference.chat(base.name, max_tokens=1)).finish.completion_tokens == 1
        with pytest.raises(DeadlineExceeded):
            async for _ in stub.StreamChat(endless(base), timeout=0.5):
                pass
        async with asyncio.timeout(2):
            assert (await inference.chat(base.name, max_tokens=1)).finish.completion_tokens == 1


async def test_a_service_that_is_told_to_stop_ends_its_answers_first(
    tmp_path: Path, saved: SimpleNamespace
) -> None:
    service = inference_service(tmp_path, drain_seconds=60)
    inference = await service.__aenter__()
    base = await inference.import_base(saved.base)
    long = endless(base)
    long.sampling.max_tokens = 500
    async with connect(inference.address, signer=IdentitySigner(SECRET)) as channel:
        caller = channel.with_identity(service_identity("acme", "test"))
        stream = aiter(GenerationServiceStub(caller).StreamChat(long, timeout=120))
        await anext(stream)
        stopping = asyncio.create_task(service.__aexit__(None, None, None))
        *_, last = [response async for response in stream]
        assert last.finish.completion_tokens == 500
        await stopping


def pid_of(process: psutil.Process) -> int:
    return process.pid


def endless(base: BaseModel) -> StreamChatRequest:
    return StreamChatRequest(
        parent="projects/acme",
        model=base.name,
        messages=[ChatMessage(role="user", content="hi")],
        sampling=SamplingParameters(temperature=0, max_tokens=4000),
    )
