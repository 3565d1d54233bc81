"""Reads source code: single files here, archives by way of `code_file`."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from luthier_dataset.readers.code.languages import Language, language_of
from luthier_dataset.readers.code.syntax import MAX_PARSED_BYTES, Budget, TooMuchWork
from luthier_dataset.readers.code.text import SourceText
from luthier_dataset.readers.code.units import units_of
from luthier_dataset.readers.encoding import Decoded, Encoding
from luthier_dataset.readers.items import CodeFile, CodeUnit, Place, Remark, UnreadableDocument

MAX_SOURCE_BYTES = 8 * 1024 * 1024
"""The largest file that is read as a source."""
MAX_DOCUMENT_STEPS = 600_000
"""Work on the syntax of all files of a document, see `Budget`: some 100 MiB of common code."""

_WIDE_MARKS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_UNDECODED = re.compile("[\udc80-\udcff]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x19\x1c-\x1f]")


def read_code(path: Path) -> Iterator[CodeFile | Remark]:
    """Yield a source file, its units with it; UnreadableDocument if it is no text or too large."""
    if (size := path.stat().st_size) > MAX_SOURCE_BYTES:
        raise UnreadableDocument(f"it has {size} bytes; a source may have {MAX_SOURCE_BYTES}")
    yield from code_file(path.read_bytes(), path.name, Budget(MAX_DOCUMENT_STEPS))


def code_file(
    data: bytes, path: str, budget: Budget, *, member: str = ""
) -> Iterator[CodeFile | Remark]:
    """Yield a source file, then remarks on it; UnreadableDocument if it is no text.

    Text of no known language is given as such. A file whose syntax cannot be told within the
    limits comes without units.
    """
    decoded = Decoded(data, _encoding(data))
    language = language_of(path, decoded.text)
    units: tuple[CodeUnit, ...] = ()
    reason = ""
    if language:
        source = SourceText(decoded, member)
        try:
            units = _units(language, source, budget)
        except TooMuchWork as error:
            reason = str(error)
    place = Place(
        member=member,
        line=1,
        last_line=1 + decoded.text.count("\n", 0, -1),
        start=decoded.encoding.bom,
        end=len(data),
    )
    yield CodeFile(path, language.name if language else "", decoded.text, units, place)
    if reason:
        yield Remark("skipped_part", f"no functions or classes are taken from it: {reason}", place)
    for remark in decoded.remarks:
        yield Remark(remark.code, remark.detail, place)


def _units(language: Language, source: SourceText, budget: Budget) -> tuple[CodeUnit, ...]:
    if len(source.utf8) > MAX_PARSED_BYTES:
        raise TooMuchWork(f"it is longer than {MAX_PARSED_BYTES} bytes")
    return units_of(language, budget.parse(language, source.utf8), source)


def _encoding(data: bytes) -> Encoding:
    """Return the encoding of a source; UnreadableDocument if it is no text.

    Code is ASCII but for its comments and literals, so beyond UTF-8 little hangs on the guess.
    """
    for mark, name in _WIDE_MARKS:
        if data.startswith(mark):
            return Encoding(name, len(mark))
    bom = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    if (nul := data.find(0)) >= 0:
        raise UnreadableDocument(f"it is not text: byte {nul + 1} is NUL")
    if data.isascii():
        return Encoding("utf-8", bom)
    text = data.decode("utf-8", "surrogateescape")
    bad = len(_UNDECODED.findall(text))
    if bad == 0 or bom or len(text) - len(text.encode("ascii", "ignore")) > 2 * bad:
        return Encoding("utf-8", bom)
    if _CONTROLS.search(text):
        raise UnreadableDocument("it is not text: it has control characters and is not UTF-8")
    return Encoding("cp1252", guessed=True)
