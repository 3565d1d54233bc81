"""Datasets: what may be built, what was built, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from google.protobuf.json_format import Parse
from google.protobuf.timestamp_pb2 import Timestamp
from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetRow, DatasetSource
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.quality_pb2 import QualityReport
from luthier_common.errors import FailedPrecondition, InvalidArgument, NotFound, not_found
from luthier_common.names import choose_id, parent_of, parse, project_of
from luthier_common.paging import Page, coerce_page_size
from luthier_common.records.collection import Collection
from luthier_common.records.memory import already_exists
from luthier_common.records.requests import create_once, made_before

from luthier_dataset import files
from luthier_dataset.asking import check_dataset, check_shapes_read, invalid, models_asked
from luthier_dataset.cache import BlobCache
from luthier_dataset.documents import check_source
from luthier_dataset.files import Files
from luthier_dataset.inference import Inference
from luthier_dataset.models import counter_of
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.recipes.registry import registry
from luthier_dataset.row_pages import read_rows

PATTERN = "projects/{project}/datasets/{dataset}"
_ASKED = (
    "display_name",
    "source_files",
    "recipes",
    "base_model",
    "split",
    "quality_rules",
    "skip_unreadable",
    "generations_of",
)
"""The fields of a dataset that its creator sets."""


class Datasets:
    """The datasets of all projects; building them is the builder's work."""

    def __init__(
        self,
        records: Collection[Dataset],
        stored: Files,
        inference: Inference,
        cache: BlobCache,
        prompts: QuestionPrompts,
    ) -> None:
        self._records = records
        self._files = stored
        self._inference = inference
        self._cache = cache
        self._prompts = prompts

    async def create(
        self,
        parent: str,
        draft: Dataset,
        dataset_id: str,
        request_id: str,
        *,
        validate_only: bool = False,
    ) -> Dataset:
        """Check everything, pin sources and models, and store a BUILDING dataset.

        InvalidArgument, NotFound, FailedPrecondition, AlreadyExists.
        """
        check_dataset(draft, request_id, registry(self._prompts))
        earlier = made_before(self._records, parent, request_id)
        if earlier is not None:
            return _repeated(earlier, draft)
        dataset = await self._pinned(parent, draft)
        dataset.request_id = request_id
        chosen = choose_id("dataset", parent, dataset_id, request_id, field="dataset_id")
        dataset.name = f"{parent}/datasets/{chosen}"
        if validate_only:
            await self._check_free(dataset.name)
            return dataset
        return _repeated(await create_once(self._records, dataset), draft)

    async def _check_free(self, name: str) -> None:
        with suppress(NotFound):
            await self._records.get(name)
            raise already_exists(name)

    async def get(self, name: str, *, show_deleted: bool = False) -> Dataset:
        """Return a dataset; NotFound."""
        dataset = await self._records.get(name)
        if dataset.HasField("delete_time") and not show_deleted:
            raise not_found(name)
        return dataset

    async def delete(self, name: str) -> Dataset:
        """Leave a tombstone that names what came of the dataset, ending its build; NotFound."""

        def bury(dataset: Dataset) -> Dataset:
            if dataset.HasField("delete_time"):
                raise not_found(name)
            now = Timestamp()
            now.GetCurrentTime()
            dataset.delete_time.CopyFrom(now)
            dataset.dependents[:] = _made_of(dataset, self._records)
            return dataset

        return await self._records.update(name, bury)

    async def rows(
        self, name: str, page_size: int, page_token: str, source_file: str = ""
    ) -> tuple[list[DatasetRow], str]:
        """Return a page of a dataset's rows and the next page's token.

        NotFound; FailedPrecondition unless the dataset is READY.
        """
        size = coerce_page_size(page_size, default=20, maximum=1000)
        dataset = await self._ready(name)
        sha256 = dataset.artifacts.rows_sha256
        path = await self._cache.path(project_of(name), sha256)
        query = f"{name} {sha256} {source_file}"
        return await asyncio.to_thread(
            read_rows, path, dataset, query, size, page_token, source_file
        )

    async def report(self, name: str) -> QualityReport:
        """Return the quality report of a READY dataset, or of one that it rejected.

        NotFound, FailedPrecondition.
        """
        dataset = await self.get(name)
        if not dataset.artifacts.report_sha256:
            dataset = await self._ready(name)
        data = await self._cache.read(project_of(name), dataset.artifacts.report_sha256)
        report = Parse(data, QualityReport())
        for finding in report.findings:
            for example in finding.examples:
                example.source_file = dataset.sources[example.source].file
        return report

    async def manifest(self, name: str) -> str:
        """Return a READY dataset's manifest, JSON; NotFound, FailedPrecondition."""
        dataset = await self._ready(name)
        data = await self._cache.read(project_of(name), dataset.artifacts.manifest_sha256)
        return data.decode()

    async def list(
        self,
        parent: str,
        *,
        page_size: int,
        page_token: str,
        after: str,
        order_by: str,
        source_file: str = "",
        show_deleted: bool = False,
    ) -> Page[Dataset]:
        """Return a page of a project's datasets; of those that saw a file, where one is named."""
        shown = await self._shown(parent, source_file, show_deleted=show_deleted)
        return self._records.list(
            parent,
            where=shown,
            query=f"source_file={source_file} show_deleted={show_deleted}",
            order_by=order_by or "create_time desc",
            after=after or None,
            page_size=coerce_page_size(page_size, default=100, maximum=1000),
            page_token=page_token,
        )

    async def checked(self, parent: str, draft: Dataset) -> Dataset:
        """Return what would be built, checked and pinned as `create` does; stores nothing."""
        check_dataset(draft, "", registry(self._prompts))
        return await self._pinned(parent, draft)

    async def _pinned(self, parent: str, draft: Dataset) -> Dataset:
        """Return what would be built, with everything it depends on named by digest."""
        project = project_of(parent)
        sources = [await self._source(parent, name) for name in draft.source_files]
        base = await self._inference.base_model(project, draft.base_model)
        # To know now, not after an hour, that tokens can be counted.
        counter = await counter_of(base, self._cache)
        if not counter.reads_chats:
            check_shapes_read(draft, registry(self._prompts))
        dataset = Dataset(
            state=Dataset.State.BUILDING, sources=sources, base_model_digest=base.digest
        )
        dataset.MergeFrom(_asked(draft))
        for path, model in models_asked(draft):
            dataset.model_digests[model] = await self._model_digest(project, model, path)
        if draft.generations_of:
            dataset.replayed_generations_sha256 = await self._generations(parent, draft)
        return dataset

    async def _model_digest(self, project: str, model: str, path: str) -> str:
        try:
            return await self._inference.digest(project, model)
        except NotFound as error:
            raise InvalidArgument(
                f"dataset.{path}: there is no model {model}",
                reason="MODEL_NOT_FOUND",
                field=f"dataset.{path}",
            ) from error

    async def _generations(self, parent: str, draft: Dataset) -> str:
        parse(draft.generations_of, PATTERN, field="dataset.generations_of")
        if parent_of(draft.generations_of) != parent:
            raise not_found(draft.generations_of)
        earlier = await self.get(draft.generations_of)
        if earlier.state == Dataset.State.BUILDING:
            earlier = await self._ready(draft.generations_of)
        if not earlier.artifacts.generations_sha256:
            raise invalid("generations_of", "names a dataset for which no model was asked")
        return earlier.artifacts.generations_sha256

    async def _source(self, parent: str, name: str) -> DatasetSource:
        parse(name, files.PATTERN, field="dataset.source_files")
        if parent_of(name) != parent:
            raise not_found(name)
        file = await self._files.get(name)
        source = DatasetSource(
            file=file.name,
            display_name=file.display_name,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            training_rows=file.purpose == File.Purpose.FINE_TUNE,
        )
        check_source(source)
        return source

    async def _ready(self, name: str) -> Dataset:
        dataset = await self.get(name)
        if dataset.state != Dataset.State.READY:
            state = Dataset.State.Name(dataset.state)
            raise FailedPrecondition(
                f"{name} is {state}; what it holds is there once it is READY",
                reason="DATASET_NOT_READY",
                metadata={"state": state},
            )
        return dataset

    async def _shown(
        self, parent: str, source_file: str, *, show_deleted: bool
    ) -> Callable[[Dataset], bool]:
        saw: set[str] | None = None
        if source_file:
            parse(source_file, files.PATTERN, field="source_file")
            if parent_of(source_file) != parent:
                raise not_found(source_file)
            saw = self._saw(await self._files.get(source_file, show_deleted=True))

        def shown(dataset: Dataset) -> bool:
            if dataset.HasField("delete_time") and not show_deleted:
                return False
            return saw is None or dataset.name in saw

        return shown

    def _saw(self, file: File) -> set[str]:
        """The datasets with a source of a file's bytes, or of what such a dataset minted."""
        parent = parent_of(file.name)
        digests = self._files.digests(parent)
        known, found = {file.sha256}, set[str]()
        # What a dataset is made of was there before it, so one pass in that order is enough.
        for dataset in sorted(self._records.values(parent), key=_age):
            if known & {source.sha256 for source in dataset.sources}:
                found.add(dataset.name)
                minted = filter(None, (dataset.file, dataset.validation_file))
                known.update(digests[name] for name in minted if name in digests)
        return found


def _age(dataset: Dataset) -> tuple[int, int]:
    return dataset.create_time.seconds, dataset.create_time.nanos


def dependents_of(file: File, records: Collection[Dataset]) -> list[str]:
    """Return the datasets that a file is a source of, or was minted by, unless deleted."""
    return [
        dataset.name
        for dataset in records.values(parent_of(file.name))
        if not dataset.HasField("delete_time")
        and file.name in (*dataset.source_files, dataset.file, dataset.validation_file)
    ]


def _made_of(dataset: Dataset, records: Collection[Dataset]) -> list[str]:
    """Return the files that a dataset minted, and the datasets that use them or its replies."""
    minted = [name for name in (dataset.file, dataset.validation_file) if name]
    others = records.values(parent_of(dataset.name))
    return minted + [
        other.name
        for other in others
        if not other.HasField("delete_time")
        and (set(minted) & set(other.source_files) or other.generations_of == dataset.name)
    ]


def _asked(dataset: Dataset) -> Dataset:
    """The part of a dataset that its creator sets."""
    asked = Dataset()
    for field, value in dataset.ListFields():
        if field.name in _ASKED:
            if field.is_repeated:
                getattr(asked, field.name).extend(value)
            elif field.message_type:
                getattr(asked, field.name).CopyFrom(value)
            else:
                setattr(asked, field.name, value)
    return asked


def _repeated(earlier: Dataset, draft: Dataset) -> Dataset:
    """The dataset of an earlier request, unless this one asks for something else."""
    if _asked(earlier) != _asked(draft):
        raise InvalidArgument(
            "request_id was used for another dataset",
            reason="REQUEST_ID_REUSED",
            field="request_id",
            metadata={"resource": earlier.name},
        )
    return earlier
