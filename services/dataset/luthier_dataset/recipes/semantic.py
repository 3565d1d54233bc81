"""Recipe `semantic`: chunks that stand on their own, learned whole."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.cohesion import semantic_chunks
from luthier_dataset.recipes.passages import SEMANTIC_SHARE, texts
from luthier_dataset.recipes.recipe import Document, Kind, Origin, Row, Shape, Tools, text_row

NAME = "semantic"
_DEFAULT_TOKENS = 512


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each stretch of text about one subject."""
    most, least = _limits(config)
    sections = ((text.heading_path, text.blocks) for text in texts(document.items()))
    for chunk in semantic_chunks(sections, tools.tokenizer, most, least):
        yield text_row(chunk.text, Origin(document.file, chunk.heading_path, chunk.place))


def check(config: Recipe) -> None:
    """Refuse chunks that would have to be longer than they may."""
    most, least = _limits(config)
    if least > most // 2:
        raise ValueError("min_tokens: must be at most half of max_tokens")


def _limits(config: Recipe) -> tuple[int, int]:
    most = config.semantic.max_tokens or _DEFAULT_TOKENS
    return most, config.semantic.min_tokens or most // SEMANTIC_SHARE


KIND = Kind(make_rows, check, lambda config: Shape.TEXT)
