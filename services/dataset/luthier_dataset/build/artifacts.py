"""The artifacts of a dataset: Parquet with every row, and the minted files of lines.

The same rows make the same bytes under the same versions of the libraries: sources are named by
number and digest, not by resource name, and nothing in the files knows of time or place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from luthier.dataset.v1.quality_pb2 import QualityCheck

from luthier_dataset.build.stored import StoredRow
from luthier_dataset.recipes.recipe import Origin

ROWS, TRAIN, VALIDATION = "rows.parquet", "train.jsonl", "validation.jsonl"
GROUP_ROWS, GROUP_BYTES = 2000, 8 * 1024**2
"""A row group ends at so many rows, or bytes of their lines; it is written and read at once."""

_LOOKED_AT = 100
"""Row groups that are looked at for one page."""
_PAGE_BYTES = 4 * 1024**2
"""A page ends behind the row that makes its lines so long: an answer of gRPC holds 16 MiB, and
a row's messages stand in it beside its line."""

_SOURCE = "origins.list.element.source"

_ORIGIN = pa.struct(
    [
        ("source", pa.int32()),
        ("sha256", pa.string()),
        ("heading_path", pa.list_(pa.string())),
        ("member", pa.string()),
        ("page", pa.int32()),
        ("last_page", pa.int32()),
        ("line", pa.int64()),
        ("last_line", pa.int64()),
        ("start_byte", pa.int64()),
        ("end_byte", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("line", pa.string()),
        ("validation", pa.bool_()),
        ("recipe", pa.string()),
        ("shape", pa.string()),
        ("tokens", pa.int32()),
        ("learned_tokens", pa.int32()),
        ("label", pa.string()),
        ("findings", pa.list_(pa.string())),
        ("origins", pa.list_(_ORIGIN)),
    ]
)
"""`origins`: the part that the row teaches first; `source` counts from 0."""


class SourceTable:
    """Numbers and digests of sources by resource name."""

    def __init__(self, sources: Sequence[tuple[str, str]]) -> None:
        """`sources`: resource name and digest of each, in order."""
        self._known = {file: (number, sha) for number, (file, sha) in enumerate(sources)}

    def origin(self, origin: Origin) -> dict[str, Any]:
        """Return an origin as it is stored."""
        number, sha256 = self._known[origin.file]
        place = origin.place
        return {
            "source": number,
            "sha256": sha256,
            "heading_path": list(origin.heading_path),
            "member": place.member,
            "page": place.page,
            "last_page": place.last_page,
            "line": place.line,
            "last_line": place.last_line,
            "start_byte": place.start,
            "end_byte": place.end,
        }


def write_artifacts(
    folder: Path, rows: Iterable[tuple[StoredRow, bool, Sequence[int]]], sources: SourceTable
) -> str:
    """Write the kept rows with their side of the split and all findings; return their digest.

    The digest is SHA-256 over `t` or `v` and the line of each row.
    """
    digest = hashlib.sha256()
    with ExitStack() as stack:
        # Least and greatest values say nothing here, and would be held until the end.
        parquet = stack.enter_context(
            pq.ParquetWriter(folder / ROWS, SCHEMA, compression="zstd", write_statistics=False)
        )
        train = stack.enter_context((folder / TRAIN).open("wb"))
        validation = stack.enter_context((folder / VALIDATION).open("wb"))
        for batch in _batches(rows):
            for row, held_out, _ in batch:
                line = row.line.encode() + b"\n"
                (validation if held_out else train).write(line)
                digest.update(b"v" if held_out else b"t")
                digest.update(line)
            table = [cells(*one, sources) for one in batch]
            parquet.write_table(pa.Table.from_pylist(table, SCHEMA))
    return digest.hexdigest()


def cells(
    row: StoredRow, held_out: bool, findings: Sequence[int], sources: SourceTable
) -> dict[str, Any]:
    """Return a row as SCHEMA has it."""
    return {
        "line": row.line,
        "validation": held_out,
        "recipe": row.recipe,
        "shape": row.shape,
        "tokens": row.tokens,
        "learned_tokens": row.learned,
        "label": row.label,
        "findings": [QualityCheck.Name(QualityCheck.ValueType(one)) for one in findings],
        "origins": [sources.origin(origin) for origin in row.origins],
    }


def read_page(
    path: Path, start: int, most: int, sources: Container[int] | None = None
) -> tuple[list[dict[str, Any]], int | None]:
    """Return at most `most` rows from `start` on as SCHEMA has them, and where to go on.

    That is None behind the last row. With `sources`, only rows with a part of one of them. A page
    may be short, or then empty, although it is not the last: only so much is looked at, or shown.
    """
    rows: list[dict[str, Any]] = []
    room = _PAGE_BYTES
    with pq.ParquetFile(path) as file:
        for group, first, end in _groups(file.metadata, start)[:_LOOKED_AT]:
            places = [place for place in _places(file, group, sources) if first + place >= start]
            start = end
            wanted = places[: most - len(rows)]
            if wanted:
                table = file.read_row_group(group)
                sizes = pc.binary_length(table["line"]).take(wanted).to_pylist()
                fitting = _fitting(sizes, room)
                rows += table.take(wanted[:fitting]).to_pylist()
                room -= sum(sizes[:fitting])
                if len(rows) == most or room <= 0:
                    start = first + wanted[fitting - 1] + 1
                    break
        return rows, start if start < file.metadata.num_rows else None


def _fitting(sizes: Sequence[int], room: int) -> int:
    """How many rows there are until the room is full; what fills it is the last."""
    for number, used in enumerate(accumulate(sizes), start=1):
        if used >= room:
            return number
    return len(sizes)


def _groups(metadata: pq.FileMetaData, start: int) -> list[tuple[int, int, int]]:
    """The number of each row group that ends behind `start`, its first row and its end."""
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    ends = accumulate(sizes)
    return [
        (group, end - size, end)
        for group, (size, end) in enumerate(zip(sizes, ends, strict=True))
        if end > start
    ]


def _places(file: pq.ParquetFile, group: int, sources: Container[int] | None) -> Sequence[int]:
    """The rows of a group with a part of `sources`; nothing else of them is read for that."""
    if sources is None:
        return range(file.metadata.row_group(group).num_rows)
    origins = file.read_row_group(group, columns=[_SOURCE])["origins"].to_pylist()
    return [
        place for place, row in enumerate(origins) if any(one["source"] in sources for one in row)
    ]


def _batches(
    rows: Iterable[tuple[StoredRow, bool, Sequence[int]]],
) -> Iterator[list[tuple[StoredRow, bool, Sequence[int]]]]:
    batch, size = [], 0
    for row in rows:
        batch.append(row)
        size += len(row[0].line.encode())
        if len(batch) == GROUP_ROWS or size >= GROUP_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
