"""Builds datasets: a folder, the pipeline, then blobs, minted files and what the record says."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetArtifacts, DatasetStatistics
from luthier.dataset.v1.file_pb2 import File
from luthier_common.errors import FailedPrecondition, NotFound, PlatformError
from luthier_common.names import id_of, parent_of, project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.plain import shown

from luthier_dataset.build import artifacts
from luthier_dataset.build.jobs import Finished, Setting, Source
from luthier_dataset.build.pipeline import Pipeline, Plan, Report
from luthier_dataset.build.replies import Replies
from luthier_dataset.build.versions import versions
from luthier_dataset.build.workspace import Workspace
from luthier_dataset.cache import BlobCache
from luthier_dataset.documents import Documents
from luthier_dataset.files import Files
from luthier_dataset.inference import Inference
from luthier_dataset.models import is_encoder_decoder, tokenizer_files
from luthier_dataset.pool import Pool, without_secrets
from luthier_dataset.quality.report import actions, languages
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.recipes.recipe import Kind
from luthier_dataset.recipes.registry import registry

WORKER = "luthier_dataset.build.worker"
_CHUNK_BYTES = 1024 * 1024
_LARGE_BYTES = 8 * 1024 * 1024


class Rejected(Exception):
    """The quality rules let no dataset out, or there are no rows; the report says why."""

    def __init__(self, error: PlatformError, found: Dataset) -> None:
        super().__init__(error.message)
        self.error = error
        self.found = found
        """What is known of the dataset all the same."""


async def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


class Build:
    """Builds datasets; the same pinned inputs and recorded replies make the same bytes."""

    def __init__(
        self,
        files: Files,
        blobs: Blobs,
        inference: Inference,
        cache: BlobCache,
        prompts: QuestionPrompts,
        folder: Path,
        *,
        workers: int,
    ) -> None:
        self._files = files
        self._blobs = blobs
        self._inference = inference
        self._cache = cache
        self._prompts = prompts
        self._folder = folder
        self._workers = workers

    async def make(self, dataset: Dataset, report: Report) -> Dataset:
        """Make and store the rows; return a Dataset holding only what the build found out.

        Rejected, and PlatformError of any kind; after the transient ones another try goes on where
        this one ended.
        """
        workspace = self._workspace(dataset)
        async with self.steps(dataset, workspace, report) as pipeline:
            readings = await pipeline.read()
            await pipeline.index()
            units = pipeline.units(readings)
            await pipeline.make(units)
            finished = await pipeline.finish(units, readings, actions(dataset.quality_rules))
        return await self._store(dataset, workspace, finished)

    @asynccontextmanager
    async def steps(
        self,
        dataset: Dataset,
        workspace: Workspace,
        report: Report = _silent,
        *,
        partial: bool = False,
    ) -> AsyncIterator[Pipeline]:
        """Open the steps of a build on a workspace; `partial` is for previews."""
        await asyncio.to_thread(workspace.open, self._version())
        setting = await self._setting(dataset, workspace, partial=partial)
        await self._replay(dataset, workspace)
        async with (
            Documents(self._blobs, readers=self._workers) as documents,
            Pool(WORKER, size=self._workers, env=_worker_environment()) as workers,
        ):
            plan = Plan(
                dataset, setting, self._kinds(dataset), workspace, documents, workers,
                self._inference, report, at_once=self._workers,
            )  # fmt: skip
            with closing(Pipeline(plan)) as pipeline:
                yield pipeline

    def folder(self) -> Path:
        """Return the folder of all builds."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    async def forget(self, dataset: Dataset) -> None:
        """Delete what a build that has ended left on disk."""
        await asyncio.to_thread(self._workspace(dataset).remove)

    async def sweep(self, building: Iterable[Dataset]) -> None:
        """Delete what builds left on disk whose datasets are no longer being built."""
        kept = {self._workspace(dataset).folder.name for dataset in building}
        for folder in self._folder.glob("*"):
            if folder.name not in kept:
                await asyncio.to_thread(Workspace(folder).remove)

    async def _setting(self, dataset: Dataset, workspace: Workspace, *, partial: bool) -> Setting:
        """Return what every unit needs, the model's tokenizer laid into the workspace."""
        base = await self._inference.base_model(project_of(dataset.name), dataset.base_model)
        if base.digest != dataset.base_model_digest:
            raise FailedPrecondition(
                f"{dataset.base_model} has changed since the dataset was asked for",
                reason="BASE_MODEL_CHANGED",
            )
        for name, data in (await tokenizer_files(base, self._cache)).items():
            (workspace.model / name).write_bytes(data)
        return Setting(
            str(workspace.folder),
            tuple(recipe.SerializeToString(deterministic=True) for recipe in dataset.recipes),
            tuple(Source(one.file, one.display_name, one.sha256) for one in dataset.sources),
            self._prompts,
            base.context_tokens,
            dataset.base_model,
            {dataset.base_model: base.digest, **dataset.model_digests},
            dataset.split.seed,
            self._shares(dataset),
            any(recipe.pairs.balance_labels for recipe in dataset.recipes),
            languages(dataset.quality_rules),
            partial,
            is_encoder_decoder(base),
        )

    def _shares(self, dataset: Dataset) -> int:
        """A group of half the share that is held out fits into it, and is there to be searched."""
        share = dataset.split.validation_share
        searches = any(kind.searches for kind in self._kinds(dataset))
        return math.ceil(2 / share) if share and searches else 0

    def _kinds(self, dataset: Dataset) -> list[Kind]:
        known = registry(self._prompts)
        return [known[recipe.WhichOneof("recipe") or ""] for recipe in dataset.recipes]

    def _version(self) -> str:
        """What decides about rows beside the dataset itself."""
        return json.dumps([versions(), asdict(self._prompts)], sort_keys=True)

    def _workspace(self, dataset: Dataset) -> Workspace:
        # Of the name and of the time, so that one made anew under the name finds nothing.
        identity = hashlib.sha256(dataset.name.encode())
        identity.update(dataset.create_time.SerializeToString(deterministic=True))
        return Workspace(self._folder / identity.hexdigest()[:32])

    async def _replay(self, dataset: Dataset, workspace: Workspace) -> None:
        """Take over the replies of another dataset, where that is asked for."""
        recorded = dataset.replayed_generations_sha256
        with Replies(workspace.replies, writable=True) as replies:
            if recorded:
                path = await self._cache.path(project_of(dataset.name), recorded)
                await asyncio.to_thread(replies.load, path)

    async def _store(self, dataset: Dataset, workspace: Workspace, finished: Finished) -> Dataset:
        found = await self._findings(dataset, workspace, finished)
        if finished.blocked:
            error = FailedPrecondition(finished.blocked, reason=finished.reason)
            raise Rejected(error, found)
        project = project_of(dataset.name)
        rows = await self._blobs.put_file(project, workspace.out / artifacts.ROWS)
        train = await self._mint(dataset, workspace.out / artifacts.TRAIN, "")
        held_out = None
        if found.statistics.validation_rows:
            path = workspace.out / artifacts.VALIDATION
            held_out = await self._mint(dataset, path, "-validation")
        outcome = Dataset(
            file=train.name,
            validation_file=held_out.name if held_out else "",
            digest=finished.digest,
        )
        outcome.MergeFrom(found)
        outcome.artifacts.rows_sha256 = rows.sha256
        known = manifest_of(dataset, outcome, train, held_out, self._prompts)
        manifest = json.dumps(known, sort_keys=True)
        blob = await self._blobs.put_bytes(project, manifest.encode())
        outcome.artifacts.manifest_sha256 = blob.sha256
        return outcome

    async def _findings(
        self, dataset: Dataset, workspace: Workspace, finished: Finished
    ) -> Dataset:
        """Store the report and what models wrote, which a rejected dataset has as well."""
        report = await self._blobs.put_bytes(project_of(dataset.name), finished.report)
        found = Dataset(
            artifacts=DatasetArtifacts(report_sha256=report.sha256),
            statistics=DatasetStatistics.FromString(finished.statistics),
        )
        with Replies(workspace.replies) as replies:
            found.statistics.model_calls = replies.count()
            if found.statistics.model_calls:
                await self._keep(replies.lines(), dataset, found)
        return found

    async def written(self, dataset: Dataset) -> Dataset:
        """Store all that models wrote for a build that has failed, so that another can use it."""
        found = Dataset()
        workspace = self._workspace(dataset)
        if workspace.replies.exists():
            with Replies(workspace.replies, writable=True) as replies:
                if replies.count(unused=True):
                    await self._keep(replies.lines(unused=True), dataset, found)
        return found

    async def _keep(self, lines: Iterable[bytes], dataset: Dataset, found: Dataset) -> None:
        blob = await self._blobs.put_stream(project_of(dataset.name), _each(lines))
        found.artifacts.generations_sha256 = blob.sha256

    async def _mint(self, dataset: Dataset, path: Path, suffix: str) -> File:
        title = dataset.display_name or id_of(dataset.name)
        name = f"{title.removesuffix('.jsonl')}{suffix}.jsonl"[-255:]
        draft = File(display_name=name, purpose=File.Purpose.FINE_TUNE)
        # Of the dataset and of the content: a build that is repeated finds its own file, and one
        # that came out otherwise can never stand under the same name.
        identity = hashlib.sha256(dataset.name.encode())
        identity.update(dataset.create_time.SerializeToString(deterministic=True))
        identity.update(suffix.encode())
        identity.update(await asyncio.to_thread(_digest_of, path))
        file_id = f"file-{identity.hexdigest()[:24]}"
        return await self._files.create_from(
            parent_of(dataset.name), draft, file_id, lambda: _pieces(path), dataset=dataset.name
        )

    async def withdraw(self, dataset: Dataset) -> None:
        """Delete the files minted for a dataset, whose build is over, that it does not name."""
        for file in self._files.minted_by(dataset.name):
            if file.name not in (dataset.file, dataset.validation_file):
                with suppress(NotFound):
                    await self._files.delete(file.name)


def _worker_environment() -> dict[str, str]:
    # glibc (mallopt(3), M_MMAP_THRESHOLD): large arrays are given back when they are freed.
    return {**without_secrets(), "MALLOC_MMAP_THRESHOLD_": str(_LARGE_BYTES)}


def manifest_of(
    dataset: Dataset,
    outcome: Dataset,
    train: File,
    held_out: File | None,
    prompts: QuestionPrompts,
) -> dict[str, Any]:
    """Return the manifest, as docs/datasets.md describes it."""
    files = {"train": train.sha256}
    if held_out:
        files["validation"] = held_out.sha256
    return {
        "schema": "luthier.dataset/1",
        "digest": outcome.digest,
        "files": files,
        "artifacts": shown(outcome.artifacts),
        "sources": [
            {"sha256": one.sha256, "size_bytes": one.size_bytes, "display_name": one.display_name}
            for one in dataset.sources
        ],
        "recipes": [_by_digest(shown(recipe), dataset.model_digests) for recipe in dataset.recipes],
        "base_model_digest": dataset.base_model_digest,
        "model_digests": sorted(dataset.model_digests.values()),
        "split": shown(dataset.split),
        "quality_rules": [shown(rule) for rule in dataset.quality_rules],
        "skip_unreadable": dataset.skip_unreadable,
        "statistics": shown(outcome.statistics),
        "question_prompts": asdict(prompts),
        "versions": versions(),
    }


def _digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _by_digest(value: Any, digests: Mapping[str, str]) -> Any:
    """Return a recipe in which models stand as digests, not as names."""
    if not isinstance(value, dict):
        return value
    return {
        key: digests[one] if key == "model" else _by_digest(one, digests)
        for key, one in value.items()
    }


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield piece


async def _each(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line
