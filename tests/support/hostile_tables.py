"""Hostile and broken CSV, TSV, XLSX, Parquet, JSON and JSONL files, by what is wrong with them.

Names are `kind: case`. They are small, or (`huge_tables`) written as holes: what they claim or
unpack to is not.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
from pyarrow import parquet as pq

MEGABYTE = 1024 * 1024
GIGABYTE = 1024 * MEGABYTE
_ODD: tuple[Any, ...] = ("x", 1e300, None, {}, [[["x"]]], [{"text": 7}])
"""Values where a text or a time should be."""
GOOD_JSON = b'{"q": "Who?", "a": "Odran."}'
SHEET = "xl/worksheets/sheet1.xml"

Cases = dict[str, tuple[str, bytes]]
"""Name of the file and its bytes, by `kind: case`."""


def hostile_tables() -> Cases:
    """Return all the small cases."""
    return {
        **_named(".csv", hostile_csv()),
        **_named(".jsonl", hostile_jsonl()),
        **_named(".json", hostile_json()),
        **_named(".xlsx", hostile_sheets()),
        **_named(".parquet", hostile_parquet()),
    }


def huge_tables() -> dict[str, tuple[str, Callable[[Path], None]]]:
    """Return files of a gigabyte: a name and what writes the file to a path."""
    return {
        "size: CSV with a line of 1 GB": ("line.csv", _one_line(b"q,a\n1,2\n", b"x", b"\n3,4\n")),
        "size: CSV with a quoted value of 1 GB": (
            "value.csv",
            _one_line(b'q,a\n1,2\n"', b"x", b'",1\n3,4\n'),
        ),
        "size: CSV of 1 GB of delimiters": ("commas.csv", _one_line(b"q,a\n1,2\n", b",", b"\n3,4")),
        "size: JSONL with a line of 1 GB": (
            "line.jsonl",
            _one_line(GOOD_JSON + b'\n{"q": "', b"x", b'"}\n' + GOOD_JSON),
        ),
        "size: JSONL with a line of 1 GB of brackets": (
            "brackets.jsonl",
            _one_line(GOOD_JSON + b"\n", b"[", b"\n" + GOOD_JSON),
        ),
        "size: JSON of 1 GB": ("value.json", _one_line(b'[{"q": "', b"x", b'"}]')),
        "size: JSONL of 1 GB of NULs": ("nul.jsonl", _hole(GOOD_JSON + b"\n")),
        "size: CSV of 1 GB of NULs": ("nul.csv", _hole(b"q,a\n1,2\n")),
        "size: Parquet with a hole of 1 GB": ("hole.parquet", _hole(_parquet({"q": ["x"]}))),
        "size: XLSX with a hole of 1 GB": ("hole.xlsx", _hole(_workbook([["q"], ["x"]]))),
    }


def _named(suffix: str, cases: Mapping[str, bytes]) -> Cases:
    return {
        f"{name} ({suffix[1:]})": (f"case-{number}{suffix}", data)
        for number, (name, data) in enumerate(cases.items(), start=1)
    }


def _one_line(head: bytes, filler: bytes, tail: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(head)
            for _ in range(1024):
                file.write(filler * MEGABYTE)
            file.write(tail)

    return write


def _hole(head: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(head)
            file.truncate(GIGABYTE)

    return write


def hostile_csv() -> dict[str, bytes]:
    """Return tables as text."""
    table = b"q,a\nWho?,Odran.\n"
    german = "Frage;Antwort\nWie groß ist die Tür?;Übermäßig groß für Mädchen und Jungen.\n" * 9
    return {
        "nothing: empty file": b"",
        "nothing: byte order mark only": b"\xef\xbb\xbf",
        "nothing: half a byte order mark": b"\xef\xbb",
        "nothing: names of columns only": b"q,a\n",
        "nothing: only line ends": b"\n" * 100_000,
        "nothing: only delimiters": b",,,,\n" * 1_000,
        "NUL: in a value": table + b"x\0y,1\n",
        "NUL: behind the rows": table + bytes(5_000),
        "NUL: UTF-16 that breaks off": "q,a\n1,2\n".encode("utf-16")[:-1],
        "encoding: Latin-1 without a mark": german.encode("latin-1"),
        "encoding: UTF-8 and Latin-1 mixed": german.encode() + german.encode("latin-1"),
        "encoding: UTF-16 with a false mark": b"\xff\xfe" + german.encode("utf-16-be"),
        "encoding: mark of UTF-8 on UTF-16": b"\xef\xbb\xbf" + german.encode("utf-16-le"),
        "encoding: mark in the middle": table + b"\xef\xbb\xbf" + table,
        "encoding: lone surrogates as UTF-8": table + b"\xed\xa0\x80,\xed\xbf\xbf\n" * 9,
        "encoding: overlong UTF-8": table + b"\xc0\xaf,\xe0\x80\xaf\n" * 9,
        "encoding: UTF-7": table + b"+AGE-,+2D3eAA-\n",
        "noise: all bytes": bytes(range(256)) * 500,
        "noise: control characters": table + bytes(range(1, 32)) * 100,
        "noise: an executable": b"\x7fELF" + bytes(range(256)) * 100,
        "quotes: never closed": table + b'"' + b"x,1\n" * 200_000,
        "quotes: one in each line": b"q,a\n" + b'"x,1\n' * 20_000,
        "quotes: only quotes": b'"' * 1_000_001,
        "quotes: closed early": b"q,a\n" + b'"a"b"c,1\n' * 1_000,
        "quotes: in the names": b'"q,a\n1,2\n',
        "width: a million columns": b"q," * 1_000_000 + b"a\n" + b"1," * 1_000_000 + b"2\n",
        "width: a million values": table + b"1," * 1_000_000 + b"2\n",
        "width: name of a megabyte": b"q" * MEGABYTE + b",a\n" + b"1,2\n" * 10_000,
        "width: no row fits": b"q,a\n" + b"1\n" * 10_000,
        "keys: one name for all columns": b"q," * 2_000 + b"q\n" + b"1," * 2_000 + b"1\n",
        "size: line of 8 MB": table + b"x" * (8 * MEGABYTE) + b"\n" + table,
        "size: line of 8 MB of quotes": table + b'"' * (8 * MEGABYTE) + b"\n" + table,
        "lines: returns only": table.replace(b"\n", b"\r") * 1_000,
        "lines: all kinds of ends": b"q,a\r1,2\n3,4\r\n5,6\x0b7,8\x0c9,10\xc2\x857,8\n",
        "formulas: commands": b'q,a\n=cmd|\'/C calc\'!A0,"=HYPERLINK(""http://x"")"\n@SUM(1),-1\n',
        "claims: sheet under a false name": _workbook([["q"], ["x"]]),
    }


def hostile_jsonl() -> dict[str, bytes]:
    """Return lines of JSON."""
    good = GOOD_JSON + b"\n"
    return {
        "nothing: empty file": b"",
        "nothing: blank lines": b" \n\t\n" * 1_000,
        "nesting: 100,000 arrays": good + b'{"q": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        "nesting: 100,000 objects": good + b'{"q":' * 100_000 + b"1" + b"}" * 100_000 + b"\n",
        "nesting: 900 arrays": good + b'{"q": ' + b"[" * 900 + b"]" * 900 + b"}\n",
        "nesting: brackets that never close": good + b"[" * MEGABYTE,
        "numbers: 100,000 digits": good + b'{"q": ' + b"9" * 100_000 + b"}\n",
        "numbers: exponent of a billion": good + b'{"q": 1e999999999, "a": -1e-999999999}\n',
        "numbers: beyond 64 bits": good + b'{"q": 123456789012345678901234567890}\n',
        "numbers: none of JSON": good + b'{"q": NaN, "a": -Infinity}\n{"q": 0x10}\n{"q": 01}\n',
        "keys: the same twice": b'{"q": 1, "q": {"q": 2, "q": 3}}\n',
        "keys: 100,000": b"{" + b",".join(b'"k%d": 1' % n for n in range(100_000)) + b"}\n",
        "keys: that collide": b"{" + b",".join(b'"%d": 1' % (n << 61) for n in range(9_999)) + b"}",
        "keys: empty, blank and NUL": b'{"": 1, " ": 2, "\\u0000": 3}\n',
        "NUL: in a line": good + b'{"q": "\0"}\n' + good,
        "NUL: as an escape": good + b'{"q": "\\u0000"}\n',
        "NUL: behind the rows": good + bytes(5_000),
        "encoding: lone surrogates as escapes": b'{"q": "\\ud800", "\\udfff": "\\ude00\\ud83d"}\n',
        "encoding: lone surrogates as UTF-8": good + b'{"q": "\xed\xa0\x80"}\n',
        "encoding: UTF-16": good.decode().encode("utf-16"),
        "encoding: Latin-1 among UTF-8": good + '{"q": "Größe"}\n'.encode("latin-1") + good,
        "encoding: a mark at each line": (b"\xef\xbb\xbf" + good) * 9,
        "size: line of 8 MB": good + b'{"q": "' + b"x" * (8 * MEGABYTE) + b'"}\n' + good,
        "size: blanks of 8 MB behind a row": good + GOOD_JSON + b" " * (8 * MEGABYTE) + b"x\n",
        "size: 200,000 bad lines": good + b"x\n" * 200_000,
        "lines: returns only": good.replace(b"\n", b"\r") * 9,
        "lines: separators of Unicode": b'{"q": "\xe2\x80\xa8\xc2\x85"}\n',
        "truncated: in the last row": good * 3 + GOOD_JSON[:-5],
        "truncated: in an escape": good + b'{"q": "\\u12',
        "rows: not objects": b'1\n"x"\nnull\n[]\n' + good,
        "claims: sheet under a false name": _workbook([["q"], ["x"]]),
    }


def hostile_json() -> dict[str, bytes]:
    """Return documents of JSON."""
    many = b",".join([GOOD_JSON] * 3)
    return {
        "nothing: empty file": b"",
        "nothing: empty array": b"[]",
        "nothing: scalar": b"7",
        "nesting: 100,000 arrays": b"[" * 100_000 + b"]" * 100_000,
        "nesting: 100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "nesting: in one element": b"[" + many + b',{"q":' + b"[" * 200 + b"]" * 200 + b"}]",
        "numbers: 100,000 digits": b"[" + many + b',{"q":' + b"9" * 100_000 + b"}]",
        "keys: the same twice": b'{"rows": [' + many + b'], "rows": [{"q": 1}]}',
        "keys: 100,000 tables": b"{%s}" % b",".join(b'"%d":[{"q":1}]' % n for n in range(100_000)),
        "encoding: lone surrogates as escapes": b'[{"q": "\\ud800\\\\\\ud83d"}]',
        "encoding: Latin-1": '[{"q": "Größe"}]'.encode("latin-1"),
        "encoding: UTF-32": b"".join((b"[", GOOD_JSON, b"]")).decode().encode("utf-32"),
        "NUL: behind the array": b"[" + many + b"]" + bytes(100),
        "truncated: in the array": b"[" + many,
        "truncated: comments and commas": b"[" + many + b",] // end",
        "size: a million numbers": b"[" + b"1," * 1_000_000 + GOOD_JSON + b"]",
        "size: 200,000 elements that are no objects": b"[%s%s]" % (GOOD_JSON, b",1" * 200_000),
        "chats: messages of any type": json.dumps(
            [
                {"ts": ts, "text": text, "user": 7, "user_profile": []}
                for ts in _ODD
                for text in _ODD
            ]
        ).encode(),
        "chats: texts of any type": json.dumps(
            {
                "name": ["x"],
                "messages": [{"date": "99999-99-99", "from": {}, "text": text} for text in _ODD],
            }
        ).encode(),
    }


def _workbook(rows: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def _parts(change: Callable[[dict[str, bytes]], None]) -> bytes:
    """A small workbook whose parts were changed."""
    with zipfile.ZipFile(io.BytesIO(_workbook([["q", "a"], ["x", 1]]))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target.getvalue()


def _with_part(name: str, content: bytes | None) -> bytes:
    def change(parts: dict[str, bytes]) -> None:
        if content is None:
            del parts[name]
        else:
            parts[name] = content

    return _parts(change)


def _with_rows(rows: bytes, head: bytes = b"", name: str = SHEET) -> bytes:
    """A workbook whose sheet has these rows."""
    namespace = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    data = b'<worksheet xmlns="%s"><sheetData>%s</sheetData></worksheet>' % (namespace, rows)
    return _with_part(name, b"<?xml version='1.0'?>" + head + data)


def _row(number: int, *cells: bytes) -> bytes:
    return b'<row r="%d">%s</row>' % (number, b"".join(cells))


def _text(cell: bytes, text: bytes) -> bytes:
    return b'<c r="%s" t="inlineStr"><is><t>%s</t></is></c>' % (cell, text)


BILLION_LAUGHS = b"<!DOCTYPE a [<!ENTITY l0 'lol'>%s]>" % b"".join(
    b"<!ENTITY l%d '%s'>" % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 12)
)
EXTERNAL_ENTITY = b"<!DOCTYPE a [<!ENTITY l11 SYSTEM 'file:///etc/hostname'>]>"


def hostile_sheets() -> dict[str, bytes]:
    """Return workbooks."""
    whole = _workbook([["q"], ["x"]])
    names = _row(1, _text(b"A1", b"q"))
    entity = names + _row(2, _text(b"A2", b"&l11;"))
    numbers = b"".join(
        b'<c r="A%d" t="%s"><v>%s</v></c>' % (2, kind, value)
        for kind, value in ((b"n", b"9" * 400), (b"b", b"x"), (b"d", b"99999"), (b"zz", b"1"))
    )
    return {
        "container: empty file": b"",
        "container: text under a false name": b"q,a\n1,2\n",
        "container: another archive": _another_archive(),
        "container: compound file": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4096),
        "container: no workbook": _with_part("xl/workbook.xml", None),
        "container: missing sheet": _with_part(SHEET, None),
        "container: missing styles": _with_part("xl/styles.xml", None),
        "container: no content types": _with_part("[Content_Types].xml", None),
        "container: way out of the folder": _with_part("../../../tmp/luthier-was-here", b"x"),
        "container: 20,000 parts": _parts(
            lambda parts: parts.update({f"x/{n}.bin": b"" for n in range(20_000)})
        ),
        "truncated: at the end": whole[:-30],
        "truncated: in the middle": whole[: len(whole) // 2],
        "truncated: a sheet that breaks off": _with_part(SHEET, b"<worksheet><sheetData><row>"),
        "bomb: sheet of 1 GB": _with_part(SHEET, b" " * (1024 * MEGABYTE)),
        "bomb: sheet of 40 MB of blanks": _with_rows(names + b" " * (40 * MEGABYTE)),
        "bomb: styles of 100 MB": _with_part("xl/styles.xml", b" " * (100 * MEGABYTE)),
        "bomb: 300,000 rows": _with_rows(b"<row><c><v>1</v></c></row>" * 300_000),
        "entities: billion laughs": _with_rows(entity, BILLION_LAUGHS),
        "entities: external": _with_rows(entity, EXTERNAL_ENTITY),
        "entities: in the workbook": _with_part(
            "xl/workbook.xml", BILLION_LAUGHS + b"<a>&l11;</a>"
        ),
        "claims: dimension of all cells": _with_part(
            SHEET,
            b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
            b'<dimension ref="A1:XFD1048576"/><sheetData>%s</sheetData></worksheet>' % names,
        ),
        "claims: last of all rows": _with_rows(names + _row(1_048_576, _text(b"A1048576", b"x"))),
        "claims: row beyond all": _with_rows(names + _row(10**15, _text(b"A2", b"x"))),
        "claims: row below zero": _with_rows(names + _row(-5, _text(b"A2", b"x"))),
        "claims: column beyond all": _with_rows(names + _row(2, _text(b"ZZZZZZ2", b"x"))),
        "claims: last column in each row": _with_rows(
            names + b"".join(_row(n, _text(b"XFD%d" % n, b"x")) for n in range(2, 500))
        ),
        "claims: cells of no name": _with_rows(names + _row(2, _text(b"%%%", b"x"))),
        "claims: shared string that is not there": _with_rows(
            names + _row(2, b'<c r="A2" t="s"><v>4000000000</v></c>')
        ),
        "claims: style that is not there": _with_rows(
            names + _row(2, b'<c r="A2" s="4000000000"><v>1</v></c>')
        ),
        "numbers: of all kinds, broken": _with_rows(names + _row(2, numbers)),
        "numbers: date beyond all": _dates(),
        "nesting: 5,000 elements": _with_rows(
            names + _row(2, b"<c><is>" * 5_000 + b"</is></c>" * 5_000)
        ),
        "width: 16,385 columns": _with_rows(_row(1, b"<c><v>1</v></c>" * 16_385)),
        "width: value of 8 MB": _with_rows(names + _row(2, _text(b"A2", b"x" * (8 * MEGABYTE)))),
        "formulas: commands and references": _workbook(
            [["q", "a"], ["=cmd|'/C calc'!A0", '=WEBSERVICE("http://127.0.0.1:9")'], ["x", "=A3"]]
        ),
        "formulas: no stored value": _workbook([["q"], ["=1+1"]]),
        "nothing: sheet without rows": _workbook([]),
        "nothing: empty texts": _workbook([["", ""], ["", None]]),
    }


def _another_archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("hello.txt", "hi")
    return target.getvalue()


def _dates() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(["day"])
    for value in (1e15, -1e15, 2958466, 0, 60):
        sheet.append([value])
        sheet.cell(sheet.max_row, 1).number_format = "yyyy-mm-dd"
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def _parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), data, **options)
    return data.getvalue()


def _varint(value: int) -> bytes:
    """An i64 of Thrift's compact protocol."""
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def hostile_parquet() -> dict[str, bytes]:
    """Return Parquet files."""
    whole = _parquet({"q": [f"row {n}" for n in range(2_000)]})
    rows = _varint(2_000)
    footer = int.from_bytes(whole[-8:-4], "little")
    bad_text = pa.array([b"\xff\xfe", b"good"]).cast(pa.string(), safe=False)
    cases = {
        "container: empty file": b"",
        "container: marks only": b"PAR1PAR1",
        "container: text under a false name": b"q,a\n1,2\n",
        "container: mark of an encrypted file": b"PARE" + whole[4:-4] + b"PARE",
        "truncated: no footer": whole[: -footer - 8],
        "truncated: half": whole[: len(whole) // 2],
        "truncated: last byte": whole[:-1],
        "claims: footer of 2 GB": whole[:-8] + b"\xff\xff\xff\x7fPAR1",
        "claims: negative footer": whole[:-8] + b"\xff\xff\xff\xffPAR1",
        "claims: 2^60 rows": whole[: -footer - 8] + _claim(whole[-footer - 8 :], rows, 2**60),
        "claims: rows in the footer only": whole.replace(b"\x16" + rows, b"\x16" + _varint(2_001)),
        "noise: in the pages": whole[:4] + b"\xa5" * 500 + whole[504:],
        "noise: in the footer": whole[: -footer - 8] + b"\xa5" * footer + whole[-8:],
        "noise: behind the mark": b"PAR1" + bytes(range(256)) * 100 + b"\x10\0\0\0PAR1",
        "bomb: one value 5 million times": _parquet(
            {"q": pa.array(["x" * 20]).dictionary_encode().take([0] * 5_000_000)}
        ),
        "bomb: value of 60 MB": _parquet({"q": ["x" * (60 * MEGABYTE)]}, compression="zstd"),
        "width: 20,000 columns": _parquet({f"c{n}": [1] for n in range(20_000)}),
        "keys: one name for two columns": _two_of_a_name(),
        "encoding: text that is no UTF-8": _parquet({"q": bad_text}),
        "numbers: not a number": _parquet({"q": [float("nan"), float("inf"), -0.0]}),
        "numbers: date beyond all": _parquet({"q": pa.array([2**62], pa.timestamp("us"))}),
        "numbers: zone that is not there": _parquet(
            {"q": pa.array([1], pa.timestamp("us", "Nowhere/Town"))}
        ),
        "nothing: no rows": _parquet({"q": pa.array([], pa.string())}),
        "nothing: no columns": _parquet({}),
        "nesting: 90 lists": _nested(90),
        "nesting: 300 lists": _nested(300),
    }
    for at in (7, 31, 77, 140, 333):
        turned = bytearray(whole)
        turned[-footer - 8 + at % footer] ^= 0xFF
        cases[f"noise: footer turned at byte {at}"] = bytes(turned)
    return cases


def _claim(footer: bytes, rows: bytes, claimed: int) -> bytes:
    changed = footer[:-8].replace(b"\x16" + rows, b"\x16" + _varint(claimed))
    return changed + len(changed).to_bytes(4, "little") + b"PAR1"


def _two_of_a_name() -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table([[1], [2]], names=["q", "q"]), data)
    return data.getvalue()


def _nested(depth: int) -> bytes:
    kind: pa.DataType = pa.int64()
    value: Any = 1
    for _ in range(depth):
        kind, value = pa.struct([("a", kind)]), {"a": value}
    return _parquet({"deep": pa.array([value], kind)})
