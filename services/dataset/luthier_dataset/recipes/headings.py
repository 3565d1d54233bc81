"""Recipe `headings`: the heading path asks, the section answers."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from tempfile import SpooledTemporaryFile
from typing import IO

import msgspec
from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.chunks import fitting_chunks
from luthier_dataset.recipes.passages import DEFAULT_TOKENS, Part, texts
from luthier_dataset.recipes.recipe import Document, Kind, Origin, Row, Tools, chat_row

NAME = "headings"
DUPLICATE = "duplicate"
_SEPARATOR = " > "
_HELD = 16 * 1024 * 1024
"""Bytes of parts held in memory; those of a longer document wait in a file without a name."""

_Path = tuple[str, ...]
_decoder = msgspec.json.Decoder(Part)


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each heading path; several, told apart by ` (2/3)`, for a long text.

    Sections under equal paths are parts of one text: two rows that answer one prompt differently
    would teach neither. How many parts there are is known only at the end of the document.
    """
    most = config.headings.max_section_tokens or DEFAULT_TOKENS
    with SpooledTemporaryFile(_HELD) as parts:
        starts = _write_parts(document, most, tools, parts)
        tops = {path[0] for path in starts if path}
        for path, places in starts.items():
            # Headings such as `Introduction` ask for one document only with its name in front.
            named = path if path and len(tops) == 1 else (document.title, *path)
            prompt = _SEPARATOR.join(named)
            for number, start in enumerate(places, start=1):
                parts.seek(start)
                part = _decoder.decode(parts.readline())
                suffix = f" ({number}/{len(places)})" if len(places) > 1 else ""
                yield chat_row(prompt + suffix, part.text, Origin(document.file, path, part.place))


def _write_parts(
    document: Document, most: int, tools: Tools, file: IO[bytes]
) -> dict[_Path, array[int]]:
    """Write the parts of a document, one a line; return where those of each path begin.

    Only a digest of each part stays in memory, to know it again.
    """
    starts: dict[_Path, array[int]] = {}
    known: set[bytes] = set()
    for text in texts(document.items()):
        path = text.heading_path
        found = starts.setdefault(path, array("Q"))
        for part, place in fitting_chunks(text.lines(), tools.tokenizer, most):
            key = f"{path!r}{part}".encode("utf-8", "surrogatepass")
            digest = blake2b(key, digest_size=16).digest()
            if digest in known:
                tools.drop(DUPLICATE)
            elif part.strip():
                known.add(digest)
                found.append(file.tell())
                file.write(msgspec.json.encode(Part(part, path, place)) + b"\n")
    return starts


KIND = Kind(make_rows, one_answer=True)
