"""The Parquet file of a dataset, and pages of its rows."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetRow, DatasetSource
from luthier.dataset.v1.quality_pb2 import QualityCheck
from luthier_common.errors import InvalidArgument
from luthier_dataset.build import artifacts
from luthier_dataset.build.artifacts import ROWS, SourceTable, read_page, write_artifacts
from luthier_dataset.build.stored import StoredRow
from luthier_dataset.readers.items import Place
from luthier_dataset.recipes.recipe import Origin
from luthier_dataset.row_pages import read_rows

FILES = [f"projects/acme/files/file-{number}" for number in range(3)]
SOURCES = SourceTable([(file, str(number) * 64) for number, file in enumerate(FILES)])
QUERY = "projects/acme/datasets/one"

Kept = tuple[StoredRow, bool, Sequence[int]]


def row(text: str, *sources: int, held_out: bool = False) -> Kept:
    origins = tuple(Origin(FILES[source], ("Leave",), Place(line=3)) for source in sources or (0,))
    line = json.dumps({"text": text})
    return StoredRow(line, "text", "raw", origins, 7, 6, (), ""), held_out, ()


def dataset() -> Dataset:
    return Dataset(sources=[DatasetSource(file=file) for file in FILES])


def texts(rows: Sequence[DatasetRow]) -> list[str]:
    return [json.loads(one.line)["text"] for one in rows]


def pages(path: Path, size: int, source_file: str = "") -> Iterator[list[str]]:
    token, more = "", True
    while more:
        rows, token = read_rows(path, dataset(), QUERY, size, token, source_file)
        yield texts(rows)
        more = bool(token)


def sizes_of_groups(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


@pytest.fixture
def uneven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten rows in groups of 3, 1, 3, 2 and 1; of each, source `number % 2` has a part."""
    monkeypatch.setattr(artifacts, "GROUP_ROWS", 3)
    monkeypatch.setattr(artifacts, "GROUP_BYTES", 100)
    long = {3: 200, 8: 200}
    rows = [row(f"{n}" + "." * long.get(n, 0), n % 2) for n in range(10)]
    write_artifacts(tmp_path, rows, SOURCES)
    assert sizes_of_groups(tmp_path / ROWS) == [3, 1, 3, 2, 1]
    return tmp_path / ROWS


def test_a_row_is_stored_with_where_it_comes_from(tmp_path: Path) -> None:
    place = Place(member="a.md", page=1, last_page=2, line=3, last_line=4, start=5, end=6)
    origins = (Origin(FILES[2], ("Leave", "Days"), place), Origin(FILES[0]))
    stored = StoredRow('{"text": "ä"}', "text", "raw", origins, 7, 6, (), "spam")
    digest = write_artifacts(
        tmp_path, [(stored, True, (QualityCheck.EMPTY_ANSWER,)), row("b")], SOURCES
    )
    assert pq.read_schema(tmp_path / ROWS).equals(artifacts.SCHEMA)
    first, second = pq.read_table(tmp_path / ROWS).to_pylist()
    assert first["origins"][0] == {
        "source": 2, "sha256": "2" * 64, "heading_path": ["Leave", "Days"], "member": "a.md",
        "page": 1, "last_page": 2, "line": 3, "last_line": 4, "start_byte": 5, "end_byte": 6,
    }  # fmt: skip
    assert [origin["source"] for origin in first["origins"]] == [2, 0]
    del first["origins"]
    assert first == {
        "line": '{"text": "ä"}', "validation": True, "recipe": "raw", "shape": "text",
        "tokens": 7, "learned_tokens": 6, "label": "spam",
        "findings": ["EMPTY_ANSWER"],
    }  # fmt: skip
    assert (second["validation"], second["findings"]) == (False, [])
    assert (tmp_path / artifacts.VALIDATION).read_text() == '{"text": "ä"}\n'
    assert (tmp_path / artifacts.TRAIN).read_text() == '{"text": "b"}\n'
    lines = 'v{"text": "ä"}\nt{"text": "b"}\n'
    assert digest == hashlib.sha256(lines.encode()).hexdigest()


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    made = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rows = (row(f"row {n}", n % 3, held_out=n % 5 == 0) for n in range(5000))
        digest = write_artifacts(tmp_path / name, rows, SOURCES)
        made.add((digest, (tmp_path / name / ROWS).read_bytes()))
    assert len(made) == 1
    assert sizes_of_groups(tmp_path / "one" / ROWS) == [2000, 2000, 1000]


def test_long_rows_are_written_few_at_a_time(tmp_path: Path) -> None:
    write_artifacts(tmp_path, (row("ä" * 65536) for _ in range(50)), SOURCES)
    # json.dumps writes ä in six bytes.
    assert sizes_of_groups(tmp_path / ROWS) == [22, 22, 6]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10, 11])
def test_pages_over_groups_of_any_size(uneven: Path, size: int) -> None:
    found = list(pages(uneven, size))
    assert [text[0] for page in found for text in page] == list("0123456789")
    assert {len(page) for page in found[:-1]} <= {size}


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_pages_of_a_source_have_its_rows_and_no_other(uneven: Path, size: int) -> None:
    found = [text[0] for page in pages(uneven, size, FILES[1]) for text in page]
    assert found == list("13579")
    assert list(pages(uneven, size, FILES[2])) == [[]]
    assert list(pages(uneven, size, "projects/acme/files/strange")) == [[]]


def test_every_part_of_a_row_counts(tmp_path: Path) -> None:
    rows = [row("a", 0), row("b", 0, 1), row("c", 1), row("d", 2, 0, 1)]
    write_artifacts(tmp_path, rows, SOURCES)
    assert list(pages(tmp_path / ROWS, 10, FILES[1])) == [["b", "c", "d"]]


def test_a_page_ends_where_enough_was_looked_at(
    uneven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_LOOKED_AT", 2)
    assert list(pages(uneven, 10, FILES[2])) == [[], [], []]
    found = [[text[0] for text in page] for page in pages(uneven, 10, FILES[1])]
    assert found == [["1", "3"], ["5", "7"], ["9"]]


def test_only_groups_with_rows_of_the_source_are_read_whole(
    uneven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[int] = []
    read = pq.ParquetFile.read_row_group

    def spied(file: pq.ParquetFile, group: int, columns: list[str] | None = None) -> object:
        if columns is None:
            whole.append(group)
        return read(file, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spied)
    found, after = read_page(uneven, 0, 10, {0})
    assert (len(found), after) == (5, None)
    assert whole == [0, 2, 3]
    whole.clear()
    assert read_page(uneven, 0, 10, {2}) == ([], None)
    assert whole == []


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 12), most=st.integers(1, 12), sources=st.sets(st.integers(0, 2)))
def test_a_page_is_what_a_plain_look_finds(
    uneven: Path, start: int, most: int, sources: set[int]
) -> None:
    found, after = read_page(uneven, start, most, sources)
    numbers = [int(json.loads(one["line"])["text"].rstrip(".")) for one in found]
    wanted = [number for number in range(start, 10) if number % 2 in sources]
    assert numbers == wanted[:most]
    if after is None:
        assert numbers == wanted
    else:
        assert after == numbers[-1] + 1


def test_no_rows_are_one_empty_page(tmp_path: Path) -> None:
    write_artifacts(tmp_path, [], SOURCES)
    assert list(pages(tmp_path / ROWS, 10)) == [[]]


def test_a_token_is_of_one_list(uneven: Path) -> None:
    _, token = read_rows(uneven, dataset(), QUERY, 1, "")
    for query, given_token in (("another list", token), (QUERY, token[:-2])):
        with pytest.raises(InvalidArgument) as caught:
            read_rows(uneven, dataset(), query, 1, given_token)
        assert caught.value.field == "page_token"
