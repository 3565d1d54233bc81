import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.readers.columns import column_names
from luthier_dataset.readers.delimited import MAX_RECORD, read_csv, read_tsv
from luthier_dataset.readers.items import Item, Record, Remark, UnreadableDocument


def read(tmp_path: Path, data: bytes, name: str = "a.csv") -> list[Item]:
    path = tmp_path / name
    path.write_bytes(data)
    return list((read_tsv if name.endswith(".tsv") else read_csv)(path))


def fields(items: list[Item]) -> list[dict[str, str]]:
    return [item.fields for item in items if isinstance(item, Record)]


def remarks(items: list[Item]) -> list[tuple[str, int, str]]:
    return [(one.code, one.place.line, one.detail) for one in items if isinstance(one, Remark)]


def test_rows_are_records_by_the_names_of_the_columns(tmp_path: Path) -> None:
    data = '\ufeffq,"the answer",q,\r\n"Größe, ""x""\r\nüber",7,,z\r\n\r\n,,,\r\na,b,c,d'.encode()
    items = read(tmp_path, data)
    assert fields(items) == [
        {"q": 'Größe, "x"\nüber', "the answer": "7", "q_3": "", "column_4": "z"},
        {"q": "a", "the answer": "b", "q_3": "c", "column_4": "d"},
    ]
    places = [item.place for item in items]
    assert [(place.line, place.last_line) for place in places] == [(2, 3), (6, 6)]
    assert [data[place.start : place.end] for place in places] == [
        '"Größe, ""x""\r\nüber",7,,z'.encode(),
        b"a,b,c,d",
    ]
    assert not remarks(items)


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (b"q,a\n1,2", {"q": "1", "a": "2"}),
        (b"q;a\nyes, sir;2,5", {"q": "yes, sir", "a": "2,5"}),
        (b"q\ta\n1,2\t3;4", {"q": "1,2", "a": "3;4"}),
        (b"q|a\n1,2|3;4", {"q": "1,2", "a": "3;4"}),
        (b"'q, x','a'\n'it, ''s','2'", {"q, x": "it, 's", "a": "2"}),
        (b"it's,a\n'tis,2", {"it's": "'tis", "a": "2"}),
        (b"q\nyes, sir", {"q": "yes, sir"}),
        (b'q,a\r"1\r2",3', {"q": "1\n2", "a": "3"}),
        ("q;ä\n1;ö".encode("utf-16"), {"q": "1", "ä": "ö"}),
        ("q;ä\n1;ö".encode("utf-8-sig"), {"q": "1", "ä": "ö"}),
    ],
)
def test_dialect_and_encoding_are_told_from_the_file(
    tmp_path: Path, data: bytes, row: dict[str, str]
) -> None:
    assert fields(read(tmp_path, data)) == [row]


def test_a_guessed_encoding_is_remarked(tmp_path: Path) -> None:
    text = "Frage;Antwort\n" + "Wie groß ist die Tür?;Für Mädchen und Jungen übermäßig groß.\n" * 9
    items = read(tmp_path, text.encode("cp1252"))
    assert fields(items)[8]["Antwort"] == "Für Mädchen und Jungen übermäßig groß."
    assert [one[0] for one in remarks(items)] == ["guessed_encoding"]


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (b'q\ta\n"x\ty"\tz', {"q": "x\ty", "a": "z"}),
        (b'q\ta\n"Hello" she said\tz', {"q": '"Hello" she said', "a": "z"}),
        (b"q,a\tb\n1,2\t3", {"q,a": "1,2", "b": "3"}),
    ],
)
def test_tsv_has_quotes_only_where_they_close(
    tmp_path: Path, data: bytes, row: dict[str, str]
) -> None:
    assert fields(read(tmp_path, data, "a.tsv")) == [row]


def test_rows_of_another_width_are_remarked(tmp_path: Path) -> None:
    items = read(tmp_path, b"q,a\n1\n1,2,3\n1,2\n")
    assert fields(items) == [{"q": "1", "a": "2"}]
    assert remarks(items) == [
        ("malformed_row", 2, "line 2 has 1 values for 2 columns"),
        ("malformed_row", 3, "line 3 has 3 values for 2 columns"),
    ]


@pytest.mark.parametrize("bad", [b'"never closed,1', b'"closed" early,1'])
def test_a_stray_quote_costs_one_row(tmp_path: Path, bad: bytes) -> None:
    data = b"q,a\n1,2\n" + bad + b"\n3,4\n5,6\n"
    items = read(tmp_path, data)
    assert fields(items) == [{"q": "1", "a": "2"}, {"q": "3", "a": "4"}, {"q": "5", "a": "6"}]
    [(code, line, detail)] = remarks(items)
    assert (code, line) == ("malformed_row", 3)
    assert detail.startswith("line 3 has a quote that is out of place")


@pytest.mark.parametrize(
    "bad",
    [
        b"x" * (MAX_RECORD + 1) + b",1",
        b'"' + b"x" * (MAX_RECORD + 1),
        b'"' + b"x" * (MAX_RECORD + 1) + b'",1',
    ],
)
def test_a_line_too_long_is_passed_over(tmp_path: Path, bad: bytes) -> None:
    items = read(tmp_path, b"q,a\n1,2\n" + bad + b"\n3,4\n")
    assert fields(items) == [{"q": "1", "a": "2"}, {"q": "3", "a": "4"}]
    assert remarks(items) == [
        ("malformed_row", 3, "line 3 is longer than 4194304 characters or 10000 lines")
    ]


def test_a_quote_that_swallows_the_file_is_let_go_after_so_many_lines(tmp_path: Path) -> None:
    items = read(tmp_path, b'q,a\n"x,1\n' + b"1,2\n" * 10_000)
    assert len(fields(items)) == 10_000
    assert remarks(items) == [
        ("malformed_row", 2, "line 2 is longer than 4194304 characters or 10000 lines")
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it has no row below"),
        (b"q,a\n", "it has no row below"),
        (b"q,a\n1\n2\n", "it has no row below"),
        (b"q,a\n1,\0\n", "it is not text"),
        (b"q," * 16_384 + b"a\n1", "it has more than 16384 columns"),
        (b"q" * 257 + b",a\n1,2", "the name of column 1 is longer than 256"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read(tmp_path, data)


def test_each_column_has_its_own_name() -> None:
    assert column_names(["a", "a", " b\nc ", "", "column_4", "a_2"]) == [
        "a", "a_2", "b c", "column_4", "column_4_5", "a_2_6",
    ]  # fmt: skip


_cells = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8)
_tables = st.lists(st.lists(_cells, min_size=3, max_size=3), min_size=1, max_size=6)


@settings(max_examples=50)
@given(_tables, st.sampled_from([",", ";", "|", "\t"]), st.sampled_from(["\n", "\r\n"]))
def test_what_a_writer_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], delimiter: str, end: str
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerows([["name", "of", "column"], *table, ["end", "of", "it"]])
    data = text.getvalue().encode()
    items = read(tmp_path_factory.mktemp("csv"), data)
    written = [row for row in table if any(row)]
    assert [list(row.values()) for row in fields(items)] == [*written, ["end", "of", "it"]]
    places = [item.place for item in items]
    assert all(data[place.start : place.end].count(b'"') % 2 == 0 for place in places)
