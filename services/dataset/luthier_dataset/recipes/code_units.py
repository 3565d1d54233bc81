"""The units of a code base, for the recipes that work on them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from luthier_dataset.readers.items import CodeFile, CodeUnit
from luthier_dataset.recipes.recipe import Document, Origin, Tools

UNIT_TOO_LONG = "unit_too_long"
_DEFAULT_TOKENS = 1024


class Unit(NamedTuple):
    """A function, method, class or statement, and the file it stands in."""

    file: CodeFile
    unit: CodeUnit
    code: str
    """The source, doc comment included, without the indentation that all of it has."""
    origin: Origin
    group: str
    """The same for all units of a file, which stay on one side of a split."""


def units(document: Document, most_tokens: int, tools: Tools) -> Iterator[Unit]:
    """Yield the units of a document in the order of its files; longer ones are dropped.

    `most_tokens`: 0 means 1,024.
    """
    for item in document.items():
        if not isinstance(item, CodeFile):
            continue
        group = f"{document.sha256}:{item.path}"
        for unit in item.units:
            code = textwrap.dedent(unit.source).strip("\n")
            if tools.tokenizer.count(code) > (most_tokens or _DEFAULT_TOKENS):
                tools.drop(UNIT_TOO_LONG)
            else:
                yield Unit(item, unit, code, Origin(document.file, (), unit.place), group)
