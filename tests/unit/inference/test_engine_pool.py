"""The pool with engines that are no processes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import ResourceExhausted, Unavailable
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_inference.engine_pool import EnginePool, keep_warm
from luthier_inference.metrics import Metrics
from luthier_inference.origins import BASE_MODEL
from prometheus_client import CollectorRegistry

from tests.support.eventually import eventually

ONE, TWO = (BaseModel(name=f"projects/p/baseModels/{n}", digest=n) for n in ("one", "two"))


class FakeEngine:
    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self.calls = 0
        self.used_at = 0.0
        self.stopped = False
        self.ended = asyncio.Event()

    @property
    def child(self) -> "FakeEngine":
        return self

    pid = 1

    @property
    def alive(self) -> bool:
        return not self.ended.is_set()

    async def watch(self) -> int:
        await self.ended.wait()
        return -9

    async def stop(self) -> None:
        self.stopped = True
        self.ended.set()

    @asynccontextmanager
    async def call(self) -> AsyncGenerator[None, None]:
        self.calls += 1
        self.used_at = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self.calls -= 1


class Starts:
    def __init__(self) -> None:
        self.engines: list[FakeEngine] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self, base: BaseModel) -> FakeEngine:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.engines.append(FakeEngine(base))
        return self.engines[-1]


def pool(starts: Starts, limit: int = 2) -> EnginePool:
    return EnginePool(starts, limit=limit, metrics=Metrics(CollectorRegistry()))  # type: ignore[arg-type]


async def use(engines: EnginePool, base: BaseModel) -> object:
    async with engines.lease(base) as engine:
        return engine


async def test_callers_share_one_start_and_survive_each_other() -> None:
    starts = Starts()
    starts.gate.clear()
    async with pool(starts) as engines:
        callers = [asyncio.create_task(use(engines, ONE)) for _ in range(5)]
        await asyncio.sleep(0)
        callers[0].cancel()
        starts.gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert set(results[1:]) == set(starts.engines)
        assert len(starts.engines) == 1


async def test_a_failed_start_is_told_to_all_and_tried_again() -> None:
    starts = Starts()
    starts.error = Unavailable("no memory", reason="ENGINE_NOT_STARTED")
    async with pool(starts) as engines:
        results = await asyncio.gather(
            *(use(engines, ONE) for _ in range(3)), return_exceptions=True
        )
        assert [str(result) for result in results] == ["no memory"] * 3
        starts.error = None
        assert await use(engines, ONE) is starts.engines[0]


async def test_the_longest_idle_engine_makes_room() -> None:
    starts = Starts()
    async with pool(starts, limit=1) as engines:
        await use(engines, ONE)
        await use(engines, TWO)
        assert [engine.stopped for engine in starts.engines] == [True, False]


async def test_a_busy_engine_is_not_taken_away() -> None:
    starts = Starts()
    async with pool(starts, limit=1) as engines:
        async with engines.lease(ONE):
            with pytest.raises(ResourceExhausted):
                await use(engines, TWO)
            assert await use(engines, ONE) is starts.engines[0]
        await use(engines, TWO)
        assert starts.engines[0].stopped


async def test_a_dead_engine_is_replaced_without_being_asked() -> None:
    starts = Starts()
    async with pool(starts) as engines:
        await use(engines, ONE)
        starts.engines[0].ended.set()
        await eventually(lambda: len(starts.engines) == 2)
        assert await use(engines, ONE) is starts.engines[1]


async def test_leaving_stops_everything() -> None:
    starts = Starts()
    async with pool(starts) as engines:
        await use(engines, ONE)
        await use(engines, TWO)
        starts.gate.clear()
        late = asyncio.create_task(use(engines, BaseModel(name="x", digest="three")))
        await eventually(lambda: sum(engine.stopped for engine in starts.engines) == 1)
    assert all(engine.stopped for engine in starts.engines)
    with pytest.raises(asyncio.CancelledError):
        await late


async def test_no_engine_is_kept_warm_for_what_is_not_served() -> None:
    starts = Starts()
    asked, held, t5 = (f"projects/p/baseModels/{name}" for name in ("asked", "held", "t5"))
    async with (
        Collection(MemoryRecords(), BaseModel, BASE_MODEL) as models,
        pool(starts) as engines,
    ):
        await models.create(t5, BaseModel(digest="t5", architecture="T5ForConditionalGeneration"))
        bad = BaseModel(digest="held", has_chat_template=True)
        bad.tuning_origin.hold_reason = "worse than before"
        await models.create(held, bad)
        await models.create(asked, BaseModel(digest="asked", has_chat_template=True))
        keeping = asyncio.create_task(keep_warm(engines, models, (t5, held, asked)))
        await eventually(lambda: bool(starts.engines))
        assert [engine.base.name for engine in starts.engines] == [asked], "the last of the three"
        keeping.cancel()
