"""The datasets of docs/datasets.md: one for each recipe, built from the documents of docs/handbook.

The builds run the service's own steps in its own processes; only the model that writes is
scripted, by docs/handbook/model.jsonl.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import Parse
from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetSource, DatasetStatistics
from luthier.dataset.v1.quality_pb2 import QualityReport
from luthier.dataset.v1.recipe_pb2 import Recipe
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_dataset.build import artifacts
from luthier_dataset.build.jobs import Setting, Source
from luthier_dataset.build.make import WORKER
from luthier_dataset.build.pipeline import Pipeline, Plan
from luthier_dataset.build.workspace import Workspace
from luthier_dataset.documents import Documents
from luthier_dataset.inference import Inference, RemoteModel
from luthier_dataset.models import counter_in
from luthier_dataset.pool import Pool, without_secrets
from luthier_dataset.quality.report import actions
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.recipes.recipe import Reply
from luthier_dataset.recipes.registry import registry
from luthier_dataset.tokens import FILES, TokenCounter
from luthier_gateway.proto_json import fill

ROOT = Path(__file__).resolve().parents[1]
HANDBOOK = ROOT / "docs" / "handbook"
STARTER = ROOT / "models" / "starter"
CONTEXT_TOKENS = json.loads((STARTER / "config.json").read_text())["max_position_embeddings"]
BASE_MODEL = "projects/library/baseModels/luthier-starter"


@dataclass(frozen=True)
class Example:
    """A dataset of one recipe, and how many of its rows are shown."""

    recipe: dict[str, Any]
    """As a REST body has it."""
    sources: tuple[str, ...] = ("page.md",)
    rows: int = 3


EXAMPLES = (
    Example({"type": "raw", "chunk_tokens": 48, "overlap_tokens": 8}),
    Example({"type": "keywords", "most_keywords": 5}),
    Example({"type": "headings"}),
    Example({"type": "questions", "questions_per_statement": 1}, rows=9),
    Example(
        {"type": "context", "passages": 2, "questions": {"questions_per_statement": 1}}, rows=2
    ),
    Example({"type": "semantic", "max_tokens": 96}),
    Example({"type": "conversations", "assistants": ["Helpdesk"]}, ("support.txt",)),
    Example(
        {
            "type": "pairs",
            "input_field": "text",
            "output_field": "team",
            "template": "Ticket {number}: {text}\nWhich team?",
            "balance_labels": True,
        },
        ("tickets.csv",),
    ),
    Example({"type": "code_summary"}, ("store.zip",)),
    Example({"type": "code_metadata"}, ("store.zip",), rows=2),
    Example({"type": "code_raw", "chunk_tokens": 128}, ("store.zip",), rows=2),
    Example({"type": "rows"}, ("rows.jsonl",), rows=5),
)
"""One for each recipe, in the order of the page."""


class _Model(RemoteModel):
    """Replies as docs/handbook/model.jsonl says: by the first line whose parts the prompt has."""

    def __init__(self) -> None:
        lines = (HANDBOOK / "model.jsonl").read_text(encoding="utf-8").splitlines()
        self._script = [json.loads(line) for line in lines]

    async def ask(self, prompt: str, max_tokens: int, *, patience: float | None = None) -> Reply:
        """Return the reply to a prompt."""
        found = (one for one in self._script if all(part in prompt for part in one["has"]))
        return Reply(next(found)["reply"])


class _Inference(Inference):
    """Knows one model."""

    def __init__(self) -> None:
        self._scripted = _Model()

    def model(self, project: str, name: str, digest: str) -> RemoteModel:
        """Return the scripted model, whoever is asked for."""
        return self._scripted


@dataclass(frozen=True)
class Built:
    """What a build made."""

    rows: list[dict[str, Any]]
    """As `artifacts.SCHEMA` has them."""
    statistics: DatasetStatistics
    report: QualityReport


class Builder:
    """Builds examples below one folder, with the service's own steps and processes."""

    def __init__(self, folder: Path, blobs: Blobs, documents: Documents, workers: Pool) -> None:
        self._folder = folder
        self._blobs = blobs
        self._documents = documents
        self._workers = workers

    async def build(self, example: Example) -> Built:
        """Build one example."""
        dataset = await self._dataset(example)
        workspace = Workspace(self._folder / example.recipe["type"])
        workspace.open("docs")
        for name in FILES:
            if (STARTER / name).exists():
                shutil.copy(STARTER / name, workspace.model / name)
        prompts = QuestionPrompts()
        setting = Setting(
            str(workspace.folder),
            tuple(recipe.SerializeToString() for recipe in dataset.recipes),
            tuple(Source(one.file, one.display_name, one.sha256) for one in dataset.sources),
            prompts,
            CONTEXT_TOKENS,
            BASE_MODEL,
            {BASE_MODEL: "0" * 64},
            seed=0,
        )
        plan = Plan(
            dataset, setting, [registry(prompts)[example.recipe["type"]]], workspace,
            self._documents, self._workers, _Inference(), _silent, at_once=2,
        )  # fmt: skip
        with closing(Pipeline(plan)) as pipeline:
            readings = await pipeline.read()
            await pipeline.index()
            units = pipeline.units(readings)
            await pipeline.make(units)
            finished = await pipeline.finish(units, readings, actions([]))
        statistics = DatasetStatistics.FromString(finished.statistics)
        rows, _ = artifacts.read_page(workspace.out / artifacts.ROWS, 0, statistics.rows)
        return Built(rows, statistics, Parse(finished.report, QualityReport()))

    async def _dataset(self, example: Example) -> Dataset:
        kind = example.recipe["type"]
        recipe = Recipe()
        configuration = getattr(recipe, kind)
        configuration.SetInParent()
        fill(configuration, {k: v for k, v in example.recipe.items() if k != "type"}, kind)
        dataset = Dataset(name=f"projects/docs/datasets/{kind}", recipes=[recipe])
        for name in example.sources:
            data = source(name)
            blob = await self._blobs.put_bytes("docs", data)
            file = f"projects/docs/files/{name}"
            dataset.sources.append(
                DatasetSource(
                    file=file, display_name=name, sha256=blob.sha256, size_bytes=blob.size
                )
            )
        return dataset


def source(name: str) -> bytes:
    """Return a document of the handbook; `NAME.zip` is its folder NAME."""
    if not name.endswith(".zip"):
        return (HANDBOOK / name).read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((HANDBOOK / name.removesuffix(".zip")).iterdir()):
            # Without a time: the same bytes whenever it is packed.
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes())
    return packed.getvalue()


async def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@asynccontextmanager
async def opened() -> AsyncIterator[Builder]:
    """Open a builder on a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        blobs = Blobs(DirectoryObjects(Path(folder) / "objects"))
        async with (
            Documents(blobs, readers=1) as documents,
            Pool(WORKER, size=2, env=without_secrets()) as workers,
        ):
            yield Builder(Path(folder), blobs, documents, workers)


def starter() -> TokenCounter:
    """Return the tokenizer and chat template of the base model."""
    return counter_in(STARTER)


async def build_all() -> dict[str, Built]:
    """Build every example; by recipe."""
    async with opened() as builder:
        return {one.recipe["type"]: await builder.build(one) for one in EXAMPLES}
