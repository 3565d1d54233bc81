"""The API of adapters on records in memory; the engines only remember what they were asked."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from luthier.inference.v1 import adapter_service_pb2 as api
from luthier.inference.v1 import events_pb2
from luthier.inference.v1.adapter_pb2 import Adapter, Ancestor
from luthier.inference.v1.base_model_pb2 import BaseModel, TuningOrigin
from luthier.inference.v1.engine_service_pb2 import HoldAdapterRequest, HoldAdapterResponse
from luthier_common.errors import (
    FailedPrecondition,
    NotFound,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.records.collection import Collection
from luthier_common.records.memory import MemoryRecords
from luthier_inference.adapters import ADAPTER, Adapters
from luthier_inference.digests import adapter_digest
from luthier_inference.events import event_for
from luthier_inference.origins import BASE_MODEL

Hold = HoldAdapterRequest
BASE = "projects/library/baseModels/tiny"
JOB = "projects/acme/trainingJobs/ftjob"


class Engines:
    """Remembers what they were asked to hold, and fails if told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Hold.Hold]] = []
        self.failure: PlatformError | None = None
        self.meanwhile: Any = None
        """What happens while they load."""

    async def hold(self, base: BaseModel, request: HoldAdapterRequest) -> HoldAdapterResponse:
        assert request.parent == "projects/acme"
        self.asked.append((base.name, request.adapter.name, request.hold))
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        if self.failure is not None:
            raise self.failure
        return HoldAdapterResponse(adapter_digest=request.adapter.digest)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SimpleNamespace]:
    records, engines = MemoryRecords(), Engines()
    async with (
        Collection(records, Adapter, ADAPTER) as adapters,
        Collection(records, BaseModel, BASE_MODEL) as bases,
    ):
        await bases.create(BASE, BaseModel(digest="b" * 64))
        service = Adapters(adapters, bases, Blobs(DirectoryObjects(tmp_path)), engines)
        yield SimpleNamespace(
            records=records, adapters=adapters, bases=bases, engines=engines, service=service
        )


async def stored(house: SimpleNamespace, name: str = "a-1", **values: Any) -> Adapter:
    given: dict[str, Any] = {
        "base_model": BASE,
        "base_model_digest": "b" * 64,
        "training_job": f"{JOB}-1",
        "dataset_digest": "d" * 64,
    } | values
    adapter = Adapter(**given)
    adapter.digest = adapter_digest(adapter)
    created: Adapter = await house.adapters.create(f"projects/acme/adapters/{name}", adapter)
    return created


async def ask(house: SimpleNamespace, method: str, name: str) -> Any:
    request = getattr(api, f"{method}Request")(name=name)
    return await getattr(house.service, method)(request, None)


async def test_a_pin_is_recorded_once_engines_have_it(house: SimpleNamespace) -> None:
    adapter = await stored(house)
    assert not (await ask(house, "GetAdapter", adapter.name)).pinned
    pinned = await ask(house, "PinAdapter", adapter.name)
    assert pinned.pinned
    assert pinned.state == Adapter.READY
    assert adapter_digest(pinned) == adapter.digest == pinned.digest, "it is the same adapter"
    again = await ask(house, "PinAdapter", adapter.name)
    assert again == pinned
    assert house.engines.asked == [(BASE, adapter.name, Hold.PINNED)] * 2
    unpinned = await ask(house, "UnpinAdapter", adapter.name)
    assert not unpinned.pinned
    assert house.engines.asked[2:] == [(BASE, adapter.name, Hold.UNPINNED)]


async def test_what_engines_have_no_room_for_is_not_pinned(house: SimpleNamespace) -> None:
    adapter = await stored(house)
    house.engines.failure = ResourceExhausted("too many are pinned", reason="PINS_FULL")
    with pytest.raises(ResourceExhausted, match="too many"):
        await ask(house, "PinAdapter", adapter.name)
    assert await house.adapters.get(adapter.name) == adapter


async def test_an_adapter_that_is_deleted_while_it_is_pinned_leaves_memory(
    house: SimpleNamespace,
) -> None:
    adapter = await stored(house)
    house.engines.meanwhile = lambda: ask(house, "DeleteAdapter", adapter.name)
    with pytest.raises(NotFound):
        await ask(house, "PinAdapter", adapter.name)
    assert [hold for _, _, hold in house.engines.asked] == [
        Hold.PINNED, Hold.UNLOADED, Hold.UNLOADED
    ]  # fmt: skip
    assert not (await house.adapters.get(adapter.name)).pinned


async def test_a_held_adapter_is_not_pinned(house: SimpleNamespace) -> None:
    adapter = await stored(house, hold_reason="rougeL is 0.1")
    assert (await ask(house, "GetAdapter", adapter.name)).state == Adapter.HELD
    with pytest.raises(FailedPrecondition, match="rougeL is") as caught:
        await ask(house, "PinAdapter", adapter.name)
    assert caught.value.reason == "ADAPTER_HELD"
    assert house.engines.asked == []


async def test_a_pinned_adapter_is_unpinned_before_it_is_unloaded(house: SimpleNamespace) -> None:
    adapter = await stored(house)
    await ask(house, "PinAdapter", adapter.name)
    with pytest.raises(FailedPrecondition, match="unpin it first") as caught:
        await ask(house, "UnloadAdapter", adapter.name)
    assert caught.value.reason == "ADAPTER_PINNED"
    await ask(house, "UnpinAdapter", adapter.name)
    assert (await ask(house, "UnloadAdapter", adapter.name)).name == adapter.name
    assert house.engines.asked[-1] == (BASE, adapter.name, Hold.UNLOADED)


async def test_a_deleted_adapter_leaves_memory_and_nothing_is_done_with_it(
    house: SimpleNamespace,
) -> None:
    adapter = await stored(house)
    await ask(house, "DeleteAdapter", adapter.name)
    assert house.engines.asked == [(BASE, adapter.name, Hold.UNLOADED)]
    for method in ("PinAdapter", "UnpinAdapter", "UnloadAdapter", "GetAdapterLineage"):
        with pytest.raises(NotFound):
            await ask(house, method, adapter.name)
    assert len(house.engines.asked) == 1


async def test_an_engine_that_is_away_does_not_keep_an_adapter_from_its_deletion(
    house: SimpleNamespace,
) -> None:
    adapter = await stored(house)
    house.engines.failure = Unavailable("the engine is away", reason="ENGINE_LOST")
    await ask(house, "DeleteAdapter", adapter.name)
    assert (await house.adapters.get(adapter.name)).HasField("delete_time")


async def test_engines_that_start_anew_get_what_is_pinned(house: SimpleNamespace) -> None:
    for number in range(4):
        name = (await stored(house, f"a-{number}")).name
        if number:
            await ask(house, "PinAdapter", name)
    await ask(house, "UnpinAdapter", "projects/acme/adapters/a-2")
    await ask(house, "DeleteAdapter", "projects/acme/adapters/a-3")
    house.engines.asked.clear()
    await house.service.pin_again()
    assert house.engines.asked == [(BASE, "projects/acme/adapters/a-1", Hold.PINNED)]
    house.engines.failure = Unavailable("the engine is away", reason="ENGINE_LOST")
    await house.service.pin_again()


async def test_each_change_announces_its_fact(house: SimpleNamespace) -> None:
    adapter = await stored(house)
    facts = []
    for method in ("", "PinAdapter", "UnpinAdapter", "DeleteAdapter"):
        if method:
            await ask(house, method, adapter.name)
        entry = await house.records.get(adapter.name)
        fact = event_for(adapter.name, entry.value, entry.revision)
        assert fact is not None
        subject, event = fact
        assert (event.name, event.revision) == (adapter.name, entry.revision)  # type: ignore[attr-defined]
        facts.append((subject.rpartition(".")[2], type(event)))
    assert facts == [
        ("created", events_pb2.AdapterCreated),
        ("changed", events_pb2.AdapterChanged),
        ("changed", events_pb2.AdapterChanged),
        ("deleted", events_pb2.AdapterDeleted),
    ]


def test_records_older_than_their_update_time_were_created() -> None:
    old = b'{"createTime": "2026-01-01T00:00:00Z", "digest": "x"}'
    fact = event_for("projects/acme/adapters/a", old, 7)
    assert fact is not None
    assert fact[0].endswith(".created")


async def test_the_lineage_of_an_adapter(house: SimpleNamespace) -> None:
    origin = TuningOrigin(
        training_job=f"{JOB}-0",
        base_model=BASE,
        base_model_digest="b" * 64,
        dataset_digest="e" * 64,
    )
    tuned = BaseModel(digest="t" * 64, tuning_origin=origin)
    own = "projects/acme/baseModels/tuned"
    await house.bases.create(own, tuned)
    on_own = {"base_model": own, "base_model_digest": "t" * 64}

    def begun(start: Adapter, job: str) -> dict[str, Any]:
        told = {"start_adapter": start.name, "start_adapter_digest": start.digest}
        return {"training_job": f"{JOB}-{job}", "configuration": told, **on_own}

    first = await stored(house, "first", **on_own)
    second = await stored(house, "second", **begun(first, "2"))
    step = await stored(house, "second-s4", **begun(first, "2"))
    gone = await stored(house, "second-s2", **begun(first, "2"))
    third = await stored(house, "third", **begun(second, "3"))
    for name in (gone.name, first.name):
        await ask(house, "DeleteAdapter", name)

    found = await ask(house, "GetAdapterLineage", second.name)
    assert found.adapter == Ancestor(
        name=second.name, digest=second.digest, training_job=f"{JOB}-2", dataset_digest="d" * 64
    )
    assert list(found.start_adapters) == [
        Ancestor(
            name=first.name,
            digest=first.digest,
            training_job=f"{JOB}-1",
            dataset_digest="d" * 64,
            deleted=True,
        )
    ]
    assert list(found.base_models) == [
        Ancestor(name=own, digest="t" * 64, training_job=f"{JOB}-0", dataset_digest="e" * 64),
        Ancestor(name=BASE, digest="b" * 64),
    ]
    assert list(found.sibling_adapters) == [step.name]
    assert list(found.derived_adapters) == [third.name]
    line = (await ask(house, "GetAdapterLineage", third.name)).start_adapters
    assert [start.name for start in line] == [second.name, first.name]


async def test_a_lineage_ends_where_nothing_is_known(house: SimpleNamespace) -> None:
    foreign = "projects/rivals/adapters/secret"
    strange = await stored(
        house,
        base_model="projects/acme/baseModels/gone",
        configuration={"start_adapter": foreign, "start_adapter_digest": "x"},
    )
    found = await ask(house, "GetAdapterLineage", strange.name)
    assert list(found.start_adapters) == [Ancestor(name=foreign, digest="x", deleted=True)]
    (base,) = found.base_models
    assert base.deleted
    assert not base.training_job
    other = await stored(house, "a-2", base_model_digest="c" * 64)
    (base,) = (await ask(house, "GetAdapterLineage", other.name)).base_models
    assert base.deleted, "a model of this name has other bytes now"
    name = "projects/acme/adapters/circle"
    circle = await stored(house, "circle", configuration={"start_adapter": name})
    assert not (await ask(house, "GetAdapterLineage", circle.name)).start_adapters
