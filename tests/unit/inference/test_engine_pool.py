"""The pool with engines that are no processes."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import (
    EmbedTextsRequest,
    EmbedTextsResponse,
    GenerateRequest,
    GenerateResponse,
    HoldAdapterRequest,
    HoldAdapterResponse,
)
from luthier.inference.v1.generation_pb2 import Finish
from luthier_common.errors import (
    FailedPrecondition,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_inference import replicas
from luthier_inference.engine_pool import EnginePool, keep_warm
from luthier_inference.engines.port import Engine, Fleet
from luthier_inference.metrics import Metrics
from luthier_inference.origins import BASE_MODEL
from luthier_inference.placement import choose
from prometheus_client import CollectorRegistry

from tests.support.eventually import eventually

ONE, TWO = (BaseModel(name=f"projects/p/baseModels/{n}", digest=n) for n in ("one", "two"))
REQUEST = GenerateRequest(parent="projects/p")


class FakeEngine:
    """Answers two pieces; `fails` raises before the first, `breaks` after it."""

    def __init__(self, base: BaseModel, place: str) -> None:
        self.base = base
        self.place = place
        self.waiting = 0
        self.held: set[str] = set()
        self.asked = 0
        self.fails: PlatformError | None = None
        self.breaks: PlatformError | None = None
        self.short = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.stopped = False
        self.end = asyncio.Event()

    @property
    def alive(self) -> bool:
        return not self.end.is_set()

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self.held)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateResponse, None]:
        self.asked += 1
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        yield GenerateResponse(text=self.place)
        if self.breaks is not None:
            raise self.breaks
        if not self.short:
            yield GenerateResponse(finish=Finish(reason=Finish.STOP))

    async def embed(self, request: EmbedTextsRequest) -> EmbedTextsResponse:
        self.asked += 1
        return EmbedTextsResponse(adapter_digest=self.place)

    async def hold(self, request: HoldAdapterRequest) -> HoldAdapterResponse:
        digest = request.adapter.digest
        if request.hold == HoldAdapterRequest.UNLOADED:
            self.held.discard(digest)
        else:
            self.held.add(digest)
        return HoldAdapterResponse(adapter_digest=digest)

    async def ended(self) -> str:
        await self.end.wait()
        return "killed"

    async def stop(self) -> None:
        self.stopped = True
        self.end.set()


class Starts:
    """Starts engines, and says how bases are served."""

    def __init__(
        self, *places: str, local: bool = True, max_calls: int = 8, both: bool = False
    ) -> None:
        self.places = places or ("0",)
        self.local = local
        self.max_calls = max_calls
        self.engines: list[FakeEngine] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: dict[str, PlatformError] = {}
        self.tries = 0

    async def __call__(self, base: BaseModel, place: str) -> Engine:
        self.tries += 1
        await self.gate.wait()
        if place in self.errors:
            raise self.errors[place]
        self.engines.append(FakeEngine(base, place))
        return self.engines[-1]

    def fleet(self, base: BaseModel) -> Fleet:
        return Fleet(self, self.places, self.max_calls, self.local)

    def running(self) -> list[FakeEngine]:
        return [engine for engine in self.engines if engine.alive]


def pool(starts: Starts, limit: int = 2) -> EnginePool:
    return EnginePool(starts.fleet, limit=limit, metrics=Metrics(CollectorRegistry()))


async def use(engines: EnginePool, base: BaseModel, digest: str = "") -> str:
    """Ask and return which place has answered."""
    request = GenerateRequest(parent="projects/p")
    if digest:
        request.adapter.digest = digest
    return "".join([piece.text async for piece in engines.generate(base, request)])


def hold(digest: str, what: HoldAdapterRequest.Hold) -> HoldAdapterRequest:
    return HoldAdapterRequest(parent="projects/p", adapter=Adapter(digest=digest), hold=what)


async def test_callers_share_one_start_and_survive_each_other() -> None:
    starts = Starts()
    starts.gate.clear()
    async with pool(starts) as engines:
        callers = [asyncio.create_task(use(engines, ONE)) for _ in range(5)]
        await eventually(lambda: starts.tries == 1)
        callers[0].cancel()
        starts.gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == ["0"] * 4
        assert len(starts.engines) == 1


async def test_a_failed_start_is_told_to_all_and_tried_again() -> None:
    starts = Starts()
    starts.errors["0"] = Unavailable("no memory", reason="ENGINE_NOT_STARTED")
    async with pool(starts) as engines:
        results = await asyncio.gather(
            *(use(engines, ONE) for _ in range(3)), return_exceptions=True
        )
        assert [str(result) for result in results] == ["no memory"] * 3
        starts.errors.clear()
        assert await use(engines, ONE) == "0"


async def test_an_engine_that_never_starts_is_tried_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replicas, "_BACKOFF_SECONDS", (0.0, 50.0))
    starts = Starts()
    starts.errors["0"] = Unavailable("no memory", reason="ENGINE_NOT_STARTED")
    async with pool(starts) as engines:
        for _ in range(4):
            with pytest.raises(Unavailable, match="no memory") as caught:
                await use(engines, ONE)
        assert starts.tries == 2, "the other calls were refused at once"
        assert 40 < float(caught.value.metadata["retry_after_seconds"]) <= 50


async def test_the_longest_idle_engine_makes_room() -> None:
    starts = Starts()
    async with pool(starts, limit=1) as engines:
        await use(engines, ONE)
        await use(engines, TWO)
        assert [engine.stopped for engine in starts.engines] == [True, False]


async def test_a_busy_engine_is_not_taken_away() -> None:
    starts = Starts()
    async with pool(starts, limit=1) as engines:
        await use(engines, ONE)
        starts.engines[0].gate.clear()
        busy = asyncio.create_task(use(engines, ONE))
        await eventually(lambda: starts.engines[0].asked == 2)
        with pytest.raises(ResourceExhausted) as caught:
            await use(engines, TWO)
        assert caught.value.reason == "ENGINES_BUSY"
        assert float(caught.value.metadata["retry_after_seconds"]) > 0
        with pytest.raises(ResourceExhausted):
            await use(engines, TWO)
        starts.engines[0].gate.set()
        assert await busy == "0"
        async with asyncio.timeout(0.5):
            await use(engines, TWO)
        assert starts.engines[0].stopped, "and it is no failure of the second's to have waited"


async def test_a_dead_engine_is_replaced_without_being_asked() -> None:
    starts = Starts()
    async with pool(starts) as engines:
        await use(engines, ONE)
        starts.engines[0].end.set()
        await eventually(lambda: len(starts.engines) == 2)
        assert starts.engines[0].stopped, "what is left of it is cleared away"
        assert await use(engines, ONE) == "0"
        assert starts.engines[1].asked == 1


async def test_an_engine_that_keeps_dying_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_BACKOFF_SECONDS", (0.0, 50.0))
    starts = Starts()
    async with pool(starts) as engines:
        await use(engines, ONE)
        starts.engines[0].end.set()
        await eventually(lambda: len(starts.engines) == 2)
        starts.engines[1].end.set()
        await eventually(lambda: starts.engines[1].stopped)
        with pytest.raises(Unavailable, match="ask again") as caught:
            await use(engines, ONE)
        assert caught.value.reason == "ENGINE_LOST"
        assert len(starts.engines) == 2


async def test_leaving_stops_everything() -> None:
    starts = Starts()
    async with pool(starts) as engines:
        await use(engines, ONE)
        await use(engines, TWO)
        starts.gate.clear()
        late = asyncio.create_task(use(engines, BaseModel(name="x/y", digest="three")))
        await eventually(lambda: sum(engine.stopped for engine in starts.engines) == 1)
    assert all(engine.stopped for engine in starts.engines)
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await late


async def test_a_lost_engine_is_made_up_for_while_nothing_is_out() -> None:
    starts = Starts("a", "b", local=False)
    async with pool(starts) as engines:
        first = await use(engines, ONE, "digest")
        (lost,) = [engine for engine in starts.engines if engine.place == first]
        lost.fails = Unavailable("gone", reason="ENGINE_LOST")
        async with asyncio.timeout(0.5):
            assert await use(engines, ONE, "digest") != first, "at once, by the other one"
        lost.fails = None
        assert await use(engines, ONE, "digest") == first


async def test_an_answer_that_breaks_off_is_told_and_not_begun_again() -> None:
    starts = Starts("a", "b", local=False)
    async with pool(starts) as engines:
        await use(engines, ONE)
        for engine in starts.engines:
            engine.breaks = Unavailable("gone", reason="ANY")
        with pytest.raises(Unavailable, match="ask again") as caught:
            await use(engines, ONE)
        assert caught.value.reason == "ENGINE_LOST"
        assert sum(engine.asked for engine in starts.engines) == 2


async def test_an_answer_without_an_end_is_no_answer() -> None:
    starts = Starts()
    async with pool(starts) as engines:
        await use(engines, ONE)
        starts.engines[0].short = True
        with pytest.raises(Unavailable, match="ask again"):
            await use(engines, ONE)


async def test_a_full_engine_leaves_its_call_to_another() -> None:
    starts = Starts("a", "b", local=False)
    full = ResourceExhausted("full", reason="ENGINE_BUSY", metadata={"retry_after_seconds": "3"})
    async with pool(starts) as engines:
        first = await use(engines, ONE, "digest")
        for engine in starts.engines:
            engine.fails = full if engine.place == first else None
        assert await use(engines, ONE, "digest") != first
        for engine in starts.engines:
            engine.fails = full
        with pytest.raises(ResourceExhausted) as caught:
            await use(engines, ONE, "digest")
        assert caught.value.metadata == {"retry_after_seconds": "3"}


async def test_an_error_of_the_request_is_not_repeated() -> None:
    starts = Starts("a", "b", local=False)
    async with pool(starts) as engines:
        await use(engines, ONE)
        for engine in starts.engines:
            engine.fails = FailedPrecondition("no", reason="ANY")
        with pytest.raises(FailedPrecondition):
            await use(engines, ONE)
        assert sum(engine.asked for engine in starts.engines) == 2


async def test_servers_that_cannot_be_reached_are_tried_again_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replicas, "_BACKOFF_SECONDS", (0.01,))
    starts = Starts("a", "b", local=False)
    starts.errors["b"] = Unavailable("refused", reason="ENGINE_NOT_STARTED")
    async with pool(starts) as engines:
        assert await use(engines, ONE) == "a"
        await eventually(lambda: starts.tries >= 4)
        starts.errors.clear()
        await eventually(lambda: len(starts.running()) == 2)


async def test_a_second_process_starts_when_requests_wait_in_the_first() -> None:
    starts = Starts("0", "1")
    async with pool(starts, limit=2) as engines:
        await use(engines, ONE)
        await use(engines, ONE)
        assert len(starts.engines) == 1, "one is enough while nothing waits"
        starts.engines[0].waiting = 1
        await use(engines, ONE)
        await eventually(lambda: len(starts.running()) == 2)


async def test_growing_takes_no_room_from_other_models() -> None:
    starts = Starts("0", "1")
    async with pool(starts, limit=2) as engines:
        await use(engines, ONE)
        await use(engines, TWO)
        starts.engines[0].waiting = 1
        await use(engines, ONE)
        await asyncio.sleep(0.05)
        assert [engine.base.digest for engine in starts.running()] == ["one", "two"]


async def test_a_project_leaves_room_for_others() -> None:
    starts = Starts(max_calls=10)
    async with pool(starts) as engines:
        await use(engines, ONE)
        starts.engines[0].gate.clear()

        async def ask(project: str) -> None:
            async for _ in engines.generate(ONE, GenerateRequest(parent=f"projects/{project}")):
                pass

        greedy = [asyncio.create_task(ask("greedy")) for _ in range(20)]
        await eventually(lambda: starts.engines[0].asked == 9)
        await eventually(lambda: sum(task.done() for task in greedy) == 12)
        other = asyncio.create_task(ask("other"))
        await eventually(lambda: starts.engines[0].asked == 10)
        starts.engines[0].gate.set()
        await other
        results = await asyncio.gather(*greedy, return_exceptions=True)
        refused = [each for each in results if isinstance(each, ResourceExhausted)]
        assert {each.reason for each in refused} == {"ENGINE_BUSY"}
        assert all(float(each.metadata["retry_after_seconds"]) >= 1 for each in refused)
        assert (len(refused), results.count(None)) == (12, 8)


async def test_adapters_are_held_where_they_are_asked_for() -> None:
    starts = Starts("a", "b", local=True)
    async with pool(starts) as engines:
        await use(engines, ONE)
        starts.engines[0].waiting = 1
        await use(engines, ONE)
        await eventually(lambda: len(starts.running()) == 2)
        response = await engines.hold(ONE, hold("d", HoldAdapterRequest.LOADED))
        assert response.adapter_digest == "d"
        (holder,) = [engine for engine in starts.engines if engine.held]
        assert await use(engines, ONE, "d") == holder.place
        await engines.hold(ONE, hold("d", HoldAdapterRequest.UNLOADED))
        assert not holder.held


async def test_servers_of_others_all_hold_what_is_loaded() -> None:
    starts = Starts("a", "b", local=False)
    async with pool(starts) as engines:
        await use(engines, ONE)
        await eventually(lambda: len(starts.running()) == 2)
        await engines.hold(ONE, hold("d", HoldAdapterRequest.LOADED))
        assert [engine.held for engine in starts.engines] == [{"d"}, {"d"}]


async def test_a_pinned_adapter_is_held_again_after_a_crash() -> None:
    starts = Starts()
    async with pool(starts) as engines:
        await engines.hold(ONE, hold("d", HoldAdapterRequest.PINNED))
        starts.engines[0].end.set()
        await eventually(lambda: len(starts.engines) == 2 and starts.engines[1].held == {"d"})
        await engines.hold(ONE, hold("d", HoldAdapterRequest.UNLOADED))
        starts.engines[1].end.set()
        await eventually(lambda: len(starts.running()) == 1 and len(starts.engines) == 3, 15)
        assert await use(engines, ONE) == "0"
        assert not starts.engines[2].held


async def test_nothing_is_started_to_unload_an_adapter() -> None:
    starts = Starts()
    async with pool(starts) as engines:
        await engines.hold(ONE, hold("d", HoldAdapterRequest.UNLOADED))
        assert not starts.engines


async def test_vectors_come_from_an_engine_too() -> None:
    starts = Starts()
    async with pool(starts) as engines:
        response = await engines.embed(ONE, EmbedTextsRequest(parent="projects/p"))
        assert response.adapter_digest == "0"


async def test_no_engine_is_kept_warm_for_what_is_not_served() -> None:
    starts = Starts()
    asked, held = (f"projects/p/baseModels/{name}" for name in ("asked", "held"))
    async with (
        Collection(MemoryRecords(), BaseModel, BASE_MODEL) as models,
        pool(starts) as engines,
    ):
        bad = BaseModel(digest="held")
        bad.tuning_origin.hold_reason = "worse than before"
        await models.create(held, bad)
        await models.create(asked, BaseModel(digest="asked"))
        keeping = asyncio.create_task(keep_warm(engines, models, (held, asked)))
        await eventually(lambda: bool(starts.engines))
        assert [engine.base.name for engine in starts.engines] == [asked], "the last of the two"
        keeping.cancel()


class Place:
    def __init__(self, place: str, calls: int = 0, adapters: frozenset[str] = frozenset()) -> None:
        self.place = place
        self.calls = calls
        self.adapters = adapters


DIGESTS = [f"digest-{number}" for number in range(600)]


def placed(places: list[Place]) -> dict[str, str]:
    return {digest: choose(places, digest).place for digest in DIGESTS}


def test_placement_is_the_same_everywhere_and_even() -> None:
    places = [Place(name) for name in "abc"]
    first = placed(places)
    assert first == placed(list(reversed(places)))
    counts = [list(first.values()).count(name) for name in "abc"]
    assert min(counts) > 150, counts


def test_a_place_that_goes_moves_its_own_adapters_only() -> None:
    before = placed([Place(name) for name in "abcd"])
    after = placed([Place(name) for name in "abd"])
    moved = {digest for digest in DIGESTS if before[digest] != after[digest]}
    assert moved == {digest for digest in DIGESTS if before[digest] == "c"}


def test_one_that_holds_the_adapter_is_chosen_unless_it_is_clearly_busier() -> None:
    for digest in DIGESTS[:20]:
        cold, warm = Place("cold"), Place("warm", adapters=frozenset({digest}))
        assert choose([cold, warm], digest) is warm
        warm.calls = 3
        assert choose([cold, warm], digest) is warm, "few calls are no reason"
        warm.calls = 40
        assert choose([cold, warm], digest) is cold
        cold.calls = 40
        assert choose([cold, warm], digest) is warm


def test_the_base_alone_is_asked_where_least_is_to_do() -> None:
    assert choose([Place("a", 3), Place("b", 2), Place("c", 2)], "").place == "b"
