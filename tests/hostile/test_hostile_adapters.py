"""Hostile and broken adapters against the real registry, as the trainer publishes adapters."""

import itertools
import json
import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import (
    CreateAdapterRequest,
    DeleteAdapterRequest,
    ListAdaptersRequest,
)
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier_common.errors import PlatformError

from tests.support.hostile_adapters import KINDS, MARKER, Hostile, harmful_pickle
from tests.support.inference_service import Inference, inference_service
from tests.support.safetensors_files import LORA, matrices, save_snapshot, tensor_file

pytestmark = pytest.mark.asyncio(loop_scope="module")

_names = (f"a-{number}" for number in itertools.count())
_found: list[str] = []
"""What pickles have named since the list was emptied."""


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        _found.append(".".join(map(str, arguments)))


@pytest.fixture(scope="module", autouse=True)
def listening() -> None:
    sys.addaudithook(_listen)  # for good: there is no way to take it off


@pytest.fixture(autouse=True)
def unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was unpickled in this test: nothing, unless the test says so by emptying it."""
    monkeypatch.chdir(tmp_path)
    _found.clear()
    yield _found
    assert _found == []
    assert not Path(MARKER).exists()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inference(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inference]:
    async with inference_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def base(inference: Inference, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return await inference.import_base(save_snapshot(tmp_path_factory.mktemp("base") / "snapshot"))


async def publish(
    inference: Inference, base: BaseModel, files: dict[str, bytes], hostile: Hostile | None = None
) -> Adapter:
    """Store the files and publish them under a name of their own."""
    stored = {path: await inference.blobs.put_bytes("acme", data) for path, data in files.items()}
    adapter = Adapter(
        base_model=base.name,
        base_model_digest=base.digest,
        tokenizer_digest=base.tokenizer_digest,
        dataset_digest="d" * 64,
        training_job="projects/acme/trainingJobs/ftjob-1",
        files=[
            ModelFile(path=path, sha256=blob.sha256, size_bytes=blob.size)
            for path, blob in stored.items()
        ],
    )
    if hostile is not None:
        hostile.spoil(adapter)
        if hostile.flip:
            path, position = hostile.flip
            inference.flip_byte(stored[path].sha256, position)
    request = CreateAdapterRequest(parent="projects/acme", adapter=adapter, adapter_id=next(_names))
    created: Adapter = await inference.adapters().CreateAdapter(request, timeout=30)
    return created


async def registered(inference: Inference) -> list[Adapter]:
    listed = await inference.adapters().ListAdapters(ListAdaptersRequest(parent="projects/acme"))
    return list(listed.adapters)


async def test_there_are_enough_cases_of_enough_kinds() -> None:
    assert len(KINDS) >= 20
    assert sum(map(len, KINDS.values())) >= 200
    for cases in KINDS.values():
        names = [case.name for case in cases]
        assert len(set(names)) == len(names)


async def test_a_pickle_that_is_loaded_would_be_noticed(unpickled: list[str]) -> None:
    pickle.loads(harmful_pickle())
    assert unpickled == ["posix.mkdir"]
    assert Path(MARKER).is_dir()
    unpickled.clear()
    Path(MARKER).rmdir()


@pytest.mark.parametrize("kind", KINDS)
async def test_hostile_adapters_are_refused_by_name_and_leave_nothing(
    inference: Inference, base: BaseModel, kind: str
) -> None:
    outcomes = {}
    for hostile in KINDS[kind]:
        try:
            created = await publish(inference, base, hostile.files, hostile)
            outcomes[hostile.name] = f"taken as {created.name}"
        except PlatformError as error:
            outcomes[hostile.name] = f"{type(error).__name__} {error.reason}"
    assert outcomes == {
        hostile.name: f"{hostile.error.__name__} {hostile.reason}" for hostile in KINDS[kind]
    }
    assert await registered(inference) == []
    # The service goes on, and what they were made from is taken.
    good = {
        "adapter_config.json": json.dumps(LORA).encode(),
        "adapter_model.safetensors": tensor_file(matrices(), {"format": "pt"}),
    }
    created = await publish(inference, base, good)
    assert created.state == Adapter.READY
    assert await registered(inference) == [created]
    await inference.adapters().DeleteAdapter(DeleteAdapterRequest(name=created.name))
