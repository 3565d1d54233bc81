"""Names of the columns of a table, as its first row gives them."""

from __future__ import annotations

from collections.abc import Iterable

from luthier_dataset.readers.items import UnreadableDocument

MAX_COLUMNS = 16_384
"""As in a sheet of Excel."""
MAX_NAME = 256
"""Characters of the longest name; each record repeats it."""


def column_names(header: Iterable[str]) -> list[str]:
    """Return the names, no two the same: `column_2` for an empty one, `name_2` for a repeated one.

    UnreadableDocument if there are too many columns or a name is too long.
    """
    names: dict[str, None] = {}
    for number, written in enumerate(header, start=1):
        if number > MAX_COLUMNS:
            raise UnreadableDocument(f"it has more than {MAX_COLUMNS} columns")
        name = " ".join(written.split()) or f"column_{number}"
        if len(name) > MAX_NAME:
            raise UnreadableDocument(
                f"the name of column {number} is longer than {MAX_NAME} characters"
            )
        if name in names:
            name = f"{name}_{number}"
        while name in names:
            name += "_"
        names[name] = None
    return list(names)
