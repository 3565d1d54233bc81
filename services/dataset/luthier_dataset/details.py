"""The list of a dataset's rows with where each comes from, stored beside the file of rows.

JSON Lines, one `DatasetRow` a line, in the order of the file of rows.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from google.protobuf.json_format import MessageToJson, Parse
from luthier.dataset.v1.dataset_pb2 import DatasetRow, RowMessage
from luthier_common.errors import InvalidArgument
from luthier_common.paging import decode_token, encode_token

from luthier_dataset.recipes.recipe import Row


def format_detail(row: Row, tokens: int) -> bytes:
    """Return the line of a row, `\\n` included."""
    detail = DatasetRow(
        messages=[RowMessage(**message) for message in row.messages()],
        recipe=row.recipe,
        source_file=row.source_file,
        heading_path=row.heading_path,
        token_count=tokens,
    )
    return MessageToJson(detail, indent=None, ensure_ascii=False).encode() + b"\n"


def read_page(path: Path, query: str, size: int, token: str) -> tuple[list[DatasetRow], str]:
    """Return `size` rows from where `token` points, and the next page's token.

    `query` identifies the list; InvalidArgument when the token is of another one. The token is a
    position in the file, so that no page costs more than its own rows.
    """
    start = _position(token, query) if token else 0
    with path.open("rb") as file:
        if start:
            file.seek(start - 1)
            if file.read(1) != b"\n":
                raise _bad_token()
        lines = list(islice(iter(file.readline, b""), size))
        position = file.tell()
        more = file.read(1) != b""
    rows = [Parse(line, DatasetRow()) for line in lines]
    return rows, encode_token(query, [str(position)]) if more else ""


def _position(token: str, query: str) -> int:
    match decode_token(token, query):
        case [position] if position.isascii() and position.isdigit() and len(position) < 19:
            return int(position)
    raise _bad_token()


def _bad_token() -> InvalidArgument:
    return InvalidArgument("page_token is damaged", reason="INVALID_PAGE_TOKEN", field="page_token")
