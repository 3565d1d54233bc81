"""Recipe `headings`: the heading path asks, the section answers."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.chunks import fitting_chunks
from luthier_dataset.readers.items import Place
from luthier_dataset.recipes.passages import DEFAULT_TOKENS, texts
from luthier_dataset.recipes.recipe import Document, Kind, Origin, Row, Tools, chat_row

NAME = "headings"
DUPLICATE = "duplicate"
_SEPARATOR = " > "

_Path = tuple[str, ...]


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each heading path; several, told apart by ` (2/3)`, for a long text.

    Sections under equal paths are parts of one text: two rows that answer one prompt differently
    would teach neither. So the text of the document lies in memory, once.
    """
    most = config.headings.max_section_tokens or DEFAULT_TOKENS
    by_path: dict[_Path, dict[str, Place]] = {}
    for text in texts(document.items()):
        parts = by_path.setdefault(text.heading_path, {})
        for part, place in fitting_chunks(text.lines(), tools.tokenizer, most):
            if part in parts:
                tools.drop(DUPLICATE)
            elif part.strip():
                parts[part] = place
    tops = {path[0] for path in by_path if path}
    for path, parts in by_path.items():
        # Headings such as `Introduction` ask for one document only with its name in front.
        named = path if path and len(tops) == 1 else (document.title, *path)
        prompt = _SEPARATOR.join(named)
        for number, (part, place) in enumerate(parts.items(), start=1):
            suffix = f" ({number}/{len(parts)})" if len(parts) > 1 else ""
            yield chat_row(prompt + suffix, part, Origin(document.file, path, place))


KIND = Kind(make_rows, one_answer=True)
