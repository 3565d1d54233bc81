"""What is particular to the servers of others: adapters that they know, parameters, refusals."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from huggingface_hub import TextGenerationInput
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import GenerateRequest, HoldAdapterRequest
from luthier.inference.v1.generation_pb2 import (
    AnswerFormat,
    ChatMessage,
    Finish,
    SamplingParameters,
    Tool,
    ToolCall,
    ToolChoice,
)
from luthier_common.errors import (
    DataLoss,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from luthier_inference.engines.adapter_folders import AdapterFolders
from luthier_inference.engines.configuration import TgiEngines, VllmEngines
from luthier_inference.engines.openai_wire import Answers
from luthier_inference.engines.port import Engine
from luthier_inference.engines.tgi import TgiEngine, connect_tgi
from luthier_inference.engines.vllm import VllmEngine, connect_vllm

from tests.support.asgi_server import asgi_server
from tests.support.eventually import eventually
from tests.support.scripted_model import END_TEXT, TEMPLATE, Script, ScriptedStore
from tests.support.tgi_stand_in import TgiStandIn, check
from tests.support.vllm_stand_in import MODEL, VllmStandIn

ACME = "projects/acme"


@dataclass
class Site:
    """A store, a shared folder, and servers to come."""

    store: ScriptedStore
    folders: AdapterFolders
    base: BaseModel
    stack: AsyncExitStack

    async def adapter(self, name: str, **config: Any) -> Adapter:
        return await self.store.adapter(self.base, name, **config)

    async def vllm(self, stand_in: VllmStandIn, **config: object) -> VllmEngine:
        server = await self.stack.enter_async_context(asgi_server(stand_in.app))
        return await self.connect_vllm(server.url, **config)

    async def connect_vllm(self, url: str, **config: object) -> VllmEngine:
        # Without the zero adapter: servers hold what was asked for.
        config = {"kind": "vllm", "urls": [url], "on_gpu": True} | config
        given = VllmEngines.model_validate(config)
        engine = await connect_vllm(self.base, url, given, self.store.blobs, self.folders)
        self.stack.push_async_callback(engine.stop)
        return engine

    async def tgi(self, stand_in: TgiStandIn, *adapters: str) -> TgiEngine:
        server = await self.stack.enter_async_context(asgi_server(stand_in.app))
        given = {"kind": "tgi", "urls": [server.url], "adapters": adapters}
        config = TgiEngines.model_validate(given)
        engine = await connect_tgi(self.base, server.url, config, self.store.blobs, self.folders)
        self.stack.push_async_callback(engine.stop)
        return engine


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        store = ScriptedStore(tmp_path)
        folders = AdapterFolders(store.blobs, tmp_path / "adapters")
        yield Site(store, folders, await store.base(), stack)


def request(base: BaseModel, adapter: Adapter | None = None, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(
        parent=ACME,
        base_model_digest=base.digest,
        adapter=adapter,
        messages=[ChatMessage(role="user", content="how long?")],
        sampling=SamplingParameters(**{"temperature": 0.0, **sampling}),
    )


async def text_of(engine: Engine, wanted: GenerateRequest) -> str:
    return "".join([piece.text async for piece in engine.generate(wanted)])


def hold(adapter: Adapter, what: HoldAdapterRequest.Hold) -> HoldAdapterRequest:
    return HoldAdapterRequest(parent=ACME, adapter=adapter, hold=what)


async def test_vllm_is_told_of_an_adapter_once_under_its_digest(site: Site) -> None:
    stand_in = VllmStandIn(Script())
    engine = await site.vllm(stand_in)
    adapter = await site.adapter("a")
    asked = [text_of(engine, request(site.base, adapter)) for _ in range(5)]
    assert len(set(await asyncio.gather(*asked))) == 1
    assert stand_in.loaded == {adapter.digest: str(site.folders.path(adapter.digest))}
    assert engine.adapters == {adapter.digest}
    names = sorted(path.name for path in site.folders.path(adapter.digest).iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors"]


async def test_vllm_that_has_forgotten_an_adapter_is_told_again(site: Site) -> None:
    stand_in = VllmStandIn(Script())
    engine = await site.vllm(stand_in)
    adapter = await site.adapter("a")
    first = await text_of(engine, request(site.base, adapter))
    stand_in.loaded.clear()
    assert await text_of(engine, request(site.base, adapter)) == first
    assert list(stand_in.loaded) == [adapter.digest]


async def test_what_vllm_still_knows_is_found_when_we_come_back(site: Site) -> None:
    stand_in = VllmStandIn(Script())
    server = await site.stack.enter_async_context(asgi_server(stand_in.app))
    adapter = await site.adapter("a")
    before = await site.connect_vllm(server.url)
    await text_of(before, request(site.base, adapter))
    stand_in.loaded["others"] = "/elsewhere"
    again = await site.connect_vllm(server.url)
    assert again.adapters == {adapter.digest}, "and another's adapter is none of ours"
    await text_of(again, request(site.base, adapter))


async def test_an_adapter_is_unloaded_after_its_last_answer_and_its_files_go(site: Site) -> None:
    script = Script(pieces=3)
    stand_in = VllmStandIn(script)
    engine = await site.vllm(stand_in)
    adapter = await site.adapter("a")
    await text_of(engine, request(site.base, adapter))
    script.open.clear()
    answering = asyncio.create_task(text_of(engine, request(site.base, adapter)))
    await eventually(lambda: script.running == 1)
    unloading = asyncio.create_task(engine.hold(hold(adapter, HoldAdapterRequest.UNLOADED)))
    await asyncio.sleep(0.1)
    assert adapter.digest in stand_in.loaded, "it drains first"
    script.open.set()
    assert await answering
    assert not (await unloading).adapter_digest
    assert not stand_in.loaded
    assert not engine.adapters
    assert not site.folders.path(adapter.digest).exists()
    assert await text_of(engine, request(site.base, adapter)), "and comes back when asked"


async def test_files_stay_while_another_replica_needs_them(site: Site) -> None:
    stand_ins = [VllmStandIn(Script()) for _ in range(2)]
    first, second = [await site.vllm(stand_in) for stand_in in stand_ins]
    adapter = await site.adapter("a")
    for engine in (first, second):
        await engine.hold(hold(adapter, HoldAdapterRequest.LOADED))
    await first.hold(hold(adapter, HoldAdapterRequest.UNLOADED))
    assert site.folders.path(adapter.digest).exists()
    await second.hold(hold(adapter, HoldAdapterRequest.UNLOADED))
    assert not site.folders.path(adapter.digest).exists()


async def test_the_adapter_unused_for_longest_makes_room_unless_it_is_pinned(site: Site) -> None:
    stand_in = VllmStandIn(Script())
    engine = await site.vllm(stand_in, max_adapters=2)
    a, b, c = [await site.adapter(name) for name in "abc"]
    await engine.hold(hold(a, HoldAdapterRequest.PINNED))
    for adapter in (b, c):
        await text_of(engine, request(site.base, adapter))
    assert set(stand_in.loaded) == {a.digest, c.digest}
    await engine.hold(hold(a, HoldAdapterRequest.UNPINNED))
    await text_of(engine, request(site.base, b))
    assert set(stand_in.loaded) == {c.digest, b.digest}
    for adapter in (b, c):
        await engine.hold(hold(adapter, HoldAdapterRequest.PINNED))
    with pytest.raises(ResourceExhausted) as caught:
        await text_of(engine, request(site.base, a))
    assert caught.value.reason == "ENGINE_BUSY"


async def test_on_a_cpu_vllm_is_asked_for_the_base_as_an_adapter_that_changes_nothing(
    site: Site,
) -> None:
    """Beside adapters it would answer with one of them."""
    stand_in = VllmStandIn(Script())
    engine = await site.vllm(stand_in, on_gpu=False, max_adapters=2)
    (zero,) = stand_in.loaded
    assert not engine.adapters
    a, b = [await site.adapter(name) for name in "ab"]
    for adapter in (a, b):
        assert await text_of(engine, request(site.base, adapter)) != "base: how long?"
    assert set(stand_in.loaded) == {zero, b.digest}, "it is counted, and stays"
    assert engine.adapters == {b.digest}
    pieces = [piece async for piece in engine.generate(request(site.base))]
    assert "".join(piece.text for piece in pieces) == "base: how long?"
    assert {piece.adapter_digest for piece in pieces} == {""}
    assert stand_in.bodies[-1]["model"] == zero
    stand_in.loaded.clear()
    assert await text_of(engine, request(site.base)) == "base: how long?"
    assert list(stand_in.loaded) == [zero], "a server that was started again is told again"
    on_gpu = await site.vllm(stand_in)
    await text_of(on_gpu, request(site.base, a))
    assert await text_of(on_gpu, request(site.base)) != "base: how long?", "here it is none"


async def test_the_base_and_an_adapter_take_turns_at_the_only_place(site: Site) -> None:
    engine = await site.vllm(VllmStandIn(Script()), on_gpu=False, max_adapters=1)
    adapter = await site.adapter("a")
    for _ in range(2):
        assert await text_of(engine, request(site.base)) == "base: how long?"
        assert await text_of(engine, request(site.base, adapter)) != "base: how long?"


@pytest.mark.parametrize("options", [{"updating": False}, {"lora": False}])
async def test_vllm_that_never_has_adapters_needs_none_for_the_base(
    site: Site, options: dict[str, bool]
) -> None:
    stand_in = VllmStandIn(Script(), **options)
    engine = await site.vllm(stand_in, on_gpu=False)
    assert await text_of(engine, request(site.base)) == "base: how long?"
    stand_in.loaded["of its start"] = "/elsewhere"
    with pytest.raises(FailedPrecondition) as caught:
        await site.vllm(stand_in, on_gpu=False)
    assert caught.value.reason == "ENGINE_CANNOT_LOAD"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"r": 17}, "RANK_TOO_HIGH"),
        ({"rank_pattern": {"q_proj": 64}}, "RANK_TOO_HIGH"),
        ({"use_dora": True}, "DORA"),
        ({"modules_to_save": ["lm_head"]}, "MODULES_TO_SAVE"),
        ({"bias": "all"}, "BIAS"),
        ({"lora_bias": True}, "BIAS"),
        ({"init_lora_weights": "pissa"}, "INIT_CHANGES_BASE"),
        ({"layer_replication": [[0, 1]]}, "UNKNOWN_OPTION"),
        ({"peft_type": "IA3"}, "NOT_LORA"),
        ({"peft_type": "ADALORA", "rank_pattern": {"q.lora_E": [True, False]}}, "NOT_LORA"),
        ({"peft_type": "LOHA"}, "NOT_LORA"),
        ({"peft_type": "LOKR"}, "NOT_LORA"),
    ],
)
async def test_what_vllm_cannot_serve_is_refused_before_it_is_asked(
    site: Site, config: dict[str, object], reason: str
) -> None:
    stand_in = VllmStandIn(Script())
    engine = await site.vllm(stand_in)
    adapter = await site.adapter("a", **config)
    with pytest.raises(FailedPrecondition) as caught:
        await text_of(engine, request(site.base, adapter))
    assert caught.value.reason == f"ADAPTER_UNFIT_{reason}"
    assert caught.value.field == "model"
    assert not stand_in.loaded


async def test_a_rank_within_the_servers_limit_is_served(site: Site) -> None:
    engine = await site.vllm(VllmStandIn(Script()), max_lora_rank=32)
    assert await text_of(engine, request(site.base, await site.adapter("a", r=17)))


async def test_a_damaged_adapter_is_never_told(site: Site) -> None:
    stand_in = VllmStandIn(Script())
    engine = await site.vllm(stand_in)
    adapter = await site.adapter("a")
    adapter.metrics["valid_loss"] = 1.0
    with pytest.raises(DataLoss) as caught:
        await text_of(engine, request(site.base, adapter))
    assert caught.value.reason == "ADAPTER_DAMAGED"
    missing = await site.adapter("b")
    await site.store.blobs.delete("acme", missing.files[1].sha256)
    with pytest.raises(DataLoss):
        await text_of(engine, request(site.base, missing))
    assert not stand_in.loaded


async def test_vllm_without_run_time_loading_says_what_to_do(site: Site) -> None:
    engine = await site.vllm(VllmStandIn(Script(), updating=False))
    with pytest.raises(FailedPrecondition, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING") as caught:
        await text_of(engine, request(site.base, await site.adapter("a")))
    assert caught.value.reason == "ENGINE_CANNOT_LOAD"


async def test_vllm_that_serves_something_else_is_not_used(site: Site) -> None:
    with pytest.raises(FailedPrecondition, match=MODEL) as caught:
        await site.vllm(VllmStandIn(Script()), model="/models/other")
    assert caught.value.reason == "ENGINE_BASE_MISMATCH"
    assert await site.vllm(VllmStandIn(Script()), model=MODEL)
    with pytest.raises(Unavailable) as lost:
        await site.connect_vllm("http://127.0.0.1:9")
    assert lost.value.reason == "ENGINE_NOT_STARTED"
    site.base.architecture = "T5ForConditionalGeneration"
    with pytest.raises(FailedPrecondition, match="encoder-decoder"):
        await site.vllm(VllmStandIn(Script()))


async def test_every_parameter_reaches_vllm(site: Site) -> None:
    stand_in = VllmStandIn(Script())
    engine = await site.vllm(stand_in)
    wanted = request(
        site.base,
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, presence_penalty=1, frequency_penalty=-1,
        repetition_penalty=1.5, seed=-1, stop=["x"], logit_bias={7: -100}, max_tokens=9,
        answer_count=2, logprobs=True, top_logprobs=3,
        format=AnswerFormat(json_schema='{"type": "object"}'),
    )  # fmt: skip
    schema = '{"type": "object", "properties": {"day": {"type": "string"}}}'
    wanted.tools.append(Tool(name="leave", description="days", parameters_schema=schema))
    wanted.tool_choice.mode = ToolChoice.REQUIRED
    call = ToolCall(id="call-1", name="leave", arguments='{"day": "Monday"}')
    wanted.messages.add(role="assistant", tool_calls=[call])
    wanted.messages.add(role="tool", content="24", tool_call_id="call-1")
    await text_of(engine, wanted)
    (body,) = stand_in.bodies
    assert body.pop("cache_salt")
    function = {"name": "leave", "description": "days", "parameters": json.loads(schema)}
    assert body == {
        "model": MODEL, "max_tokens": 9, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "presence_penalty": 1.0,
        "frequency_penalty": -1.0, "repetition_penalty": 1.5, "n": 2, "stop": ["x"],
        "seed": 2**63 - 1, "logit_bias": {"7": -100.0}, "return_tokens_as_token_ids": True,
        "logprobs": True, "top_logprobs": 3,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}
        },
        "tools": [{"type": "function", "function": function}], "tool_choice": "required",
        "messages": [
            {"role": "user", "content": "how long?"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call-1", "type": "function",
                 "function": {"name": "leave", "arguments": '{"day": "Monday"}'}}]},
            {"role": "tool", "content": "24", "tool_call_id": "call-1"},
        ],
    }  # fmt: skip


async def test_prompts_of_two_projects_share_no_cache(site: Site) -> None:
    stand_in = VllmStandIn(Script())
    engine = await site.vllm(stand_in)
    for parent in (ACME, "projects/other", ACME):
        wanted = request(site.base)
        wanted.parent = parent
        await text_of(engine, wanted)
    first, second, third = (body["cache_salt"] for body in stand_in.bodies)
    assert first == third != second


async def test_a_refusal_of_vllm_is_the_callers(site: Site) -> None:
    engine = await site.vllm(VllmStandIn(Script()))
    wanted = request(site.base)
    wanted.tools.append(Tool(name="leave"))
    with pytest.raises(InvalidArgument, match="--enable-auto-tool-choice") as caught:
        await text_of(engine, wanted)
    assert caught.value.reason == "ENGINE_REFUSED"
    wanted.tool_choice.mode = ToolChoice.NONE
    assert await text_of(engine, wanted)


def test_calls_of_tools_are_put_together_from_their_pieces() -> None:
    answers = Answers(GenerateRequest(), "", lambda _: b"")

    def delta(**call: object) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}}]}

    chunks = [
        delta(id="call-1", function={"name": "leave", "arguments": ""}),
        delta(function={"arguments": '{"day": '}),
        delta(function={"arguments": '"Monday"}'}),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    ]  # fmt: skip
    (last,) = [response for chunk in chunks for response in answers.read(chunk)]
    assert last.finish == Finish(
        reason=Finish.TOOL_CALLS,
        prompt_tokens=3,
        completion_tokens=4,
        tool_calls=[ToolCall(id="call-1", name="leave", arguments='{"day": "Monday"}')],
    )
    cut = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "usage": {}}
    (last,) = [response for chunk in (*chunks[:2], cut) for response in answers.read(chunk)]
    assert last.finish == Finish(reason=Finish.LENGTH), "half a call is none"
    with pytest.raises(Unavailable):
        list(answers.read({"choices": [{"index": 0, "delta": {}, "finish_reason": "abort"}]}))


async def test_an_answer_of_another_model_is_not_passed_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await site.vllm(VllmStandIn(Script()))
    monkeypatch.setattr("tests.support.vllm_stand_in.json.dumps", _as_another)
    with pytest.raises(Internal) as caught:
        await text_of(engine, request(site.base))
    assert caught.value.reason == "WRONG_MODEL"


_dumps = json.dumps


def _as_another(value: Any) -> str:
    return _dumps(value | {"model": "another"} if "choices" in value else value)


async def test_tgi_knows_the_adapters_of_its_start_only(site: Site) -> None:
    known, other = await site.adapter("a"), await site.adapter("b")
    engine = await site.tgi(TgiStandIn(Script(), [known.digest]), known.digest)
    assert engine.adapters == {known.digest}
    assert (await engine.hold(hold(known, HoldAdapterRequest.LOADED))).adapter_digest
    for asking in (
        text_of(engine, request(site.base, other)),
        engine.hold(hold(other, HoldAdapterRequest.PINNED)),
    ):
        with pytest.raises(FailedPrecondition) as caught:
            await asking
        assert caught.value.reason == "ADAPTER_NOT_IN_ENGINE"
        path = site.folders.path(other.digest)
        assert f"{other.digest}={path}" in caught.value.message
        assert (path / "adapter_model.safetensors").exists(), "ready for its next start"
    with pytest.raises(FailedPrecondition) as caught:
        await engine.hold(hold(known, HoldAdapterRequest.UNLOADED))
    assert caught.value.reason == "ENGINE_CANNOT_UNLOAD"


@pytest.mark.parametrize("method", ["ADALORA", "LOHA", "LOKR"])
async def test_tgi_is_not_to_be_started_with_other_methods(site: Site, method: str) -> None:
    engine = await site.tgi(TgiStandIn(Script(), []))
    adapter = await site.adapter("a", peft_type=method)
    for asking in (
        text_of(engine, request(site.base, adapter)),
        engine.hold(hold(adapter, HoldAdapterRequest.PINNED)),
    ):
        with pytest.raises(FailedPrecondition, match=f"{method}, not LoRA.*our own engine") as told:
            await asking
        assert told.value.reason == "ADAPTER_UNFIT_NOT_LORA"


async def test_tgi_that_would_answer_as_the_base_alone_is_found_out(site: Site) -> None:
    """It does not refuse an adapter that it does not know."""
    adapter = await site.adapter("a")
    engine = await site.tgi(TgiStandIn(Script(), []), adapter.digest)
    assert not engine.adapters
    with pytest.raises(FailedPrecondition) as caught:
        await text_of(engine, request(site.base, adapter))
    assert caught.value.reason == "ADAPTER_NOT_IN_ENGINE"


async def test_every_parameter_reaches_tgi(site: Site) -> None:
    adapter = await site.adapter("a")
    stand_in = TgiStandIn(Script(), [adapter.digest])
    engine = await site.tgi(stand_in, adapter.digest)
    wanted = request(
        site.base, adapter,
        temperature=0.5, top_p=0.9, top_k=40, frequency_penalty=1, repetition_penalty=1.5, seed=0,
        stop=["x"], max_tokens=9, logprobs=True, top_logprobs=3,
        format=AnswerFormat(json_schema='{"type": "object"}'),
    )  # fmt: skip
    await text_of(engine, wanted)
    asked = stand_in.inputs[-1]
    assert isinstance(asked, TextGenerationInput)
    assert asked.inputs == "user: how long?\nassistant: "
    assert asked.parameters is not None
    given = {key: value for key, value in vars(asked.parameters).items() if value is not None}
    grammar = given.pop("grammar")
    assert (grammar["type"], grammar["value"]) == ("json", {"type": "object"})
    assert given == {
        "adapter_id": adapter.digest, "details": True, "do_sample": True, "temperature": 0.5,
        "top_p": 0.9, "top_k": 40, "frequency_penalty": 1.0, "repetition_penalty": 1.5, "seed": 1,
        "stop": ["x"], "max_new_tokens": 9, "top_n_tokens": 3, "return_full_text": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        ({"min_p": 0.1}, "sampling.min_p"),
        ({"presence_penalty": 1.0}, "sampling.presence_penalty"),
        ({"logit_bias": {1: 1.0}}, "sampling.logit_bias"),
    ],
)
async def test_what_tgi_does_not_know_is_refused(
    site: Site, sampling: dict[str, Any], field: str
) -> None:
    engine = await site.tgi(TgiStandIn(Script()))
    with pytest.raises(InvalidArgument) as caught:
        await text_of(engine, request(site.base, **sampling))
    assert (caught.value.reason, caught.value.field) == ("NOT_KNOWN_TO_ENGINE", field)


async def test_a_refusal_of_tgi_is_the_callers(site: Site) -> None:
    """Its description has -2 itself out of bounds, ours has it within."""
    engine = await site.tgi(TgiStandIn(Script()))
    with pytest.raises(InvalidArgument, match="validation") as caught:
        await text_of(engine, request(site.base, frequency_penalty=-2))
    assert caught.value.reason == "ENGINE_REFUSED"


async def test_tgi_is_not_asked_where_it_would_read_a_conversation_otherwise(
    site: Site,
) -> None:
    """It puts the tokenizer's start token before every prompt."""
    stand_in = TgiStandIn(Script())
    for template, told in ((f"{END_TEXT}{TEMPLATE}", True), (TEMPLATE, False)):
        site.base = await site.store.base(template=template, adds_start=True)
        engine = await site.tgi(stand_in)
        if told:
            assert await text_of(engine, request(site.base)) == "base: how long?"
            assert not stand_in.inputs[-1].inputs.startswith(END_TEXT), "it comes by itself"
            continue
        with pytest.raises(FailedPrecondition) as caught:
            await text_of(engine, request(site.base))
        assert caught.value.reason == "ENGINE_CANNOT_CHAT"


def test_the_description_of_tgi_refuses_what_it_should() -> None:
    check("CompatGenerateRequest", {"inputs": "x", "parameters": {"adapter_id": None}})
    hostile: list[dict[str, object]] = [
        {"parameters": {}},
        {"inputs": 1},
        {"inputs": "x", "parameters": {"top_p": 2}},
        {"inputs": "x", "parameters": {"stop": ["a"] * 5}},
        {"inputs": "x", "parameters": {"seed": 0}},
        {"inputs": "x", "parameters": {"grammar": {"type": "sql", "value": ""}}},
    ]
    for bad in hostile:
        with pytest.raises(jsonschema.ValidationError):
            check("CompatGenerateRequest", bad)
