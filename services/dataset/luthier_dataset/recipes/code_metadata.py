"""Recipe `code_metadata`: what is said about a unit asks, its source answers.

The prompt has these lines; the last two stand only where the unit has documentation or comments:

    Language: python
    File: src/stack.py
    Name: Stack.push
    Signature: def push(self, item: int) -> None
    Documentation: Put an item on top.
    Comments: what the comments say, one a line

The answer is the unit as it stands, documentation included, without its common indentation.
"""

from __future__ import annotations

from collections.abc import Iterator

from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.recipes.code_units import Unit, units
from luthier_dataset.recipes.recipe import Document, Kind, Row, Tools, chat_row

NAME = "code_metadata"


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each unit, in the order of files and units."""
    for unit in units(document, config.code_metadata.max_unit_tokens, tools):
        yield chat_row(_prompt(unit), unit.code, unit.origin, group=unit.group)


def _prompt(unit: Unit) -> str:
    lines = {
        "Language": unit.file.language,
        "File": unit.file.path,
        "Name": unit.unit.name,
        "Signature": unit.unit.signature,
        "Documentation": unit.unit.doc,
        "Comments": "\n".join(unit.unit.comments),
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value)


KIND = Kind(make_rows, by_item=True)
