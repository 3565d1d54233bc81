"""What every engine promises the router: our own process, vLLM, text-generation-inference.

Ours and the servers of others are stand-ins that write by a script; `make test-vllm` runs what
needs no script on a real vLLM, too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import (
    EmbedTextsRequest,
    GenerateRequest,
    HoldAdapterRequest,
)
from luthier.inference.v1.generation_pb2 import ChatMessage, Finish, SamplingParameters, Token
from luthier_common.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from luthier_inference.engines.adapter_folders import AdapterFolders
from luthier_inference.engines.configuration import TgiEngines, VllmEngines
from luthier_inference.engines.port import Engine
from luthier_inference.engines.process import EngineProcess
from luthier_inference.engines.tgi import connect_tgi
from luthier_inference.engines.vllm import connect_vllm

from tests.support.asgi_server import asgi_server
from tests.support.eventually import eventually
from tests.support.real_vllm import RealVllm, real_vllm
from tests.support.scripted_engine import ScriptedEngine, scripted_engine
from tests.support.scripted_model import Script, ScriptedStore
from tests.support.tgi_stand_in import TgiStandIn
from tests.support.vllm_stand_in import VllmStandIn

pytestmark = pytest.mark.asyncio(loop_scope="module")
QUESTION = "How long is the leave of somebody who has been here for five years?"


@dataclass
class Case:
    """An engine, what it serves, and what can be done to it."""

    engine: Engine
    base: BaseModel
    adapters: list[Adapter]
    crash: Callable[[], Awaitable[None]]
    running: Callable[[], Awaitable[int]]
    script: Script = field(default_factory=Script)

    def request(self, adapter: Adapter | None = None, **changes: Any) -> GenerateRequest:
        """Return a request, greedy and short unless `changes` to its sampling say otherwise."""
        chat = changes.pop("chat", True)
        text = changes.pop("text", QUESTION)
        sampling = {"temperature": 0.0, "max_tokens": 64} | changes
        request = GenerateRequest(
            parent="projects/acme",
            base_model_digest=self.base.digest,
            adapter=adapter,
            sampling=SamplingParameters(**sampling),
        )
        if chat:
            request.messages.append(ChatMessage(role="user", content=text))
        else:
            request.text = text
        return request

    async def ask(self, adapter: Adapter | None = None, **changes: Any) -> "Answers":
        """Ask and return the answers."""
        return await collected(self.engine, self.request(adapter, **changes))


@dataclass
class Answers:
    texts: dict[int, str] = field(default_factory=dict)
    finishes: dict[int, Finish] = field(default_factory=dict)
    tokens: dict[int, list[Token]] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    pieces: int = 0

    @property
    def text(self) -> str:
        return self.texts[0]

    @property
    def finish(self) -> Finish:
        return self.finishes[0]


async def collected(engine: Engine, request: GenerateRequest) -> Answers:
    answers = Answers()
    async with aclosing(engine.generate(request)) as pieces:
        async for piece in pieces:
            index = piece.answer_index
            assert index not in answers.finishes, "nothing comes after the end"
            answers.pieces += 1
            answers.texts[index] = answers.texts.get(index, "") + piece.text
            answers.tokens.setdefault(index, []).extend(piece.tokens)
            answers.digests.add(piece.adapter_digest)
            if piece.HasField("finish"):
                answers.finishes[index] = piece.finish
    return answers


async def process_case(folder: Path, stack: AsyncExitStack) -> Case:
    store, script = ScriptedStore(folder), Script()
    base = await store.base()
    adapters = [await store.adapter(base, name) for name in ("a", "b")]
    servicer = ScriptedEngine(base, script)
    engine, crash = await stack.enter_async_context(scripted_engine(servicer))
    return Case(engine, base, adapters, crash, running_of(script), script)


async def vllm_case(folder: Path, stack: AsyncExitStack) -> Case:
    store, script = ScriptedStore(folder), Script()
    base = await store.base()
    adapters = [await store.adapter(base, name) for name in ("a", "b")]
    server = await stack.enter_async_context(asgi_server(VllmStandIn(script).app))
    config = VllmEngines.model_validate({"kind": "vllm", "urls": [server.url]})
    folders = AdapterFolders(store.blobs, folder / "adapters")
    engine = await connect_vllm(base, server.url, config, store.blobs, folders)
    stack.push_async_callback(engine.stop)
    return Case(engine, base, adapters, kill(server), running_of(script), script)


async def tgi_case(folder: Path, stack: AsyncExitStack) -> Case:
    store, script = ScriptedStore(folder), Script()
    base = await store.base()
    adapters = [await store.adapter(base, name) for name in ("a", "b")]
    digests = [adapter.digest for adapter in adapters]
    server = await stack.enter_async_context(asgi_server(TgiStandIn(script, digests).app))
    config = TgiEngines.model_validate({"kind": "tgi", "urls": [server.url], "adapters": digests})
    folders = AdapterFolders(store.blobs, folder / "adapters")
    engine = await connect_tgi(base, server.url, config, store.blobs, folders)
    stack.push_async_callback(engine.stop)
    return Case(engine, base, adapters, kill(server), running_of(script), script)


def kill(server: Any) -> Callable[[], Awaitable[None]]:
    async def crash() -> None:
        server.kill()

    return crash


def running_of(script: Script) -> Callable[[], Awaitable[int]]:
    async def running() -> int:
        return script.running

    return running


STAND_INS = {"process": process_case, "vllm": vllm_case, "tgi": tgi_case}


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with real_vllm(tmp_path_factory.mktemp("vllm")) as server:
        yield server


async def real_case(server: RealVllm, stack: AsyncExitStack) -> Case:
    engine = await server.connect()
    stack.push_async_callback(engine.stop)
    return Case(engine, server.base, server.adapters, kill(server), server.running)


@pytest_asyncio.fixture(
    loop_scope="module",
    params=[*STAND_INS, pytest.param("real-vllm", marks=pytest.mark.vllm)],
)
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    """Every engine."""
    async with AsyncExitStack() as stack:
        if request.param == "real-vllm":
            yield await real_case(request.getfixturevalue("vllm_server"), stack)
        else:
            yield await STAND_INS[request.param](tmp_path, stack)


@pytest_asyncio.fixture(loop_scope="module", params=STAND_INS)
async def scripted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    """The engines that write by a script."""
    async with AsyncExitStack() as stack:
        yield await STAND_INS[request.param](tmp_path, stack)


async def test_the_base_and_each_adapter_answer_as_themselves(case: Case) -> None:
    first, second = case.adapters
    answers = [await case.ask(who) for who in (None, first, second, None, second, first)]
    digests = ["", first.digest, second.digest, "", second.digest, first.digest]
    assert [answer.digests for answer in answers] == [{digest} for digest in digests]
    assert answers[0].text == answers[3].text != ""
    assert len({answer.text for answer in answers}) == 3
    assert {first.digest, second.digest} <= await held(case)


async def held(case: Case) -> frozenset[str]:
    """Return what the engine holds; our own process tells it now and then."""
    await eventually(lambda: len(case.engine.adapters) >= 2)
    return case.engine.adapters


async def test_requests_of_all_models_at_a_time_answer_as_alone(case: Case) -> None:
    who = [None, *case.adapters]
    alone = [await case.ask(each) for each in who]
    together = await asyncio.gather(*(case.ask(each) for each in who * 4))
    assert [answer.text for answer in together] == [answer.text for answer in alone] * 4


@pytest.mark.parametrize("chat", [True, False])
async def test_an_answer_comes_in_pieces_and_is_counted(case: Case, *, chat: bool) -> None:
    who = case.adapters[0]
    whole = await case.ask(who, chat=chat, max_tokens=24)
    assert whole.pieces > 3
    assert whole.finish.prompt_tokens > 0
    assert 0 < whole.finish.completion_tokens <= 24
    short = await case.ask(who, chat=chat, max_tokens=5)
    assert (short.finish.reason, short.finish.completion_tokens) == (Finish.LENGTH, 5)
    assert short.finish.prompt_tokens == whole.finish.prompt_tokens
    assert whole.text.startswith(short.text)


async def test_an_answer_without_a_limit_goes_on_to_the_context(case: Case) -> None:
    """Some servers write 16 or 20 tokens when they are not told how many."""
    for chat in (True, False):
        answer = await case.ask(case.adapters[0], chat=chat, max_tokens=0)
        assert answer.finish.completion_tokens > 20
    long = await case.ask(case.adapters[0], max_tokens=1_000_000)
    total = long.finish.prompt_tokens + long.finish.completion_tokens
    assert total <= case.base.context_tokens


async def test_a_prompt_beyond_the_context_is_told_as_such(case: Case) -> None:
    text = "long " * case.base.context_tokens
    for chat, limit in ((True, 64), (False, 64), (True, 0), (False, 0)):
        with pytest.raises(InvalidArgument) as caught:
            await case.ask(chat=chat, text=text, max_tokens=limit)
        assert caught.value.reason == "CONTEXT_LENGTH_EXCEEDED"
        assert caught.value.field == ("messages" if chat else "text")


async def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(case: Case) -> None:
    whole = await case.ask()
    for width in (1, 4):
        stop = whole.text[6 : 6 + width]
        stopped = await case.ask(stop=["never to be seen", stop])
        assert stopped.text == whole.text[: whole.text.index(stop)]
        assert stopped.finish.reason == Finish.STOP
        assert stopped.finish.completion_tokens <= whole.finish.completion_tokens


async def test_several_answers_are_told_apart(case: Case) -> None:
    answers = await case.ask(answer_count=3, temperature=1.0, seed=7, max_tokens=8)
    assert sorted(answers.finishes) == [0, 1, 2]
    assert all(answers.finishes[index].completion_tokens for index in range(3))
    greedy = await case.ask(answer_count=3, max_tokens=8)
    assert len({greedy.texts[index] for index in range(3)}) == 1
    assert greedy.texts[2] == (await case.ask(max_tokens=8)).text


@pytest.mark.parametrize("chat", [True, False])
async def test_log_probabilities_are_of_every_token(case: Case, *, chat: bool) -> None:
    plain = await case.ask(chat=chat, max_tokens=12)
    answer = await case.ask(chat=chat, max_tokens=12, logprobs=True, top_logprobs=2)
    assert not plain.tokens[0]
    assert answer.text == plain.text
    tokens = answer.tokens[0]
    assert len(tokens) == answer.finish.completion_tokens
    written = b"".join(token.text for token in tokens).decode(errors="replace")
    assert written.startswith(answer.text.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert all(token.logprob <= 0 for token in tokens)
    assert all(len(token.top) == 2 and not token.top[0].top for token in tokens)


async def test_the_same_seed_is_passed_on(case: Case) -> None:
    first = await case.ask(temperature=1.0, seed=11, max_tokens=12)
    again = await case.ask(temperature=1.0, seed=11, max_tokens=12)
    assert first.text == again.text


async def test_another_models_adapter_is_refused(case: Case) -> None:
    foreign = Adapter()
    foreign.CopyFrom(case.adapters[0])
    foreign.base_model_digest = "0" * 64
    with pytest.raises(FailedPrecondition) as caught:
        await case.ask(foreign)
    assert caught.value.reason == "BASE_MODEL_MISMATCH"
    request = case.request()
    request.base_model_digest = "0" * 64
    with pytest.raises(FailedPrecondition) as caught:
        await collected(case.engine, request)
    assert caught.value.reason == "BASE_MODEL_MISMATCH"


async def test_another_projects_adapter_is_absent(case: Case) -> None:
    request = case.request(case.adapters[0])
    request.parent = "projects/other"
    with pytest.raises(NotFound):
        await collected(case.engine, request)


async def test_an_adapter_can_be_held_before_it_is_asked(case: Case) -> None:
    adapter = case.adapters[1]
    request = HoldAdapterRequest(parent="projects/acme", adapter=adapter)
    for hold in (HoldAdapterRequest.LOADED, HoldAdapterRequest.PINNED):
        request.hold = hold
        assert (await case.engine.hold(request)).adapter_digest == adapter.digest
    await eventually(lambda: adapter.digest in case.engine.adapters)
    assert (await case.ask(adapter)).digests == {adapter.digest}


async def test_leaving_an_answer_ends_its_work(case: Case) -> None:
    case.script.open.clear()
    case.script.pieces = 3
    pieces = case.engine.generate(case.request(max_tokens=0))
    await anext(pieces)
    await pieces.aclose()
    await eventually(async_equals(case.running, 0), 15)


async def test_a_deadline_ends_the_work(case: Case) -> None:
    case.script.open.clear()
    asking = case.ask(case.adapters[0], max_tokens=0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asking, 0.05)
    await eventually(async_equals(case.running, 0), 15)


def async_equals(value: Callable[[], Awaitable[int]], wanted: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await value() == wanted

    return check


async def test_a_full_engine_says_when_to_ask_again(scripted: Case) -> None:
    scripted.script.full = True
    with pytest.raises(ResourceExhausted) as caught:
        await scripted.ask()
    assert caught.value.reason == "ENGINE_BUSY"
    assert float(caught.value.metadata["retry_after_seconds"]) > 0
    assert (await scripted.ask()).text


async def test_an_answer_that_breaks_off_is_an_error(scripted: Case) -> None:
    scripted.script.broken = True
    with pytest.raises(Unavailable):
        await scripted.ask()
    assert (await scripted.ask()).text, "the engine itself goes on"
    assert scripted.engine.alive


async def test_every_answer_of_several_has_a_seed_of_its_own(scripted: Case) -> None:
    scripted.script.seeds.clear()
    await scripted.ask(answer_count=3, temperature=1.0, seed=7)
    first = list(scripted.script.seeds)
    assert len(set(first)) == 3
    await scripted.ask(answer_count=3, temperature=1.0, seed=7)
    assert scripted.script.seeds[3:] == first


async def test_vectors_or_a_reason(scripted: Case) -> None:
    request = EmbedTextsRequest(
        parent="projects/acme", base_model_digest=scripted.base.digest, texts=["one", "two"]
    )
    if isinstance(scripted.engine, EngineProcess):
        assert len((await scripted.engine.embed(request)).embeddings) == 2
        return
    with pytest.raises(FailedPrecondition) as caught:
        await scripted.engine.embed(request)
    assert (caught.value.reason, caught.value.field) == ("EMBEDDINGS_NOT_SERVED", "model")


@pytest.mark.parametrize("pieces", [0, 5], ids=["before the first piece", "after it"])
async def test_an_engine_that_dies_loses_its_answers_and_says_so(
    scripted: Case, pieces: int
) -> None:
    scripted.script.open.clear()
    scripted.script.pieces = pieces
    asking = asyncio.create_task(scripted.ask())
    await eventually(async_equals(scripted.running, 1))
    began = time.monotonic()
    await scripted.crash()
    with pytest.raises(Unavailable):
        await asking
    assert time.monotonic() - began < 1, "so that another replica is asked within a second"
    async with asyncio.timeout(5):
        assert await scripted.engine.ended()
    assert not scripted.engine.alive
    with pytest.raises(Unavailable):
        await scripted.ask()
