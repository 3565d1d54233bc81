"""Checks of Office Open XML containers (ECMA-376), before and after a library reads them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from lxml import etree

from luthier_dataset.readers.items import UnreadableDocument

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_PART_BYTES = 48 * 1024 * 1024
"""Of one XML part: its tree takes some ten times as much memory."""
MAX_PARTS = 10_000
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Begins a compound file: an encrypted document, or one of the formats before 2007."""
_XML = (".xml", ".rels")
_TOO_LARGE = "needs more memory than a reader may use"


def check_container(path: Path, must_have: str, what: str) -> None:
    """Refuse what is no container with the part `must_have`, or unpacks to too much.

    Nothing is unpacked. The sizes that the archive declares bind: zipfile never reads past them.
    """
    with path.open("rb") as file:
        if file.read(len(_OLE)) == _OLE:
            raise UnreadableDocument(
                f"it is encrypted with a password, or of a format older than {what}"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, RuntimeError, OverflowError) as error:
        raise UnreadableDocument(f"it is not {what}") from error
    if must_have not in {member.filename for member in members}:
        raise UnreadableDocument(f"it is a ZIP archive but not {what}")
    _check_sizes(members)
    for member in members:
        if member.flag_bits & 1:
            raise UnreadableDocument(f"its part {member.filename} is encrypted with a password")


def check_no_doctype(element: Any, part: str) -> None:
    """Refuse a parsed part that declares a document type, and so may declare entities.

    The parsers leave entities alone; ECMA-376 (part 2, 6.2.5) forbids such parts altogether.
    """
    if element.getroottree().docinfo.internalDTD is not None:
        raise UnreadableDocument(f"its part {part} declares a document type, which is not allowed")


def unsound(path: Path, what: str) -> UnreadableDocument:
    """Return the refusal of a container that its library could not read, naming the bad part."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if fault := _fault(archive, member):
                return UnreadableDocument(
                    f"it is not a sound {what}: its part {member.filename} {fault}"
                )
    return UnreadableDocument(f"it is not a sound {what}: a part is missing or not as it should be")


def _check_sizes(members: list[zipfile.ZipInfo]) -> None:
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_PARTS or unpacked > MAX_UNPACKED_BYTES:
        raise UnreadableDocument(
            f"it unpacks to {unpacked} bytes in {len(members)} parts; "
            f"{MAX_UNPACKED_BYTES} bytes in {MAX_PARTS} parts are the most"
        )
    for member in members:
        if member.filename.endswith(_XML) and member.file_size > MAX_PART_BYTES:
            raise UnreadableDocument(
                f"its part {member.filename} unpacks to {member.file_size} bytes; "
                f"{MAX_PART_BYTES} are the most"
            )


def _fault(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        data = archive.read(member)
        if member.filename.endswith(_XML):
            etree.fromstring(data, parser)
    except MemoryError:
        return _TOO_LARGE
    except etree.XMLSyntaxError as error:
        if error.code == etree.ErrorTypes.ERR_NO_MEMORY:
            return _TOO_LARGE
        return f"is not sound XML (line {error.lineno})"
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
        return "is damaged"
    return ""
