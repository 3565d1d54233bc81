"""One build, start to end: documents, recipes, token counts, the stored rows."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetStatistics
from luthier.dataset.v1.file_pb2 import File
from luthier_common.errors import FailedPrecondition
from luthier_common.names import id_of, parent_of, project_of
from luthier_common.objects.blobs import Blobs

from luthier_dataset.cache import BlobCache
from luthier_dataset.details import format_detail
from luthier_dataset.documents import Document, Documents
from luthier_dataset.files import Files
from luthier_dataset.inference import Inference
from luthier_dataset.models import counter_of
from luthier_dataset.recipes.recipe import Harvest, Row, Tools
from luthier_dataset.recipes.registry import MakeRows
from luthier_dataset.rows import format_row
from luthier_dataset.tokens import TokenCounter

Report = Callable[[str, int, int], Awaitable[None]]
"""Told the stage, its steps done and its steps in all; cheap to call for each step."""

_BATCH = 500
"""Rows counted or written between two looks at other work."""


class Build:
    """Builds datasets; the same pinned inputs and answers of the model make the same bytes."""

    def __init__(
        self,
        files: Files,
        blobs: Blobs,
        documents: Documents,
        inference: Inference,
        cache: BlobCache,
        recipes: Mapping[str, MakeRows],
    ) -> None:
        self._files = files
        self._blobs = blobs
        self._documents = documents
        self._inference = inference
        self._cache = cache
        self._recipes = recipes

    async def make(self, dataset: Dataset, report: Report) -> Dataset:
        """Make and store the rows; return a Dataset holding only what the build found out.

        PlatformError of any kind; the transient ones are worth another try from the start.
        """
        counter = await self._counter(dataset)
        documents = await self._read(dataset, report)
        harvest = await self._apply(dataset, documents, counter, report)
        if not harvest.rows:
            raise _no_rows(harvest.dropped)
        counts = await _count(harvest.rows, counter, report)
        await report("Storing the rows", 0, 1)
        details = (
            format_detail(row, count) for row, count in zip(harvest.rows, counts, strict=True)
        )
        blob = await self._blobs.put_stream(project_of(dataset.name), _batched(details))
        file = await self._mint(dataset, harvest.rows)
        return Dataset(
            file=file.name,
            row_details_sha256=blob.sha256,
            statistics=_statistics(harvest, counts, len(documents)),
        )

    async def _counter(self, dataset: Dataset) -> TokenCounter:
        base = await self._inference.base_model(project_of(dataset.name), dataset.base_model)
        if base.digest != dataset.base_model_digest:
            raise FailedPrecondition(
                f"{dataset.base_model} has changed since the dataset was asked for",
                reason="BASE_MODEL_CHANGED",
            )
        return await counter_of(base, self._cache)

    async def _read(self, dataset: Dataset, report: Report) -> list[Document]:
        documents: list[Document] = []
        for source in dataset.sources:
            await report("Reading documents", len(documents), len(dataset.sources))
            documents.append(await self._documents.read(source))
        return documents

    async def _apply(
        self,
        dataset: Dataset,
        documents: Sequence[Document],
        counter: TokenCounter,
        report: Report,
    ) -> Harvest:
        harvest = Harvest()
        project = project_of(dataset.name)
        model = self._inference.model(project, dataset.base_model, dataset.base_model_digest)
        for recipe in dataset.recipes:
            name = recipe.WhichOneof("recipe") or ""

            async def progress(done: int, total: int, name: str = name) -> None:
                await report(f"Making rows: {name}", done, total)

            tools = Tools(counter.count, model, progress)
            harvest.take(await self._recipes[name](recipe, documents, tools))
        return harvest

    async def _mint(self, dataset: Dataset, rows: Sequence[Row]) -> File:
        title = dataset.display_name or id_of(dataset.name)
        draft = File(display_name=f"{title}.jsonl"[-255:], purpose=File.Purpose.FINE_TUNE)
        lines = [format_row(row.messages()) for row in rows]
        # Of the dataset and of the content: a build that is repeated finds its own file, and one
        # that came out otherwise can never stand under the same name.
        identity = hashlib.sha256(dataset.name.encode())
        identity.update(dataset.create_time.SerializeToString(deterministic=True))
        for line in lines:
            identity.update(line)
        file_id = f"file-{identity.hexdigest()[:24]}"
        return await self._files.create(
            parent_of(dataset.name), draft, file_id, _batched(iter(lines))
        )


async def _count(rows: Sequence[Row], counter: TokenCounter, report: Report) -> list[int]:
    counts: list[int] = []
    for start in range(0, len(rows), _BATCH):
        await report("Counting tokens", start, len(rows))
        batch = rows[start : start + _BATCH]
        counts += await asyncio.to_thread(_count_batch, batch, counter)
    return counts


def _count_batch(rows: Sequence[Row], counter: TokenCounter) -> list[int]:
    return [counter.count_row(row.messages()) for row in rows]


async def _batched(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _BATCH:
            yield b"".join(batch)
            batch.clear()
    if batch:
        yield b"".join(batch)


def _statistics(harvest: Harvest, counts: Sequence[int], documents: int) -> DatasetStatistics:
    return DatasetStatistics(
        rows=len(harvest.rows),
        tokens=sum(counts),
        max_row_tokens=max(counts),
        rows_by_recipe=Counter(row.recipe for row in harvest.rows),
        dropped_by_reason=harvest.dropped,
        documents=documents,
    )


def _no_rows(dropped: Counter[str]) -> FailedPrecondition:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    return FailedPrecondition(
        "the documents gave no rows" + (f"; dropped: {reasons}" if reasons else ""),
        reason="NO_ROWS",
    )
