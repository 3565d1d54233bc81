"""Pages of a dataset's rows, from its Parquet file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetRow, RowMessage, RowOrigin, RowPlace
from luthier_common.errors import InvalidArgument
from luthier_common.paging import decode_token, encode_token

from luthier_dataset.build import artifacts


def read_rows(
    path: Path, dataset: Dataset, query: str, size: int, token: str, source_file: str = ""
) -> tuple[list[DatasetRow], str]:
    """Return at most `size` rows from where `token` points, and the next page's token.

    Only rows with a part of `source_file`, where one is named; a page may then be short or empty
    although there is a next one. `query` identifies the list; InvalidArgument when the token is of
    another one.
    """
    position = _position(token, query) if token else 0
    files = [source.file for source in dataset.sources]
    wanted = {number for number, file in enumerate(files) if file == source_file}
    if source_file and not wanted:
        return [], ""
    found, after = artifacts.read_page(path, position, size, wanted if source_file else None)
    rows = [to_row(cells, files) for cells in found]
    return rows, "" if after is None else encode_token(query, [str(after)])


def to_row(cells: Mapping[str, Any], files: list[str]) -> DatasetRow:
    """Return a stored row; `files` are the sources by number."""
    return DatasetRow(
        messages=_messages(json.loads(cells["line"])),
        recipe=cells["recipe"],
        origins=[_origin(origin, files) for origin in cells["origins"]],
        token_count=cells["tokens"],
        line=cells["line"],
        validation=cells["validation"],
        findings=cells["findings"],
    )


def _messages(body: Mapping[str, Any]) -> list[RowMessage]:
    return [
        RowMessage(role=message["role"], content=message.get("content") or "")
        for message in body.get("messages", ())
    ]


def _origin(origin: Mapping[str, Any], files: list[str]) -> RowOrigin:
    place = RowPlace(
        member=origin["member"],
        page=origin["page"],
        last_page=origin["last_page"],
        line=origin["line"],
        last_line=origin["last_line"],
        start_byte=origin["start_byte"],
        end_byte=origin["end_byte"],
    )
    return RowOrigin(
        source_file=files[origin["source"]], heading_path=origin["heading_path"], place=place
    )


def _position(token: str, query: str) -> int:
    match decode_token(token, query):
        case [position] if position.isascii() and position.isdigit() and len(position) < 19:
            return int(position)
    raise InvalidArgument("page_token is damaged", reason="INVALID_PAGE_TOKEN", field="page_token")
