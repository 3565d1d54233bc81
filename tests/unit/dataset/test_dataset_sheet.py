import datetime
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from luthier_dataset.readers.items import Item, Place, Record, Remark, UnreadableDocument
from luthier_dataset.readers.sheet import read_sheet
from openpyxl.chart import BarChart

SHEET = "xl/worksheets/sheet1.xml"


def workbook(**sheets: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def changed(data: bytes, parts: Mapping[str, tuple[bytes, bytes]]) -> bytes:
    """Replace some bytes of parts of a workbook."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name in parts:
                assert parts[name][0] in content
                content = content.replace(*parts[name])
            new.writestr(name, content)
    return target.getvalue()


def read(tmp_path: Path, data: bytes) -> list[Item]:
    path = tmp_path / "a.xlsx"
    path.write_bytes(data)
    return list(read_sheet(path))


def test_each_sheet_is_a_table_of_json_values(tmp_path: Path) -> None:
    data = workbook(
        Words=[
            [],
            ["q", None, "q", 7],
            ["Größe?", 1, 2.5, True],
            [None, "", None, None],
            ["x", None, None, datetime.timedelta(hours=25)],
        ],
        Days=[
            ["day", "moment", "hour"],
            [
                datetime.date(2024, 5, 1),
                datetime.datetime(2024, 5, 1, 13, 30),
                datetime.time(7, 15),
            ],
        ],
    )
    assert read(tmp_path, data) == [
        Record(
            {"q": "Größe?", "column_2": 1, "q_3": 2.5, "7": True},
            ("Words",),
            Place(page=1, last_page=1, line=3, last_line=3),
        ),
        Record(
            {"q": "x", "column_2": None, "q_3": None, "7": "P1DT3600S"},
            ("Words",),
            Place(page=1, last_page=1, line=5, last_line=5),
        ),
        Record(
            {"day": "2024-05-01", "moment": "2024-05-01T13:30:00", "hour": "07:15:00"},
            ("Days",),
            Place(page=2, last_page=2, line=2, last_line=2),
        ),
    ]


def test_a_formula_has_its_stored_value(tmp_path: Path) -> None:
    data = workbook(A=[["sum", "none", "error"], ["=1+2", "=A1", "=1/0"]])
    data = changed(data, {SHEET: (b"<f>1+2</f><v></v>", b"<f>1+2</f><v>3</v>")})
    error = b'<c r="C2" t="e"><f>1/0</f><v>#DIV/0!</v>'
    data = changed(data, {SHEET: (b'<c r="C2"><f>1/0</f><v></v>', error)})
    [record] = read(tmp_path, data)
    assert isinstance(record, Record)
    assert record.fields == {"sum": 3, "none": None, "error": "#DIV/0!"}


def test_a_value_without_a_column_is_remarked(tmp_path: Path) -> None:
    remark, record = read(tmp_path, workbook(A=[["q"], ["x", None, "y"], ["z"]]))
    assert remark == Remark(
        "malformed_row",
        "row 2 of sheet 'A' has a value in column 3, where the first row has none",
        Place(page=1, last_page=1, line=2, last_line=2),
    )
    assert isinstance(record, Record)
    assert record.fields == {"q": "z"}


def test_charts_hold_no_rows_but_count_as_sheets(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.create_chartsheet("Chart", 0).add_chart(BarChart())
    book.worksheets[0].append(["q"])
    book.worksheets[0].append(["x"])
    data = io.BytesIO()
    book.save(data)
    [record] = read(tmp_path, data.getvalue())
    assert (record.place.page, record.place.line) == (2, 2)


TABLE = workbook(A=[["q"], ["x"]])


def shared(strings: bytes, index: int = 0) -> bytes:
    """A workbook whose second row is a shared string, as Excel writes them."""
    kind = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings"
    types = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    data = changed(
        TABLE,
        {
            SHEET: (b't="inlineStr"><is><t>x</t></is>', b't="s"><v>%d</v>' % index),
            "xl/_rels/workbook.xml.rels": (
                b"</Relationships>",
                b'<Relationship Id="rId99" Target="sharedStrings.xml" Type="%s"/></Relationships>'
                % kind,
            ),
            "[Content_Types].xml": (
                b"</Types>",
                b'<Override PartName="/xl/sharedStrings.xml" ContentType="%s"/></Types>' % types,
            ),
        },
    )
    target = io.BytesIO(data)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("xl/sharedStrings.xml", strings)
    return target.getvalue()


STRINGS = (
    b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    b"<si><r><t>Gr</t></r><r><t>\xc3\xb6\xc3\x9fe</t></r></si></sst>"
)


def test_shared_strings_are_put_in(tmp_path: Path) -> None:
    [record] = read(tmp_path, shared(STRINGS))
    assert isinstance(record, Record)
    assert record.fields == {"q": "Größe"}


def test_what_a_sheet_claims_costs_nothing(tmp_path: Path) -> None:
    data = changed(TABLE, {SHEET: (b'ref="A1:A2"', b'ref="A1:XFD1048576"')})
    data = changed(data, {SHEET: (b'<row r="2"><c r="A2"', b'<row r="999999999"><c r="A3"')})
    with pytest.raises(UnreadableDocument, match="it has no sheet with a row below"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is not an XLSX workbook"),
        (b"q,a\n1,2\n", "it is not an XLSX workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "it is encrypted with a password, or"),
        (TABLE[:-50], "it is not an XLSX workbook"),
        (workbook(A=[]), "it has no sheet with a row below"),
        (workbook(A=[["q"]]), "it has no sheet with a row below"),
        (workbook(A=[["q" * 257], ["x"]]), "the name of column 1 is longer than 256"),
        (
            changed(TABLE, {SHEET: (b"</row></sheetData>", b"</sheetData>")}),
            f"not a sound XLSX workbook: its part {SHEET} is not sound XML",
        ),
        (shared(STRINGS, index=99), "it is not a sound XLSX workbook"),
        (shared(STRINGS[:-6]), "its part xl/sharedStrings.xml is not sound XML"),
        (
            shared(b'<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + STRINGS),
            "it declares XML entities",
        ),
        (
            changed(TABLE, {SHEET: (b"<worksheet", b'<!DOCTYPE w [<!ENTITY a "a">]><worksheet')}),
            "it declares XML entities",
        ),
    ],
)
def test_what_is_no_sound_workbook_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read(tmp_path, data)
