"""Previews: the first rows of a dataset that is not stored, and what all of it would be."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetRow, RowSpan
from luthier.dataset.v1.dataset_service_pb2 import DatasetEstimate, PreviewDatasetResponse
from luthier_common.paging import coerce_page_size

from luthier_dataset.build.artifacts import SourceTable, cells
from luthier_dataset.build.jobs import MakeUnit
from luthier_dataset.build.make import Build
from luthier_dataset.build.pipeline import Pipeline
from luthier_dataset.build.replies import read_questions
from luthier_dataset.build.stored import StoredRow, read_rows
from luthier_dataset.build.workspace import Workspace
from luthier_dataset.datasets import Datasets
from luthier_dataset.readers.job import PART_BYTES
from luthier_dataset.row_pages import to_row

_SAMPLE_BYTES = 1024 * 1024
"""Sources are read, the first one always, until they have so many bytes."""
_STAGES = 4
"""Questions that build on each other: write, read, judge, and one to spare."""
_QUESTIONS_PER_ROW = 2
"""Tasks of a recipe that asks a model, put to it for each row shown."""
_PATIENCE_SECONDS = 20.0
"""So long a model may be away."""
_CONCURRENT = 2


@dataclass
class _Sample:
    """What one recipe makes of the sampled part."""

    budget: int
    """Tasks that may still be put to a model."""
    rows: list[StoredRow] = field(default_factory=list)
    """Those to show."""
    made: int = 0
    tokens: int = 0
    calls: int = 0
    texts: list[str] = field(default_factory=list)
    """What models read and wrote for it."""
    call_tokens: int = 0
    """Tokens of these."""
    tasks: int = 0
    """First questions that the recipe has; no more than the budget were put."""
    answered: int = 0
    """First questions that were."""
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def scale(self) -> float:
        """How many times as much all tasks make as those that were answered."""
        return self.tasks / self.answered if self.answered else 1.0


class Previews:
    """Makes previews, each in a folder of its own that goes with it."""

    def __init__(self, datasets: Datasets, build: Build) -> None:
        self._datasets = datasets
        self._build = build
        self._slots = asyncio.Semaphore(_CONCURRENT)

    async def preview(self, parent: str, draft: Dataset, page_size: int) -> PreviewDatasetResponse:
        """Return the first rows of what a build would make, and an estimate.

        As CreateDataset refuses, so does this; FailedPrecondition for a document that cannot be
        read; Unavailable if a model is away.
        """
        size = coerce_page_size(page_size, default=10, maximum=50)
        dataset = await self._datasets.checked(parent, draft)
        dataset.name = f"{parent}/datasets/preview"
        total = sum(source.size_bytes for source in dataset.sources)
        del dataset.sources[_sampled(dataset) :]
        async with self._slots:
            with tempfile.TemporaryDirectory(prefix="preview-", dir=self._build.folder()) as folder:
                workspace = Workspace(Path(folder) / "build")
                async with self._build.steps(dataset, workspace, partial=True) as pipeline:
                    samples, share = await _sample(pipeline, dataset, workspace, size)
                    rows = await _rows(pipeline, dataset, samples)
        share *= sum(source.size_bytes for source in dataset.sources) / total

        def whole(figure: Callable[[_Sample], int]) -> int:
            return round(sum(figure(one) * one.scale for one in samples) / share)

        return PreviewDatasetResponse(
            rows=rows[:size],
            dropped_by_reason=sum((one.dropped for one in samples), Counter()),
            estimate=DatasetEstimate(
                rows=whole(lambda one: one.made),
                tokens=whole(lambda one: one.tokens),
                model_calls=whole(lambda one: one.calls),
                model_tokens=whole(lambda one: one.call_tokens),
                read_share=share,
            ),
        )


def _sampled(dataset: Dataset) -> int:
    """How many of the sources are read."""
    size = 0
    for number, source in enumerate(dataset.sources, start=1):
        size += source.size_bytes
        if size >= _SAMPLE_BYTES:
            return number
    return len(dataset.sources)


async def _sample(
    pipeline: Pipeline, dataset: Dataset, workspace: Workspace, size: int
) -> tuple[list[_Sample], float]:
    """Make the first part of each source, for each recipe; return it and the share it is."""
    readings = await pipeline.read(most_bytes=PART_BYTES)
    await pipeline.index()
    shown = -(-size // len(dataset.recipes))
    samples = [_Sample(_QUESTIONS_PER_ROW * shown) for _ in dataset.recipes]
    for unit in pipeline.units(readings, by_part=True):
        if unit.part == 0:
            path = workspace.unit(unit.recipe, unit.source, unit.part)
            await _add(samples[unit.recipe], pipeline, path, unit, shown)
    whole = sum(reading.cuts[-1] / reading.share for reading in readings if reading.cuts)
    read = sum(reading.cuts[1] for reading in readings if reading.cuts)
    return samples, read / whole if whole else 1.0


async def _add(
    sample: _Sample,
    pipeline: Pipeline,
    path: Path,
    unit: MakeUnit,
    shown: int,
) -> None:
    """Make a unit, with as many of its questions answered as the budget allows."""
    made = await pipeline.run_unit(unit)
    seen: set[str] = set()
    for stage in range(_STAGES):
        asked = read_questions(path) if made.asked else []
        new = [question for question in asked if question.key not in seen]
        seen.update(question.key for question in new)
        if stage == 0:
            sample.tasks += len(new)
            new = new[: sample.budget]
            sample.budget -= len(new)
            sample.answered += len(new)
        if not new:
            break
        replies = await pipeline.answer(new, patience=_PATIENCE_SECONDS)
        sample.calls += len(new)
        sample.texts += [one.ask.prompt for one in new]
        sample.texts += [reply.text for reply in replies]
        made = await pipeline.run_unit(unit)
    rows = list(read_rows(path))
    sample.rows += rows[: max(0, shown - len(sample.rows))]
    sample.made += made.rows
    sample.tokens += sum(row.tokens for row in rows)
    sample.dropped.update(made.dropped)


async def _rows(pipeline: Pipeline, dataset: Dataset, samples: list[_Sample]) -> list[DatasetRow]:
    """Return the rows to show as the model reads them; count what models read and wrote."""
    files = [source.file for source in dataset.sources]
    table = SourceTable([(source.file, source.sha256) for source in dataset.sources])
    rows: list[DatasetRow] = []
    for sample in samples:
        lines = [(row.shape, row.line) for row in sample.rows]
        read = await pipeline.as_model(lines, sample.texts)
        sample.call_tokens = sum(read.tokens)
        for row, spans in zip(sample.rows, read.spans, strict=True):
            shown = to_row(cells(row, False, row.findings, table), files)
            shown.spans.extend(RowSpan(text=text, learned=learned) for text, learned in spans)
            rows.append(shown)
    return rows
