"""Reads Parquet files, one batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import parquet as pq
from pyarrow import types

from luthier_dataset.readers.columns import MAX_COLUMNS
from luthier_dataset.readers.items import Item, Place, Record, Remark, UnreadableDocument

_BATCH_ROWS = 256
_MAGIC = b"PAR1"
_BUFFER_BYTES = 1024 * 1024


def read_parquet(path: Path) -> Iterator[Item]:
    """Yield a record for each row; `line` is its number.

    Nested values are lists and objects, dates and times are ISO 8601 in UTC to the microsecond,
    decimals are strings, as floats would change them, and bytes are Base64.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise UnreadableDocument("it is not a Parquet file, or it is encrypted")
    # Arrow's other allocators reserve far more addresses than they use; a reader may not.
    pa.set_memory_pool(pa.system_memory_pool())
    number, found = 0, False
    try:
        for batch in _batches(path):
            for row in _rows(batch):
                number += 1
                place = Place(line=number, last_line=number)
                if isinstance(row, dict):
                    found = True
                    yield Record(row, place=place)
                else:
                    yield Remark("malformed_row", f"row {number} holds no values: {row}", place)
    except UnreadableDocument:
        raise
    except Exception as error:
        # Of a broken file the library raises whatever its parts do.
        what = f"reading fails after row {number} ({_short(error)})"
        raise UnreadableDocument(f"it is not a sound Parquet file: {what}") from error
    if not found:
        raise UnreadableDocument("it has no rows")


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
        schema: pa.Schema = file.schema_arrow
        if len(schema) > MAX_COLUMNS or len(set(schema.names)) < len(schema):
            raise UnreadableDocument(f"it has more than {MAX_COLUMNS} columns, or two of one name")
        plain = pa.schema([field.with_type(_plain(field.type)) for field in schema])
        for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
            yield batch if plain.equals(schema) else batch.cast(plain, safe=False)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type in which values are the same on each machine: no nanoseconds, no time zones."""
    if types.is_timestamp(kind) and (kind.unit == "ns" or kind.tz):
        return pa.timestamp("us" if kind.unit == "ns" else kind.unit, "UTC" if kind.tz else None)
    if types.is_time64(kind):
        return pa.time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_struct(kind):
        return pa.struct([one.with_type(_plain(one.type)) for one in kind])
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    return kind


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
    """Yield the rows as JSON values; of one that has none, why."""
    try:
        rows = batch.to_pylist(maps_as_pydicts="lossy")
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            yield _short(error)
        else:
            for at in range(batch.num_rows):
                yield from _rows(batch.slice(at, 1))
    else:
        yield from (msgspec.to_builtins(row, str_keys=True) for row in rows)


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
