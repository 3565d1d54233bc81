"""Where an adapter comes from, and what came of it, from the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from luthier.inference.v1.adapter_pb2 import Adapter, AdapterLineage, Ancestor
from luthier.inference.v1.base_model_pb2 import BaseModel, TuningOrigin
from luthier_common.errors import NotFound
from luthier_common.records.collection import Collection

# What the trainer writes into an adapter's configuration.
_START, _START_DIGEST = "start_adapter", "start_adapter_digest"


async def trace(
    adapter: Adapter, relatives: Iterable[Adapter], base_models: Collection[BaseModel]
) -> AdapterLineage:
    """Return the lineage of one of `relatives`: all adapters of its project, deleted ones too."""
    by_name = {relative.name: relative for relative in relatives}
    others = [
        other
        for other in by_name.values()
        if other.name != adapter.name and not other.HasField("delete_time")
    ]
    return AdapterLineage(
        adapter=_of(adapter),
        start_adapters=_starts(adapter, by_name),
        base_models=await _bases(adapter, base_models),
        sibling_adapters=[
            other.name for other in others if other.training_job == adapter.training_job
        ],
        derived_adapters=[
            other.name for other in others if other.configuration.get(_START) == adapter.name
        ],
    )


def _starts(adapter: Adapter, by_name: Mapping[str, Adapter]) -> list[Ancestor]:
    found: list[Ancestor] = []
    seen = {adapter.name}
    while (name := adapter.configuration.get(_START, "")) and name not in seen:
        seen.add(name)
        start = by_name.get(name)
        if start is None:
            # Not of this project, or never there: nothing is told but what this one says itself.
            digest = adapter.configuration.get(_START_DIGEST, "")
            return [*found, Ancestor(name=name, digest=digest, deleted=True)]
        found.append(_of(start))
        adapter = start
    return found


async def _bases(adapter: Adapter, base_models: Collection[BaseModel]) -> list[Ancestor]:
    """Return the models below it; bases are older than what is made of them, so this ends."""
    found: list[Ancestor] = []
    made: Adapter | TuningOrigin = adapter
    while made.base_model:
        ancestor = Ancestor(name=made.base_model, digest=made.base_model_digest)
        found.append(ancestor)
        try:
            base = await base_models.get(made.base_model)
        except NotFound:
            base = BaseModel()
        # Ids of base models are given again: another digest is another model.
        if base.digest != made.base_model_digest:
            ancestor.deleted = True
            break
        made = base.tuning_origin
        ancestor.training_job, ancestor.dataset_digest = made.training_job, made.dataset_digest
    return found


def _of(adapter: Adapter) -> Ancestor:
    return Ancestor(
        name=adapter.name,
        digest=adapter.digest,
        training_job=adapter.training_job,
        dataset_digest=adapter.dataset_digest,
        deleted=adapter.HasField("delete_time"),
    )
