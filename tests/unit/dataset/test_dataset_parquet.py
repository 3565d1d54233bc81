import datetime
import decimal
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from luthier_dataset.readers.items import (
    Item,
    Place,
    Record,
    Remark,
    UnreadableDocument,
    dump,
    load,
)
from luthier_dataset.readers.parquet import read_parquet
from pyarrow import parquet as pq


@pytest.fixture(autouse=True)
def _same_memory_pool() -> Iterator[None]:
    pool = pa.default_memory_pool()
    yield
    pa.set_memory_pool(pool)


def parquet(table: pa.Table, **options: Any) -> bytes:
    data = io.BytesIO()
    pq.write_table(table, data, **options)
    return data.getvalue()


def read(tmp_path: Path, data: bytes) -> list[Item]:
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    return list(read_parquet(path))


def test_each_row_is_a_record_of_json_values(tmp_path: Path) -> None:
    moment = datetime.datetime(2024, 5, 1, 13, 30, tzinfo=datetime.UTC)
    nanosecond = 1_714_570_200_123_456_789
    table = pa.table(
        {
            "text": ["Größe?", None],
            "number": pa.array([2**63, 1], pa.uint64()),
            "talk": [[{"role": "user", "weight": None}], []],
            "map": pa.array([[("k", 1.5)], None], pa.map_(pa.string(), pa.float64())),
            "price": [decimal.Decimal("1.20"), None],
            "bytes": [b"\xff\x00", None],
            "day": [datetime.date(2024, 5, 1), None],
            "zoned": pa.array([moment, None], pa.timestamp("ms", "Europe/Berlin")),
            "exact": pa.array([nanosecond, None], pa.timestamp("ns")),
            "inner": pa.array(
                [{"at": [nanosecond]}, None], pa.struct({"at": pa.list_(pa.timestamp("ns"))})
            ),
            "wait": pa.array([1_500_000_000, None], pa.duration("ns")),
            "hour": pa.array([26_100_000_000_001, None], pa.time64("ns")),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
        }
    )
    first, second = read(tmp_path, parquet(table))
    assert isinstance(first, Record)
    assert first.fields == {
        "text": "Größe?",
        "number": 2**63,
        "talk": [{"role": "user", "weight": None}],
        "map": {"k": 1.5},
        "price": "1.20",
        "bytes": "/wA=",
        "day": "2024-05-01",
        "zoned": "2024-05-01T13:30:00Z",
        "exact": "2024-05-01T13:30:00.123456",
        "inner": {"at": ["2024-05-01T13:30:00.123456"]},
        "wait": "PT1.5S",
        "hour": "07:15:00",
        "kind": "a",
    }
    assert load(dump(first)) == first
    assert second == Record(
        dict.fromkeys(first.fields) | {"number": 1, "talk": [], "kind": "b"},
        place=Place(line=2, last_line=2),
    )


def test_rows_are_numbered_through_all_row_groups(tmp_path: Path) -> None:
    items = read(tmp_path, parquet(pa.table({"n": range(700)}), row_group_size=300))
    assert [item.fields["n"] for item in items if isinstance(item, Record)] == list(range(700))
    assert [item.place.line for item in items] == list(range(1, 701))


def test_a_row_without_sound_text_is_remarked(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"\xff\xfe", b"better"]).cast(pa.string(), safe=False)
    one, remark, two = read(tmp_path, parquet(pa.table({"text": texts})))
    assert isinstance(one, Record)
    assert isinstance(two, Record)
    assert (one.fields, two.fields) == ({"text": "good"}, {"text": "better"})
    assert isinstance(remark, Remark)
    assert (remark.code, remark.place.line) == ("malformed_row", 2)
    assert remark.detail.startswith("row 2 holds no values: 'utf-8' codec can't decode byte 0xff")


def nested(depth: int) -> pa.Table:
    kind: pa.DataType = pa.int64()
    value: Any = 1
    for _ in range(depth):
        kind, value = pa.list_(kind), [value]
    return pa.table({"deep": pa.array([value], kind)})


WHOLE = parquet(pa.table({"text": [f"row {n} of the table" * 9 for n in range(2_000)]}))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is not a Parquet file"),
        (b"q,a\n1,2\n", "it is not a Parquet file"),
        (b"PARE" + WHOLE[4:], "it is not a Parquet file, or it is encrypted"),
        (b"PAR1", "it is not a sound Parquet file: reading fails after row 0"),
        (WHOLE[: len(WHOLE) // 2], "it is not a sound Parquet file: reading fails after row 0"),
        (WHOLE[:-8] + b"\xff\xff\xff\x7fPAR1", "it is not a sound Parquet file"),
        (b"PAR1" + bytes(len(WHOLE) // 2) + WHOLE[len(WHOLE) // 2 + 4 :], "not a sound Parquet"),
        (parquet(pa.table({"text": pa.array([], pa.string())})), "it has no rows"),
        (parquet(pa.table([[1], [2]], names=["a", "a"])), "or two of one name"),
        (parquet(nested(101)), "schema too deeply nested"),
    ],
)
def test_what_is_no_sound_table_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read(tmp_path, data)
