"""Memory and time of a build by the real service, as the corpus grows."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    GetDatasetRequest,
)
from luthier.dataset.v1.quality_pb2 import QualityCheck
from luthier.dataset.v1.recipe_pb2 import RawRecipe, Recipe, RowsRecipe

from benchmarks.datasets.chunking import MODEL
from benchmarks.datasets.corpora import MEGABYTE, documents, short_rows
from benchmarks.datasets.measuring import Measurement, Outcome, Scale
from benchmarks.datasets.memory import MemoryWatch, Peak
from benchmarks.datasets.service import Service, dataset_process
from tests.support.dataset_service import DatasetClient
from tests.support.scripted_inference import BASE_MODEL

_PARENT = "projects/acme"
_POLL_SECONDS = 0.1
_PIECE = 1024 * 1024
_MOST_SECONDS = 3_000.0


@dataclass(frozen=True)
class Build:
    """One build, watched."""

    megabytes: float
    upload_seconds: float
    seconds: float
    """From the request to READY."""
    stages: dict[str, float]
    """Seconds in each stage, as the service reports them."""
    peak: Peak
    """Of the service and its children, uploads included."""
    rows: int
    near_duplicates: int

    @property
    def seconds_per_megabyte(self) -> float:
        """Seconds of building for each MB of documents."""
        return self.seconds / self.megabytes


def measure(scale: Scale, folder: Path) -> Measurement:
    """Build the small corpus, the large one, the small one again, and one of short rows."""
    sizes = (scale.small_corpus, scale.large_corpus, scale.small_corpus)
    raw, rows = Recipe(raw=RawRecipe()), Recipe(rows=RowsRecipe())
    builds = [
        _build(documents(number, size, scale.largest_document), raw, folder / "build")
        for number, size in enumerate(sizes)
    ]
    corpus = short_rows(0, scale.large_corpus, scale.largest_document)
    short = _build(corpus, rows, folder / "build")
    first, large, last = builds
    small = mean(build.seconds_per_megabyte for build in (first, last))
    return Measurement(
        [
            _memory(f"Peak memory, {large.megabytes:,.0f} MB of documents", large),
            _memory(f"Peak memory, {short.rows / 1e6:.1f} million short rows", short),
            Outcome(
                f"Cost per MB, {large.megabytes:,.0f} MB to {first.megabytes:,.0f} MB",
                f"{large.seconds_per_megabyte:.3f} s/MB", f"{small:.3f} s/MB",
                large.seconds_per_megabyte / small, 1.3, at_most=True,
            ),
        ],
        [_told(build) for build in (*builds, short)],
        {"builds": [asdict(build) for build in (*builds, short)]},
    )  # fmt: skip


def _memory(what: str, build: Build) -> Outcome:
    peak = build.peak
    return Outcome(
        what, f"{peak.rss:,.0f} MB RSS", f"{peak.pss:,.0f} MB PSS", peak.rss, 600, unit=" MB",
        at_most=True,
    )  # fmt: skip


def _build(corpus: Iterator[tuple[str, bytes]], recipe: Recipe, folder: Path) -> Build:
    folder.mkdir()
    try:
        return asyncio.run(_watched(corpus, recipe, folder))
    finally:
        shutil.rmtree(folder)


async def _watched(corpus: Iterator[tuple[str, bytes]], recipe: Recipe, folder: Path) -> Build:
    async with dataset_process(folder, sys.executable, MODEL) as service:
        with MemoryWatch(service.pid) as watch:
            watch.stage = "Uploading"
            files, size, upload_seconds = await _upload(service.client, corpus)
            dataset, stages = await _made(service, watch, recipe, files)
        report = await service.client.report(dataset.name)
    near = [one.count for one in report.findings if one.check == QualityCheck.NEAR_DUPLICATE]
    return Build(
        megabytes=size / MEGABYTE,
        upload_seconds=upload_seconds,
        seconds=sum(stages.values()),
        stages=stages,
        peak=watch.peak,
        rows=dataset.statistics.rows,
        near_duplicates=sum(near),
    )


async def _upload(
    client: DatasetClient, corpus: Iterator[tuple[str, bytes]]
) -> tuple[list[str], int, float]:
    """Store the documents; return their names, bytes and the seconds it took to send them."""
    names, size, seconds = [], 0, 0.0
    for name, data in corpus:
        start = time.perf_counter()
        names.append((await client.upload(data, name, piece=_PIECE)).name)
        seconds += time.perf_counter() - start
        size += len(data)
    return names, size, seconds


async def _made(
    service: Service, watch: MemoryWatch, recipe: Recipe, files: list[str]
) -> tuple[Dataset, dict[str, float]]:
    """Build a dataset of the files; return it with the seconds of each stage."""
    draft = Dataset(source_files=files, recipes=[recipe], base_model=BASE_MODEL)
    stages: dict[str, float] = {}
    last = start = time.perf_counter()
    dataset = await service.client.datasets.CreateDataset(
        CreateDatasetRequest(parent=_PARENT, dataset=draft)
    )
    while dataset.state == Dataset.State.BUILDING:
        if last - start > _MOST_SECONDS:
            raise TimeoutError(f"no dataset after {_MOST_SECONDS:.0f} s, in {watch.stage}")
        await asyncio.sleep(_POLL_SECONDS)
        dataset = await service.client.datasets.GetDataset(GetDatasetRequest(name=dataset.name))
        now = time.perf_counter()
        watch.stage = dataset.progress.stage or watch.stage
        stages[watch.stage] = stages.get(watch.stage, 0.0) + now - last
        last = now
    if dataset.state != Dataset.State.READY:
        raise RuntimeError(f"the build failed: {dataset.error.message}")
    return dataset, stages


def _told(build: Build) -> str:
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in build.stages.items())
    processes = ", ".join(
        f"{name.rpartition(' ')[0]} {size:.0f} MB" for name, size in build.peak.processes.items()
    )
    return (
        f"Build of {build.megabytes:,.0f} MB: {build.seconds:.0f} s ({stages}), sent in "
        f"{build.upload_seconds:.0f} s; {build.rows:,} rows, {build.near_duplicates:,} of them "
        f"near duplicates; peak {build.peak.rss:.0f} MB RSS, {build.peak.pss:.0f} MB PSS, in "
        f"“{build.peak.stage}”: {processes}."
    )
