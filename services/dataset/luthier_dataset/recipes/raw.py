"""Recipe `raw`: chunks of exact token length, learned whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, takewhile

from luthier.dataset.v1.recipe_pb2 import RawRecipe, Recipe

from luthier_dataset.chunks import exact_chunks
from luthier_dataset.readers.items import NOWHERE, Place
from luthier_dataset.recipes.passages import Text, texts, with_breaks
from luthier_dataset.recipes.recipe import Document, Kind, Origin, Row, Shape, Tools

NAME = "raw"
_DEFAULT_TOKENS = 512


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield the chunks of each section or, packed, of the whole document with its headings."""
    raw = config.raw
    tokens = raw.chunk_tokens or (tools.context_tokens if raw.pack else _DEFAULT_TOKENS)
    found = texts(document.items())
    overlap = min(raw.overlap_tokens, tokens - 1)
    for stretch in [found] if raw.pack else ([text] for text in found):
        paths = _Paths()
        pieces = paths.noted(stretch, headings=raw.pack)
        for chunk in exact_chunks(pieces, tools.tokenizer, tokens, overlap):
            path = paths.at(chunk.start)
            origins = tuple(Origin(document.file, path, place) for place in chunk.places)
            if chunk.text.strip():
                yield Row(Shape.TEXT, {"text": chunk.text}, origins, text_tokens=chunk.tokens)


def check(config: Recipe) -> None:
    """Refuse an overlap as long as the chunks."""
    raw: RawRecipe = config.raw
    tokens = raw.chunk_tokens or (0 if raw.pack else _DEFAULT_TOKENS)
    if tokens and raw.overlap_tokens >= tokens:
        raise ValueError("overlap_tokens: must be less than the tokens of a chunk")


class _Paths:
    """Knows under which headings a character of a stream of texts stands."""

    def __init__(self) -> None:
        self._starts: deque[tuple[int, tuple[str, ...]]] = deque()

    def noted(self, found: Iterable[Text], *, headings: bool) -> Iterator[tuple[str, Place]]:
        """Yield the pieces of texts, each line ended; with `headings`, new ones before them."""
        position = 0
        before: tuple[str, ...] = ()
        for text in found:
            if position:
                position += 1
                yield "\n", NOWHERE
            path = text.heading_path
            self._starts.append((position, path))
            titles = path[_shared(before, path) :] if headings else ()
            for piece in with_breaks(chain(((title, NOWHERE) for title in titles), text.lines())):
                position += len(piece[0])
                yield piece
            before = path

    def at(self, position: int) -> tuple[str, ...]:
        """Return the headings above a position; positions come in order."""
        while len(self._starts) > 1 and self._starts[1][0] <= position:
            self._starts.popleft()
        return self._starts[0][1]


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Return how many headings two paths have in common."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


KIND = Kind(make_rows, check, lambda config: Shape.TEXT)
