"""Datasets: what may be built, and what was built."""

from __future__ import annotations

import asyncio

from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetRow, DatasetSource
from luthier_common.errors import FailedPrecondition, InvalidArgument, not_found
from luthier_common.names import choose_id, parent_of, parse, project_of
from luthier_common.paging import Page, coerce_page_size
from luthier_common.records.collection import Collection
from luthier_common.records.requests import create_once, made_before

from luthier_dataset import files
from luthier_dataset.bounded import bounded_map
from luthier_dataset.cache import BlobCache
from luthier_dataset.details import read_page
from luthier_dataset.documents import Documents
from luthier_dataset.files import Files
from luthier_dataset.inference import Inference
from luthier_dataset.models import counter_of

PATTERN = "projects/{project}/datasets/{dataset}"
_BASE_MODEL = "projects/{project}/baseModels/{base_model}"
_MOST_SOURCES = 1000
_READ_AT_ONCE = 4
_LONGEST_TEXT = 255
_MOST_ASKED = 1_000_000
"""Bound of the numbers in recipes; anything beyond is a slip."""


class Datasets:
    """The datasets of all projects; building them is the builder's work."""

    def __init__(
        self,
        records: Collection[Dataset],
        stored: Files,
        documents: Documents,
        inference: Inference,
        cache: BlobCache,
    ) -> None:
        self._records = records
        self._files = stored
        self._documents = documents
        self._inference = inference
        self._cache = cache

    async def create(
        self,
        parent: str,
        draft: Dataset,
        dataset_id: str,
        request_id: str,
        *,
        validate_only: bool = False,
    ) -> Dataset:
        """Check everything, pin the sources and the base model, and store a BUILDING dataset.

        The documents are read here once, so that a file which is not what it claims is refused
        at once. InvalidArgument, NotFound, FailedPrecondition, AlreadyExists.
        """
        _check_request(draft, request_id)
        earlier = made_before(self._records, parent, request_id)
        if earlier is not None:
            return _repeated(earlier, draft)
        dataset = await self._pinned(parent, draft)
        dataset.request_id = request_id
        chosen = choose_id("dataset", parent, dataset_id, request_id, field="dataset_id")
        dataset.name = f"{parent}/datasets/{chosen}"
        if validate_only:
            return dataset
        return _repeated(await create_once(self._records, dataset), draft)

    async def get(self, name: str) -> Dataset:
        """Return a dataset; NotFound."""
        return await self._records.get(name)

    async def delete(self, name: str) -> None:
        """Delete a dataset's record, ending its build; NotFound. Its file of rows stays."""
        await self._records.delete(name)

    async def rows(
        self, name: str, page_size: int, page_token: str
    ) -> tuple[list[DatasetRow], str]:
        """Return a page of a dataset's rows and the next page's token.

        NotFound; FailedPrecondition unless the dataset is READY.
        """
        size = coerce_page_size(page_size, default=20, maximum=1000)
        dataset = await self._records.get(name)
        if dataset.state != Dataset.State.READY:
            state = Dataset.State.Name(dataset.state)
            raise FailedPrecondition(
                f"{name} is {state}; rows are there once it is READY",
                reason="DATASET_NOT_READY",
                metadata={"state": state},
            )
        path = await self._cache.path(project_of(name), dataset.row_details_sha256)
        query = f"{name} {dataset.row_details_sha256}"
        return await asyncio.to_thread(read_page, path, query, size, page_token)

    def list(
        self, parent: str, *, page_size: int, page_token: str, after: str, order_by: str
    ) -> Page[Dataset]:
        """Return a page of a project's datasets."""
        return self._records.list(
            parent,
            order_by=order_by or "create_time desc",
            after=after or None,
            page_size=coerce_page_size(page_size, default=100, maximum=1000),
            page_token=page_token,
        )

    async def _pinned(self, parent: str, draft: Dataset) -> Dataset:
        project = project_of(parent)
        sources = [await self._source(parent, name) for name in draft.source_files]
        base = await self._inference.base_model(project, draft.base_model)
        # Not used here: only to know now, not after an hour, that tokens can be counted.
        await counter_of(base, self._cache)
        for error in filter(None, await bounded_map(self._try, sources, limit=_READ_AT_ONCE)):
            raise error
        return Dataset(
            display_name=draft.display_name,
            source_files=draft.source_files,
            recipes=draft.recipes,
            base_model=draft.base_model,
            state=Dataset.State.BUILDING,
            sources=sources,
            base_model_digest=base.digest,
        )

    async def _source(self, parent: str, name: str) -> DatasetSource:
        parse(name, files.PATTERN, field="dataset.source_files")
        if parent_of(name) != parent:
            raise not_found(name)
        file = await self._files.get(name)
        return DatasetSource(
            file=file.name,
            display_name=file.display_name,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
        )

    async def _try(self, source: DatasetSource) -> FailedPrecondition | InvalidArgument | None:
        """The first of several bad documents, in their order, is the one to tell of."""
        try:
            await self._documents.read(source)
        except (FailedPrecondition, InvalidArgument) as error:
            return error
        return None


def _check_request(draft: Dataset, request_id: str) -> None:
    parse(draft.base_model, _BASE_MODEL, field="dataset.base_model")
    sources = list(draft.source_files)
    if not sources or len(sources) > _MOST_SOURCES:
        raise _invalid("source_files", f"must name 1 to {_MOST_SOURCES} files")
    if len(set(sources)) < len(sources):
        raise _invalid("source_files", "names a file twice")
    for field, text in (("display_name", draft.display_name), ("request_id", request_id)):
        if len(text) > _LONGEST_TEXT or not text.isprintable():
            raise _invalid(field, f"must be at most {_LONGEST_TEXT} printable characters")
    _check_recipes(draft)


def _check_recipes(draft: Dataset) -> None:
    kinds = [recipe.WhichOneof("recipe") for recipe in draft.recipes]
    if not kinds:
        raise _invalid("recipes", "must have at least one recipe")
    if None in kinds:
        raise _invalid(f"recipes[{kinds.index(None)}]", "must be one of the known recipes")
    if len(set(kinds)) < len(kinds):
        raise _invalid("recipes", "has a recipe twice")
    for recipe in draft.recipes:
        numbers = (recipe.headings.max_section_tokens, recipe.questions.questions_per_statement)
        if not all(0 <= number <= _MOST_ASKED for number in numbers):
            raise _invalid("recipes", f"has a number that is not between 0 and {_MOST_ASKED}")


def _invalid(field: str, what: str) -> InvalidArgument:
    path = field if field == "request_id" else f"dataset.{field}"
    return InvalidArgument(f"{path} {what}", reason="INVALID_DATASET", field=path)


def _repeated(earlier: Dataset, draft: Dataset) -> Dataset:
    """The dataset of an earlier request, unless this one asks for something else."""
    asked = (draft.display_name, list(draft.source_files), list(draft.recipes), draft.base_model)
    given = (
        earlier.display_name,
        list(earlier.source_files),
        list(earlier.recipes),
        earlier.base_model,
    )
    if asked != given:
        raise InvalidArgument(
            "request_id was used for another dataset",
            reason="REQUEST_ID_REUSED",
            field="request_id",
            metadata={"resource": earlier.name},
        )
    return earlier
