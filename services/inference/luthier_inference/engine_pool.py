"""The engines of all base models: calls find theirs, and another one when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, Self, TypeVar

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import (
    EmbedTextsRequest,
    EmbedTextsResponse,
    GenerateRequest,
    GenerateResponse,
    HoldAdapterRequest,
    HoldAdapterResponse,
)
from luthier_common.errors import NotFound, PlatformError, ResourceExhausted, Unavailable
from luthier_common.names import project_of
from luthier_common.records.collection import Collection
from luthier_common.rpc.status import RETRY_AFTER

from luthier_inference.admission import Admission
from luthier_inference.engines.port import Engine, Fleet
from luthier_inference.metrics import Metrics
from luthier_inference.placement import choose
from luthier_inference.replicas import Replica
from luthier_inference.served import check_served
from luthier_inference.settings import Precision

_ATTEMPTS = 3  # an engine that dies twice before its first word will do so again
_ROOM_SECONDS = 5.0
_NOT_STARTED = "ENGINE_NOT_STARTED"

logger = logging.getLogger(__name__)

T = TypeVar("T")
Fleets = Callable[[BaseModel], Fleet]
"""Says how a base model is served; FailedPrecondition when it is not what is configured."""


class Group:
    """The replicas of one base model."""

    def __init__(self, base: BaseModel, fleet: Fleet) -> None:
        self.base = base
        self.fleet = fleet
        self.replicas: list[Replica] = []
        self.admission = Admission(fleet.max_calls)
        self.pins: dict[str, HoldAdapterRequest] = {}
        """What is to stay in memory, by digest; told again to an engine that takes over."""

    @property
    def alive(self) -> list[Replica]:
        """Those that take calls."""
        return [replica for replica in self.replicas if replica.engine is not None]

    @property
    def free(self) -> list[Replica]:
        """Those that could be started, the one to be started first in front."""
        free = [replica for replica in self.replicas if not replica.occupied]
        return sorted(free, key=lambda replica: replica.retry_at)

    @property
    def busy(self) -> bool:
        """Whether requests wait in every engine."""
        return all(replica.engine and replica.engine.waiting for replica in self.replicas_running)

    @property
    def replicas_running(self) -> list[Replica]:
        """Those that take calls or are about to."""
        return [replica for replica in self.replicas if replica.occupied]

    async def start(self) -> None:
        """Have an engine run; PlatformError says why none does."""
        if self.alive:
            return
        wanted = self.replicas
        if self.fleet.local:
            # One is enough; one that is being started already is the first choice.
            wanted = [*self.replicas_running, *self.free][:1]
        await _first(wanted)


async def _first(replicas: Sequence[Replica]) -> None:
    """Wait until one of them runs; raise the last error when none does."""
    starts = [asyncio.ensure_future(replica.running()) for replica in replicas]
    try:
        for number, done in enumerate(asyncio.as_completed(starts), 1):
            try:
                await done
                return
            except PlatformError:
                if number == len(starts):
                    raise
    finally:
        for start in starts:
            # Ends the waiting only; and nobody asks the others for their errors.
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)


class EnginePool:
    """Passes calls on to engines, `limit` processes at a time; stops all when left as a context."""

    def __init__(self, fleets: Fleets, *, limit: int, metrics: Metrics) -> None:
        self._fleets = fleets
        self._limit = limit
        self._metrics = metrics
        self._groups: dict[str, Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.engines.set_function(lambda: sum(len(group.alive) for group in self._all()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        replicas = [replica for group in self._all() for replica in group.replicas]
        await asyncio.gather(*(replica.stop() for replica in replicas))

    async def generate(
        self, base: BaseModel, request: GenerateRequest
    ) -> AsyncGenerator[GenerateResponse, None]:
        """Yield what an engine writes; another one is asked while nothing has been passed on.

        Unavailable when the engine is lost later, or none starts; ResourceExhausted when the model
        has too many calls.
        """
        answers = self._answered(base, request, lambda engine: _whole(engine, request))
        async with contextlib.aclosing(answers) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, base: BaseModel, request: EmbedTextsRequest) -> EmbedTextsResponse:
        """Return vectors; errors as those of `generate`."""

        async def ask(engine: Engine) -> AsyncGenerator[EmbedTextsResponse, None]:
            yield await engine.embed(request)

        async with contextlib.aclosing(self._answered(base, request, ask)) as responses:
            return await anext(responses)

    def serves(self, base: BaseModel) -> bool:
        """Whether an engine for `base` runs."""
        return bool(self._group(base).alive)

    def precision(self, base: BaseModel) -> Precision | None:
        """Return how engines hold `base`; None where they read no probes."""
        return self._fleets(base).precision

    async def hold(self, base: BaseModel, request: HoldAdapterRequest) -> HoldAdapterResponse:
        """Load, pin, unpin or unload an adapter where the base model is served.

        What is loaded goes to the process of ours that will be asked, or to every replica of
        another engine; what is unloaded, off all. Errors as those of `generate`.
        """
        group, digest = self._group(base), request.adapter.digest
        group.pins.pop(digest, None)
        if request.hold in (HoldAdapterRequest.LOADED, HoldAdapterRequest.PINNED):
            await group.start()
            replicas = [choose(group.alive, digest)] if group.fleet.local else group.alive
        else:
            replicas = group.alive
        responses = []
        for replica in replicas:
            async with replica.call() as engine:  # counted, so that it does not make room meanwhile
                responses.append(await engine.hold(request))
        if request.hold == HoldAdapterRequest.PINNED:
            group.pins[digest] = request
        return responses[0] if responses else HoldAdapterResponse()

    async def warm(self, base: BaseModel) -> None:
        """Have an engine for `base` run; a failure is only logged."""
        with contextlib.suppress(PlatformError):
            await self._group(base).start()

    def _all(self) -> list[Group]:
        return list(self._groups.values())

    def _group(self, base: BaseModel) -> Group:
        fleet = self._fleets(base)
        # Equal models of two names share our processes; other engines are configured by name.
        key = base.digest if fleet.local else f"{base.name} {base.digest}"
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(base, fleet)
            group.replicas = [self._replica(group, place) for place in fleet.places]
        return group

    def _replica(self, group: Group, place: str) -> Replica:
        async def start() -> Engine:
            if group.fleet.local:
                await self._make_room()
            engine = await group.fleet.start(group.base, place)
            self._spawn(_pin(group, engine))
            return engine

        return Replica(group.base, place, start, self._metrics, eager=not group.fleet.local)

    async def _answered(
        self,
        base: BaseModel,
        request: GenerateRequest | EmbedTextsRequest,
        ask: Callable[[Engine], AsyncGenerator[T, None]],
    ) -> AsyncGenerator[T, None]:
        """Yield what an engine answers, at most the third that is asked."""
        group, came = self._group(base), time.monotonic()
        failed: set[str] = set()
        with group.admission.admit(project_of(request.parent, field="parent")):
            for attempt in range(1, _ATTEMPTS + 1):
                begun = False
                try:
                    async with self._lease(group, request.adapter.digest, failed) as engine:
                        if attempt == 1:
                            self._metrics.queued(base.name, time.monotonic() - came)
                        async with contextlib.aclosing(ask(engine)) as responses:
                            async for response in responses:
                                begun = True
                                yield response
                    return
                except (Unavailable, ResourceExhausted) as error:
                    if begun or attempt == _ATTEMPTS or not _may_help(group, failed, error):
                        if isinstance(error, ResourceExhausted) or error.reason == _NOT_STARTED:
                            raise
                        message = "the model stopped while answering; ask again"
                        raise Unavailable(message, reason="ENGINE_LOST") from error
                    extra = {"base_model": base.name, "attempt": attempt, "detail": error.message}
                    logger.warning("another engine is asked", extra=extra)

    @contextlib.asynccontextmanager
    async def _lease(
        self, group: Group, digest: str, failed: set[str]
    ) -> AsyncGenerator[Engine, None]:
        """Give an engine for one call; where it is lost, or full, its place is put to `failed`."""
        await group.start()
        self._grow(group)
        others = [replica for replica in group.alive if replica.place not in failed]
        replica = choose(others or group.alive or group.replicas, digest)
        try:
            async with replica.call() as engine:
                yield engine
        except ResourceExhausted:
            failed.add(replica.place)
            raise
        except Unavailable:
            failed.add(replica.place)
            if len(others) <= 1:
                await replica.notice_end()
            raise

    def _grow(self, group: Group) -> None:
        """Start one more of our engines where all are busy and there is room for it."""
        free, room = group.free, self._limit - len(self._processes())
        if group.fleet.local and free and room > 0 and group.busy:
            self._spawn(_started(free[0]))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _processes(self) -> list[Replica]:
        """Our engine processes, those included that are about to start."""
        local = [group for group in self._all() if group.fleet.local]
        return [replica for group in local for replica in group.replicas_running]

    async def _make_room(self) -> None:
        """Stop the engines that have been idle for longest until the one that starts fits."""
        while len(self._processes()) > self._limit:
            idle = [each for each in self._processes() if each.engine and not each.calls]
            if not idle:
                raise ResourceExhausted(
                    "all engines are busy with other base models; try again later",
                    reason="ENGINES_BUSY",
                    metadata={RETRY_AFTER: str(_ROOM_SECONDS)},
                )
            await min(idle, key=lambda replica: replica.used_at).stop()


async def _started(replica: Replica) -> None:
    with contextlib.suppress(PlatformError):
        await replica.running()


async def _pin(group: Group, engine: Engine) -> None:
    """Have the engine hold what is pinned and, of our processes, what none of the others holds."""
    held = {digest for replica in group.alive for digest in replica.adapters}
    for digest, request in list(group.pins.items()):
        if not group.fleet.local or digest not in held:
            try:
                await engine.hold(request)
            except PlatformError as error:
                extra = {"adapter": request.adapter.name, "detail": error.message}
                logger.error("a pinned adapter is not held", extra=extra)


async def _whole(
    engine: Engine, request: GenerateRequest
) -> AsyncGenerator[GenerateResponse, None]:
    """Yield the answers; Unavailable when one of them has no end."""
    missing = request.sampling.answer_count or 1
    async with contextlib.aclosing(engine.generate(request)) as pieces:
        async for piece in pieces:
            missing -= piece.HasField("finish")
            yield piece
    if missing:
        raise Unavailable("the answer broke off", reason="ENGINE_LOST")


def _may_help(group: Group, failed: set[str], error: PlatformError) -> bool:
    """Whether another engine, or the same one started again, may do better."""
    if isinstance(error, ResourceExhausted):
        return any(replica.place not in failed for replica in group.alive)
    return error.reason != _NOT_STARTED


async def keep_warm(
    engines: EnginePool, base_models: Collection[BaseModel], names: tuple[str, ...]
) -> None:
    """Have the engines of the named base models run, also of those imported later."""
    changes = base_models.changes()
    for name in names:
        await _warm(engines, base_models, name)
    async for name in changes:
        if name in names:
            await _warm(engines, base_models, name)


async def _warm(engines: EnginePool, base_models: Collection[BaseModel], name: str) -> None:
    try:
        base = await base_models.get(name)
        check_served(base)
        await engines.warm(base)
    except NotFound:
        return
    except PlatformError as error:
        logger.error("cannot preload %s: %s", name, error.message)
