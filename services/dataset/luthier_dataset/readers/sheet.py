"""Reads spreadsheets (XLSX), row by row: the first row of each sheet names the columns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, time
from pathlib import Path
from typing import Any

import openpyxl
from defusedxml import DefusedXmlException
from msgspec import to_builtins
from openpyxl.worksheet._read_only import ReadOnlyWorksheet

from luthier_dataset.readers.columns import column_names
from luthier_dataset.readers.items import Item, Place, Record, Remark, UnreadableDocument
from luthier_dataset.readers.office import check_container, unsound

_WHAT = "XLSX workbook"
_MAX_ROWS = 1_048_576
"""Of a sheet, as in Excel. Rows may claim any number, and those left out are counted through."""


def read_sheet(path: Path) -> Iterator[Item]:
    """Yield a record for each row that holds a value, under the name of its sheet.

    Numbers and truth values stay what they are, dates and times are ISO 8601, formulas have the
    value that was stored with them, and cells without one are None. `page` is the number of the
    sheet, `line` that of the row.
    """
    check_container(path, must_have="xl/workbook.xml", what=f"an {_WHAT}")
    found = False
    try:
        for item in _records(path):
            found = found or isinstance(item, Record)
            yield item
    except UnreadableDocument:
        raise
    except Exception as error:
        # The library checks little, so a broken part may end in any exception.
        if isinstance(error.__cause__ or error, DefusedXmlException):
            raise UnreadableDocument("it declares XML entities, which is not allowed") from error
        raise unsound(path, _WHAT) from error
    if not found:
        raise UnreadableDocument("it has no sheet with a row below the names of the columns")


def _records(path: Path) -> Iterator[Item]:
    # The library warns of what it passes over, such as styles; none of it is a value.
    with warnings.catch_warnings(action="ignore"):
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        with closing(workbook):
            for number, name in enumerate(workbook.sheetnames, start=1):
                # Sheets that are charts have no rows.
                if isinstance(sheet := workbook[name], ReadOnlyWorksheet):
                    yield from _rows(sheet, name, number)


def _rows(sheet: Any, name: str, number: int) -> Iterator[Item]:
    # The dimensions that a sheet declares are often wrong, and cost what they claim.
    sheet.reset_dimensions()
    names: list[str] = []
    for line, cells in enumerate(sheet.iter_rows(max_row=_MAX_ROWS, values_only=True), start=1):
        place = Place(page=number, last_page=number, line=line, last_line=line)
        values = _values(cells)
        if not values:
            continue
        if not names:
            names = column_names("" if value is None else str(value) for value in values)
        elif len(values) > len(names):
            what = f"has a value in column {len(values)}, where the first row has none"
            yield Remark("malformed_row", f"row {line} of sheet {name!r} {what}", place)
        else:
            values += [None] * (len(names) - len(values))
            yield Record(dict(zip(names, values, strict=True)), (name,), place)


def _values(cells: tuple[Any, ...]) -> list[Any]:
    """The values of a row as JSON has them, up to the last cell that has one."""
    values = [None if cell == "" else _value(cell) for cell in cells]
    while values and values[-1] is None:
        values.pop()
    return values


def _value(cell: Any) -> Any:
    if isinstance(cell, datetime) and cell.time() == time():
        # Excel knows no dates, only points in time; one at midnight is meant as a date.
        return cell.date().isoformat()
    return to_builtins(cell)
