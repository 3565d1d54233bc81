"""The lines to paste of docs/datasets.md, as they stand there, against the real service."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from luthier.inference.v1.base_model_pb2 import BaseModel, ModelFile
from luthier.trainer.v1.training_job_service_pb2 import CreateTrainingJobRequest

from tests.support.dataset_service import dataset_service, store
from tests.support.gateway import KEY, RunningGateway, running_gateway, settings
from tests.support.grpc_server import serving
from tests.support.nats_server import nats_server
from tests.support.scripted_inference import ScriptedInference
from tests.support.scripted_owners import BASE_DIGEST, scripted_owners

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models" / "starter"


def snippet(name: str) -> str:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- snippet: {name} -->\n```\w+\n(.*?)```", page, re.S)
    assert found, name
    return found[1]


async def starter(folder: Path) -> BaseModel:
    """The tokenizer and chat template of the starter model, in the service's store."""
    model = BaseModel(name="projects/library/baseModels/luthier-starter", digest=BASE_DIGEST)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        blob = await store(folder).put_file("library", STARTER / name)
        model.files.append(ModelFile(path=name, sha256=blob.sha256, size_bytes=blob.size))
    return model


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """The gateway and the dataset service; what is behind them answers by a script."""
    (tmp_path / "gateway").mkdir()
    model = ScriptedInference(await starter(tmp_path), lambda prompt: "I do not know.")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        nats = await enter(nats_server(tmp_path))
        owners, server = await enter(scripted_owners())
        owners.reset()
        inference = await enter(serving(*model.services()))
        dataset = await enter(dataset_service(tmp_path, nats.url, inference.address))
        configured = settings(
            tmp_path / "gateway", nats.url, server.address, dataset_address=dataset.address
        )
        yield await enter(running_gateway(configured, owners))


async def test_the_five_minutes_work_as_pasted(gateway: RunningGateway, tmp_path: Path) -> None:
    (tmp_path / ".luthier").mkdir()
    connection = {"rest": f"{gateway.rest}/v1", "api_key": KEY, "models": ["luthier-starter"]}
    (tmp_path / ".luthier" / "connection.json").write_text(json.dumps(connection))
    said = await pasted([sys.executable, "-c", snippet("datasets")], tmp_path)
    assert "<|assistant|>[Everyone at Acme has 28 days" in said
    assert "'read_share': 1.0" in said
    assert "ready {'rows': 6" in said
    assert "# Quality report" in said
    job = gateway.owners.last(CreateTrainingJobRequest).training_job
    assert job.training_file.startswith("projects/default/files/file-")


async def test_the_curl_lines_work_as_pasted(gateway: RunningGateway, tmp_path: Path) -> None:
    said = await pasted(
        ["bash", "-euc", snippet("curl")],
        tmp_path,
        LUTHIER_URL=f"{gateway.rest}/v1",
        LUTHIER_KEY=KEY,
    )
    rows, _, report = said.partition("# Quality report")
    assert [row["origins"][0]["heading_path"] for row in json.loads(rows)["data"]] == [
        ["Acme handbook", "Leave"],
        ["Acme handbook", "Travel"],
    ]
    assert "| Personal data | 1 | reported |" in report


async def pasted(command: list[str], folder: Path, **variables: str) -> str:
    """What lines print that are pasted in a folder with this repository's docs."""
    (folder / "docs").symlink_to(ROOT / "docs")
    ran = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
