"""Recipe `code_raw`: the whole code base in chunks of full context, learned whole.

Files stand one behind another in the order of the reader, which is that of their paths. Before
each stands the line `=== path ===`; a file ends with one line break, and a blank line follows.
"""

from __future__ import annotations

from collections.abc import Iterator

from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.chunks import exact_chunks
from luthier_dataset.readers.items import NOWHERE, Block, BlockKind, CodeFile, Place
from luthier_dataset.recipes.passages import lines_of, with_breaks
from luthier_dataset.recipes.recipe import Document, Kind, Origin, Row, Shape, Tools

NAME = "code_raw"


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield chunks of exactly so many tokens, the last one shorter; each names its places."""
    tokens = config.code_raw.chunk_tokens or tools.context_tokens
    for chunk in exact_chunks(_pieces(document), tools.tokenizer, tokens):
        origins = tuple(Origin(document.file, (), place) for place in chunk.places)
        if chunk.text.strip():
            origins = origins or (Origin(document.file),)
            yield Row(Shape.TEXT, {"text": chunk.text}, origins, text_tokens=chunk.tokens)


def _pieces(document: Document) -> Iterator[tuple[str, Place]]:
    first = True
    for item in document.items():
        if not isinstance(item, CodeFile) or not item.text.strip():
            continue
        yield f"{'' if first else chr(10)}=== {item.path} ===\n", NOWHERE
        yield from with_breaks(lines_of(Block(BlockKind.VERBATIM, item.text, item.place)))
        if not item.text.endswith("\n"):
            yield "\n", NOWHERE
        first = False


KIND = Kind(make_rows, shape=lambda config: Shape.TEXT)
