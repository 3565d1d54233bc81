"""Builds that are interrupted, repeated, replayed: the same rows every time, nothing done twice."""

import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import CreateDatasetRequest, GetDatasetRequest
from luthier.dataset.v1.recipe_pb2 import (
    HeadingsRecipe,
    QuestionsRecipe,
    Recipe,
)
from luthier_common.children import Child, spawn
from luthier_common.errors import InvalidArgument
from luthier_common.identity import IdentitySigner
from luthier_common.nats_process import NatsProcess
from luthier_common.rpc.client import connect

from tests.support.dataset_service import (
    DatasetClient,
    client_of,
    dataset_service,
    store,
)
from tests.support.eventually import eventually
from tests.support.grpc_server import SECRET, Serving, caller, serving
from tests.support.nats_server import nats_server
from tests.support.s3_server import free_port
from tests.support.scripted_inference import BASE_MODEL, ScriptedInference, import_base_model

RECIPES = [
    Recipe(headings=HeadingsRecipe()),
    Recipe(questions=QuestionsRecipe(questions_per_statement=2)),
]
DOCUMENTS = [
    "".join(
        f"## Part {part} of {name}\n\nThing{part} of {name} takes {part + 10} days to arrive.\n\n"
        for part in range(12)
    ).encode()
    for name in ("Acme", "Bolt", "Cask", "Dune")
]


def answer(prompt: str) -> str:
    words = prompt.split()
    if prompt.startswith("Write"):
        return f"How many days does {words[4]} of {words[6]} take in form {words[2]}?"
    return next(word for word in words if word.isdigit())


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def model(tmp_path: Path) -> ScriptedInference:
    return ScriptedInference(await import_base_model(store(tmp_path)), answer)


@pytest.fixture
async def inference(model: ScriptedInference) -> AsyncIterator[Serving]:
    async with serving(*model.services()) as running:
        yield running


@asynccontextmanager
async def process(folder: Path, nats: str, inference: str, port: int) -> AsyncIterator[Child]:
    """Run the service as a process of its own, to be killed."""
    env = {
        **os.environ,
        "LUTHIER_GRPC_ADDRESS": f"127.0.0.1:{port}",
        "LUTHIER_NATS_URL": nats,
        "LUTHIER_OBJECTS_URL": (folder / "objects").as_uri(),
        "LUTHIER_IDENTITY_SECRET": SECRET,
        "LUTHIER_INFERENCE_ADDRESS": inference,
        "LUTHIER_WORK_DIR": str(folder / "work"),
    }
    with (folder / "service.log").open("ab") as log:
        async with await spawn(
            sys.executable, "-m", "luthier_dataset", env=env, stdout=log, stderr=log
        ) as child:
            yield child


@asynccontextmanager
async def client(port: int) -> AsyncIterator[DatasetClient]:
    async with connect(f"127.0.0.1:{port}", signer=IdentitySigner(SECRET)) as channel:
        yield client_of(channel.with_identity(caller()))


async def create(
    client: DatasetClient, name: str, recipes: Sequence[Recipe] = (), **fields: object
) -> Dataset:
    files = [
        (await client.upload(data, f"{number}.md", file_id=f"{name}-{number}")).name
        for number, data in enumerate(DOCUMENTS)
    ]
    draft = Dataset(source_files=files, recipes=recipes or RECIPES, base_model=BASE_MODEL, **fields)  # type: ignore[arg-type]
    request = CreateDatasetRequest(parent="projects/acme", dataset=draft, dataset_id=name)
    return await client.datasets.CreateDataset(request)


async def ready(client: DatasetClient, name: str) -> Dataset:
    async def look() -> Dataset:
        dataset = await client.datasets.GetDataset(GetDatasetRequest(name=name))
        assert dataset.state == Dataset.State.READY, dataset
        return dataset

    return await eventually(look, timeout=60)


async def test_a_build_killed_again_and_again_goes_on_where_it_stopped(
    tmp_path: Path, nats: NatsProcess, model: ScriptedInference, inference: Serving
) -> None:
    port = free_port()
    until = 30
    enough = model.pause_after(until)
    async with process(tmp_path, nats.url, inference.address, port) as child, client(port) as user:
        name = (await eventually(lambda: create(user, "killed"), timeout=30)).name
        await enough.wait()
        os.kill(child.pid, signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL
    for _ in range(2):
        enough = model.pause_after(until := until + 40)
        async with process(tmp_path, nats.url, inference.address, port) as child:
            await enough.wait()
            os.kill(child.pid, signal.SIGKILL)
            await child.wait()
    model.resume()
    async with process(tmp_path, nats.url, inference.address, port), client(port) as user:
        killed = await ready(user, name)
        asked = Counter(request.messages[0].content for request in model.asked)
        calm = await ready(user, (await create(user, "calm")).name)
    questions = 12 * len(DOCUMENTS) * 2
    assert killed.statistics.model_calls == 2 * questions
    # Asked again was only what was on its way when the service was killed: 24 at a time.
    assert sum(asked.values()) <= 2 * questions + 3 * 24
    assert killed.digest == calm.digest
    assert killed.statistics.rows == calm.statistics.rows == 12 * len(DOCUMENTS) * 3
    assert list((tmp_path / "work" / "builds").iterdir()) == []


async def test_rows_and_bytes_depend_neither_on_workers_nor_on_names(
    tmp_path: Path, nats: NatsProcess, inference: Serving
) -> None:
    made = []
    for workers, name in ((1, "alone"), (3, "together")):
        async with dataset_service(
            tmp_path, nats.url, inference.address, build_workers=workers
        ) as server:
            split = {"validation_share": 0.3, "seed": 7}
            dataset = await create(server.client(), name, split=split)
            made.append(await ready(server.client(), dataset.name))
    one, three = made
    assert one.statistics.validation_rows > 0
    assert (one.digest, one.artifacts) == (three.digest, three.artifacts)
    assert one.source_files != three.source_files


async def test_recorded_generations_stand_in_for_the_model(
    tmp_path: Path, nats: NatsProcess, model: ScriptedInference, inference: Serving
) -> None:
    async with dataset_service(tmp_path, nats.url, inference.address) as server:
        user = server.client()
        first = await ready(user, (await create(user, "first")).name)
        model.asked.clear()
        model.answer = lambda prompt: "another model of the same name"
        replayed = await create(user, "replayed", generations_of=first.name)
        second = await ready(user, replayed.name)
    assert model.asked == []
    assert second.digest == first.digest
    assert second.artifacts.generations_sha256 == first.artifacts.generations_sha256


WRITER = "projects/acme/adapters/writer"


async def test_an_adapter_writes_and_is_pinned(
    tmp_path: Path, nats: NatsProcess, model: ScriptedInference, inference: Serving
) -> None:
    recipe = Recipe(questions=QuestionsRecipe(questions_per_statement=1, model=WRITER))
    async with dataset_service(tmp_path, nats.url, inference.address) as server:
        user = server.client()
        with pytest.raises(InvalidArgument, match="there is no model") as refused:
            await create(user, "absent", recipes=[recipe])
        assert refused.value.field == "dataset.recipes[0].questions.model"
        model.adapters[WRITER] = "a" * 64
        made = await ready(user, (await create(user, "made", recipes=[recipe])).name)
        assert {request.model for request in model.asked} == {WRITER}
        assert dict(made.model_digests) == {WRITER: "a" * 64}
        manifest = (await user.manifest(made.name)).json
        # The model stands by its digest; names of resources are no part of what a dataset is.
        assert '"model": "' + "a" * 64 in manifest
        assert "projects/" not in manifest

        enough = model.pause_after(len(model.asked) + 5)
        changed = await create(user, "changed", recipes=[recipe])
        await enough.wait()
        model.adapters[WRITER] = "b" * 64
        model.resume()
        failed = await eventually(lambda: ended(user, changed.name, Dataset.State.FAILED))
        assert "has changed since the dataset was asked for" in failed.error.message
        # What was written before it failed is not lost.
        model.adapters[WRITER] = "a" * 64
        model.asked.clear()
        again = await create(user, "again", recipes=[recipe], generations_of=changed.name)
        assert (await ready(user, again.name)).digest == made.digest
        assert 0 < len(model.asked) < made.statistics.model_calls


async def ended(client: DatasetClient, name: str, state: Dataset.State) -> Dataset:
    dataset = await client.datasets.GetDataset(GetDatasetRequest(name=name))
    assert dataset.state == state
    return dataset
