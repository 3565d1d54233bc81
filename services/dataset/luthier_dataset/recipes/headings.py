"""Recipe `headings`: the heading path asks, the section answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from luthier.dataset.v1.dataset_pb2 import Recipe

from luthier_dataset.documents import Document
from luthier_dataset.recipes.recipe import DUPLICATE, Harvest, Row, Tools
from luthier_dataset.sentences import split_sentences

NAME = "headings"
_DEFAULT_TOKENS = 256
_SEPARATOR = " > "


async def make_rows(config: Recipe, documents: Sequence[Document], tools: Tools) -> Harvest:
    """Return a row for each heading path; several, told apart by ` (2/3)`, for a long text.

    Sections under equal paths, in one document or several, are parts of one text: two rows that
    answer one prompt differently would teach neither.
    """
    most = config.headings.max_section_tokens or _DEFAULT_TOKENS
    by_path: dict[tuple[str, ...], list[_Part]] = {}
    harvest = Harvest()
    for number, document in enumerate(documents, start=1):
        for section in document.sections:
            parts = by_path.setdefault(section.heading_path or (document.title,), [])
            # In a thread: counting tokens of a long text would hold up every call being served.
            texts = await asyncio.to_thread(split_text, section.text, most, tools.count_tokens)
            for text in texts:
                if any(text == part.text for part in parts):
                    harvest.dropped[DUPLICATE] += 1
                else:
                    parts.append(_Part(text, document.file, section.heading_path))
        await tools.progress(number, len(documents))
    for path, parts in by_path.items():
        harvest.rows += _rows(_SEPARATOR.join(path), parts)
    return harvest


@dataclass(frozen=True)
class _Part:
    text: str
    file: str
    heading_path: tuple[str, ...]


def _rows(prompt: str, parts: Sequence[_Part]) -> Iterator[Row]:
    for place, part in enumerate(parts, start=1):
        suffix = f" ({place}/{len(parts)})" if len(parts) > 1 else ""
        yield Row(prompt + suffix, part.text, NAME, part.file, part.heading_path)


def split_text(text: str, most: int, count: Callable[[str], int]) -> list[str]:
    """Return parts of at most `most` tokens, cut between lines, else sentences, else words.

    A single word longer than that stays whole.
    """
    parts: list[str] = []
    part, size = "", 0
    for piece, separator in _pieces(text, most, count):
        # The sum of two counts bounds the count of both together closely enough to pack by,
        # and spares counting a growing text again and again.
        cost = count(piece) + (count(separator) if part else 0)
        if part and size + cost > most:
            parts.append(part)
            part, size = piece, count(piece)
        else:
            part, size = (part + separator + piece if part else piece), size + cost
    return [*parts, part] if part else parts


def _pieces(text: str, most: int, count: Callable[[str], int]) -> Iterator[tuple[str, str]]:
    """Yield pieces that fit, each with what joins it to the one before."""
    for line in text.split("\n"):
        if count(line) <= most:
            yield line, "\n"
            continue
        separator = "\n"
        for sentence in split_sentences(line):
            for piece in [sentence] if count(sentence) <= most else sentence.split():
                yield piece, separator
                separator = " "
