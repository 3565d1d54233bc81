"""The API of generation over real gRPC, in front of an engine that writes by a script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from luthier.inference.v1 import generation_service_pb2 as api
from luthier.inference.v1.adapter_pb2 import Adapter, ProbeResult
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.generation_pb2 import (
    AnswerFormat,
    ChatMessage,
    Finish,
    SamplingParameters,
    Tool,
    ToolCall,
    ToolChoice,
)
from luthier.inference.v1.generation_service_pb2_grpc import (
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from luthier_common.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PlatformError,
    ResourceExhausted,
)
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_inference.adapters import ADAPTER, state_of
from luthier_inference.engine_pool import EnginePool
from luthier_inference.engines.port import Engine, Fleet
from luthier_inference.metrics import BoundedLabels, Metrics
from luthier_inference.origins import BASE_MODEL
from luthier_inference.prober import Prober
from luthier_inference.router import Router
from prometheus_client import CollectorRegistry, Counter

from tests.support.eventually import eventually
from tests.support.grpc_server import Serving, caller, serving
from tests.support.scripted_engine import ScriptedEngine, scripted_engine
from tests.support.scripted_model import Script, ScriptedStore

ASKED = [ChatMessage(role="user", content="how long?")]


@dataclass
class Platform:
    server: Serving
    base: BaseModel
    t5: BaseModel
    bare: BaseModel
    adapter: Adapter
    engine: ScriptedEngine
    store: ScriptedStore
    adapters: Collection[Adapter]
    registry: CollectorRegistry

    @property
    def script(self) -> Script:
        return self.engine.script

    def stub(self, project: str = "acme") -> Any:
        return GenerationServiceStub(self.server.channel(caller(project)))

    async def probed_adapter(self, name: str, *results: ProbeResult) -> Adapter:
        """Publish an adapter that has a probe."""
        adapter = await self.store.adapter(self.base, name, probe=True)
        adapter.probe_results.extend(results)
        return await self.adapters.create(adapter.name, adapter)

    async def known(self, adapter: Adapter) -> tuple[int, list[ProbeResult]]:
        """Return the state that the record tells, once it has a result of the engine's."""

        async def kept() -> Adapter:
            found = await self.adapters.get(adapter.name)
            assert self.engine.probe in found.probe_results[-1:]
            return found

        found = await eventually(kept)
        return state_of(found), list(found.probe_results)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"luthier_inference_{name}", labels) or 0


@asynccontextmanager
async def platform(folder: Path, *, max_calls: int = 8) -> AsyncIterator[Platform]:
    async with AsyncExitStack() as stack:
        store, registry = ScriptedStore(folder), CollectorRegistry()
        models = await stack.enter_async_context(Collection(MemoryRecords(), BaseModel, BASE_MODEL))
        adapters = await stack.enter_async_context(Collection(MemoryRecords(), Adapter, ADAPTER))
        base, t5, bare = [await store.base(name) for name in ("scripted", "t5", "bare")]
        t5.architecture, bare.has_chat_template = "T5ForConditionalGeneration", False
        for model in (base, t5, bare):
            await models.create(model.name, model)
        adapter = await store.adapter(base)
        await adapters.create(adapter.name, adapter)
        servicer = ScriptedEngine(base, Script())

        async def start(started: BaseModel, place: str) -> Engine:
            servicer.base = started
            engine, _ = await stack.enter_async_context(scripted_engine(servicer))
            return engine

        fleet = Fleet(start, ("0",), max_calls, local=True, precision="nf4")
        metrics = Metrics(registry)
        pool = await stack.enter_async_context(
            EnginePool(lambda _: fleet, limit=1, metrics=metrics)
        )
        descriptor = api.DESCRIPTOR.services_by_name["GenerationService"]
        prober = Prober(adapters, models, pool)
        router = Router(models, adapters, pool, prober, metrics)
        services = (router, add_GenerationServiceServicer_to_server, descriptor)
        server = await stack.enter_async_context(serving(services))
        for following in (prober.follow_published(), prober.follow_asked()):
            stack.callback(asyncio.create_task(following).cancel)
        yield Platform(server, base, t5, bare, adapter, servicer, store, adapters, registry)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(tmp_path) as started:
        yield started


def sampling(**given: Any) -> SamplingParameters:
    return SamplingParameters(**{"temperature": 0.0, **given})


def chat(model: str, **given: Any) -> api.ChatRequest:
    wanted: dict[str, Any] = {"parent": "projects/acme", "messages": ASKED, "sampling": sampling()}
    return api.ChatRequest(model=model, **wanted | given)


async def test_a_conversation_is_answered_whole_and_in_pieces(running: Platform) -> None:
    for model, digest in ((running.base.name, ""), (running.adapter.name, running.adapter.digest)):
        whole = await running.stub().Chat(chat(model))
        (answer,) = whole.answers
        assert answer.text == f"{digest[:8] or 'base'}: how long?"
        assert answer.finish.reason == Finish.STOP
        assert answer.finish.completion_tokens == len(answer.text) + 1
        assert (whole.base_model_digest, whole.adapter_digest) == (running.base.digest, digest)
        request = api.StreamChatRequest(
            parent="projects/acme", model=model, messages=ASKED, sampling=sampling()
        )
        pieces = [piece async for piece in running.stub().StreamChat(request)]
        assert "".join(piece.text for piece in pieces) == answer.text
        assert [piece.HasField("finish") for piece in pieces] == [False] * (len(pieces) - 1) + [
            True
        ]
        assert {piece.adapter_digest for piece in pieces} == {digest}
        assert {piece.base_model_digest for piece in pieces} == {running.base.digest}


async def test_a_text_is_gone_on_with(running: Platform) -> None:
    given: dict[str, Any] = {"parent": "projects/acme", "text": "once"}
    given["model"] = running.adapter.name
    given["sampling"] = sampling(answer_count=2, logprobs=True, top_logprobs=1)
    whole = await running.stub().Complete(api.CompleteRequest(**given))
    assert [answer.text for answer in whole.answers] == [f"{running.adapter.digest[:8]}: once"] * 2
    for answer in whole.answers:
        assert len(answer.tokens) == answer.finish.completion_tokens
        assert len(answer.tokens[0].top) == 1
    stream = running.stub().StreamComplete(api.StreamCompleteRequest(**given))
    texts = ["", ""]
    async for piece in stream:
        texts[piece.answer_index] += piece.text
    assert texts == [answer.text for answer in whole.answers]


async def test_models_without_conversations_answer_texts(running: Platform) -> None:
    for model, reason in ((running.t5, "CHAT_NOT_SERVED"), (running.bare, "CHAT_TEMPLATE_MISSING")):
        with pytest.raises(FailedPrecondition, match="ask it for completions") as caught:
            await running.stub().Chat(chat(model.name))
        assert (caught.value.reason, caught.value.field) == (reason, "model")
        request = api.CompleteRequest(parent="projects/acme", model=model.name, text="once")
        whole = await running.stub().Complete(request)
        assert whole.answers[0].text == "base: once"
        assert whole.base_model_digest == model.digest


async def test_texts_become_vectors(running: Platform) -> None:
    request = api.EmbedRequest(
        parent="projects/acme", model=running.adapter.name, texts=["one", "three"]
    )
    response = await running.stub().Embed(request)
    assert [embedding.token_count for embedding in response.embeddings] == [3, 5]
    assert response.base_model_digest == running.base.digest
    assert response.adapter_digest == running.adapter.digest
    for texts in ([], [""], ["x"] * 2049):
        with pytest.raises(InvalidArgument):
            await running.stub().Embed(
                api.EmbedRequest(parent="projects/acme", model=running.base.name, texts=texts)
            )


async def test_a_foreign_adapter_is_absent(running: Platform) -> None:
    with pytest.raises(NotFound):
        await running.stub("other").Chat(chat(running.adapter.name, parent="projects/other"))


def shown(divergence: float, precision: str = "nf4") -> ProbeResult:
    return ProbeResult(
        engine="transformers",
        trained_precision="nf4",
        served_precision=precision,
        divergence=divergence,
        bound=0.02,
        passed=divergence <= 0.02,
    )


async def test_what_a_probe_shows_is_kept_after_the_first_request(running: Platform) -> None:
    first, other = [await running.probed_adapter(name) for name in ("first", "other")]
    running.engine.probe = shown(0.001)
    assert running.engine.examined == [], "no engine runs yet"
    await running.stub().Chat(chat(first.name))
    assert await running.known(first) == (Adapter.READY, [running.engine.probe])
    await running.stub().Chat(chat(first.name))
    await running.stub().Chat(chat(running.adapter.name))
    later = await running.probed_adapter("later")  # an engine runs now, so nobody need ask
    assert await running.known(later) == (Adapter.READY, [running.engine.probe])
    assert running.engine.examined == [first.name, later.name], "once each, and not the other"
    assert not (await running.adapters.get(other.name)).probe_results


async def test_an_adapter_that_diverges_is_held_from_its_first_request(running: Platform) -> None:
    adapter = await running.probed_adapter("false")
    running.engine.probe = shown(1.0)
    with pytest.raises(FailedPrecondition, match=r"1\.000 nats a token") as of_engine:
        await running.stub().Chat(chat(adapter.name))
    assert await running.known(adapter) == (Adapter.HELD, [running.engine.probe])
    running.engine.probe = None  # the engine would answer, but nobody asks it
    request = api.EmbedRequest(parent="projects/acme", model=adapter.name, texts=["one"])
    for refused in (running.stub().Chat(chat(adapter.name)), running.stub().Embed(request)):
        with pytest.raises(FailedPrecondition) as caught:
            await refused
        assert (caught.value.reason, caught.value.field) == ("ADAPTER_DIVERGES", "model")
        assert caught.value.message == of_engine.value.message
    assert running.engine.examined == [adapter.name]
    assert running.script.asked == 0


async def test_a_result_of_another_precision_holds_nothing(running: Platform) -> None:
    before = shown(1.0, "bf16")
    adapter = await running.probed_adapter("a-2", before)
    assert state_of(adapter) == Adapter.HELD
    running.engine.probe = shown(0.001)
    await running.stub().Chat(chat(adapter.name))
    assert await running.known(adapter) == (Adapter.READY, [before, running.engine.probe])


CALL = ToolCall(id="1", name="leave", arguments="{}")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"sampling": sampling(top_k=-1)}, "sampling.top_k"),
        ({"sampling": sampling(min_p=1.1)}, "sampling.min_p"),
        ({"sampling": sampling(presence_penalty=-2.1)}, "sampling.presence_penalty"),
        ({"sampling": sampling(frequency_penalty=float("nan"))}, "sampling.frequency_penalty"),
        ({"sampling": sampling(repetition_penalty=0.0)}, "sampling.repetition_penalty"),
        ({"sampling": sampling(answer_count=17)}, "sampling.answer_count"),
        ({"sampling": sampling(top_logprobs=1)}, "sampling.top_logprobs"),
        ({"sampling": sampling(logprobs=True, top_logprobs=21)}, "sampling.top_logprobs"),
        ({"sampling": sampling(logit_bias={5: 100.5})}, "sampling.logit_bias[5]"),
        ({"sampling": sampling(logit_bias={-5: 1.0})}, "sampling.logit_bias[-5]"),
        ({"sampling": sampling(format=AnswerFormat(json_schema="[]"))},
         "sampling.format.json_schema"),
        ({"messages": []}, "messages"),
        ({"messages": [ChatMessage(role="robot", content="x")]}, "messages[0].role"),
        ({"messages": [ChatMessage(role="tool", content="x")]}, "messages[0].tool_call_id"),
        ({"messages": [ChatMessage(role="user", tool_calls=[CALL])]}, "messages[0].tool_calls"),
        ({"messages": [ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", name="a b")])]},
         "messages[0].tool_calls[0].name"),
        ({"messages": [ChatMessage(role="assistant", tool_calls=[
            ToolCall(id="1", name="a", arguments="1")])]}, "messages[0].tool_calls[0].arguments"),
        ({"tools": [Tool(name="a"), Tool(name="a")]}, "tools[1].name"),
        ({"tools": [Tool(name="a", parameters_schema="{")]}, "tools[0].parameters_schema"),
        ({"tool_choice": ToolChoice(mode=ToolChoice.REQUIRED)}, "tool_choice.mode"),
        ({"tools": [Tool(name="a")], "tool_choice": ToolChoice(mode=ToolChoice.REQUIRED, name="b")},
         "tool_choice.name"),
        ({"tools": [Tool(name="a")], "tool_choice": ToolChoice(mode=ToolChoice.AUTO, name="a")},
         "tool_choice.name"),
    ],
)  # fmt: skip
async def test_an_unsuitable_request_names_its_field(
    running: Platform, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await running.stub().Chat(chat(running.base.name, **given))
    assert caught.value.field == field
    assert running.script.asked == 0


async def test_a_suitable_request_with_everything_is_answered(running: Platform) -> None:
    messages = [
        *ASKED,
        ChatMessage(role="assistant", tool_calls=[CALL]),
        ChatMessage(role="tool", content="24 days", tool_call_id="1"),
    ]
    tools = [Tool(name="leave", parameters_schema='{"type": "object"}')]
    request = chat(
        running.base.name,
        messages=messages,
        tools=tools,
        tool_choice=ToolChoice(mode=ToolChoice.REQUIRED, name="leave"),
        sampling=sampling(top_k=40, min_p=0.1, logit_bias={5: -100.0}, repetition_penalty=1.1),
    )
    assert (await running.stub().Chat(request)).answers[0].text == "base: 24 days"


async def test_a_caller_who_leaves_frees_the_engine(running: Platform) -> None:
    running.script.open.clear()
    running.script.pieces = 2
    request = api.StreamChatRequest(
        parent="projects/acme", model=running.base.name, messages=ASKED, sampling=sampling()
    )
    stream = running.stub().StreamChat(request)
    await anext(aiter(stream))
    assert running.script.running == 1
    stream.cancel()
    await eventually(lambda: running.script.running == 0)
    await eventually(
        lambda: running.value(
            "requests_total", base_model="scripted", method="chat", code="CANCELLED"
        )
    )


async def test_a_deadline_reaches_the_engine(running: Platform) -> None:
    running.script.open.clear()
    with pytest.raises(PlatformError) as caught:
        await running.stub().Chat(chat(running.base.name), timeout=0.5)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    await eventually(lambda: running.script.running == 0)


async def test_calls_beyond_the_bound_are_refused_early(tmp_path: Path) -> None:
    async with platform(tmp_path, max_calls=1) as running:
        await running.stub().Chat(chat(running.base.name))
        running.script.open.clear()
        running.script.pieces = 2
        request = api.StreamChatRequest(
            parent="projects/acme", model=running.base.name, messages=ASKED, sampling=sampling()
        )
        stream = running.stub().StreamChat(request)
        await anext(aiter(stream))
        with pytest.raises(ResourceExhausted) as caught:
            await running.stub().Chat(chat(running.base.name))
        assert caught.value.reason == "ENGINE_BUSY"
        assert float(caught.value.metadata["retry_after_seconds"]) >= 1
        running.script.open.set()
        assert [piece async for piece in stream][-1].HasField("finish")


async def test_what_happens_is_counted_by_model_and_adapter(running: Platform) -> None:
    whole = await running.stub().Chat(chat(running.adapter.name))
    await running.stub().Chat(chat(running.base.name))
    with pytest.raises(FailedPrecondition):
        await running.stub().Chat(chat(running.bare.name))
    written = whole.answers[0].finish.completion_tokens
    counted = running.value("adapter_tokens_total", adapter="a", kind="completion")
    assert counted == written
    both = running.value("tokens_total", base_model="scripted", kind="completion")
    assert both == written + len("base: how long?") + 1
    assert running.value("requests_total", base_model="scripted", method="chat", code="OK") == 2
    assert running.value("queue_seconds_count", base_model="scripted") == 2
    assert running.value("first_token_seconds_count", base_model="scripted") == 2
    assert running.value("inter_token_seconds_count", base_model="scripted") > written - 4
    assert running.registry.get_sample_value("luthier_inference_engines") == 1


def test_labels_are_bounded_and_idle_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "c", ["adapter", "kind"], registry=registry)
    labels = BoundedLabels(counter, limit=2)
    now = 0.0
    monkeypatch.setattr("luthier_inference.metrics.time.monotonic", lambda: now)
    for name in ("a", "b"):
        counter.labels(labels.label(name), "prompt").inc()
    assert labels.label("c") == "other"
    now = 1800.0
    assert labels.label("b") == "b"
    now = 3700.0
    assert labels.label("c") == "c", "a was idle for an hour"
    assert labels.label("a") == "other", "b was not"
    assert registry.get_sample_value("c_total", {"adapter": "a", "kind": "prompt"}) is None
    assert registry.get_sample_value("c_total", {"adapter": "b", "kind": "prompt"}) == 1
