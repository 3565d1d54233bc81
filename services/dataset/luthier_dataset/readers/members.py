"""Opens ZIP and TAR archives: lists their members and reads them, with nothing on disk.

ZIP: PKWARE's APPNOTE. TAR: POSIX.1-2008 pax and GNU tar, bare or in gzip (RFC 1952).
"""

from __future__ import annotations

import codecs
import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self, cast

from luthier_dataset.readers.items import UnreadableDocument

MAX_MEMBERS = 100_000
MAX_UNPACKED_BYTES = 2 * 1024 * 1024 * 1024
"""Most bytes read from an archive; counted as they are read, whatever it declares."""
MAX_HELD_BYTES = 256 * 1024 * 1024
"""Most memory for the texts of a TAR, which are held, compressed anew, until all are known: it
has no list of members, and they are given in the order of their names."""
BINARY = "it is binary"

_MIB = 1024 * 1024
_MAX_DIRECTORY_BYTES = 32 * _MIB
_MAX_HEADER_BYTES = 32 * 1024
_MAX_GLOBAL_HEADERS = 100
_MAX_RATIO = 40
"""What unpacks to more than so many times its size is a bomb, unless it is small."""
_SMALL_BYTES = 64 * _MIB
_CHUNK = 64 * 1024
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Member:
    """What the archive says of a member that is no folder."""

    name: str
    """As it stands; it may hold anything."""
    size: int
    """Bytes, as declared."""
    obstacle: str = ""
    """Why it cannot be read, for instance because it is a link; empty if it can."""


Wants = Callable[[Member], bool]
"""Says whether a member is read; asked once for each, in the order of the archive."""


def members_of(path: Path, wants: Wants) -> Iterator[tuple[str, bytes | str]]:
    """Yield the wanted members, by the bytes of their names: contents, or why there are none.

    Of several members of one name the last one counts. UnreadableDocument: no archive, damaged
    where it matters to all members, or beyond the limits.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        if head in (b"PK\x03\x04", b"PK\x05\x06"):
            yield from _zip_members(file, size, wants)
        elif head.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as packed:
                yield from _tar_members(cast(IO[bytes], packed), size, wants)
        else:
            yield from _tar_members(file, size, wants)


class _Count:
    """Counts the bytes read from an archive; UnreadableDocument if they are too many."""

    def __init__(self, archive_bytes: int) -> None:
        self.bytes = 0
        self._most = max(_SMALL_BYTES, _MAX_RATIO * archive_bytes)

    def add(self, size: int) -> None:
        self.bytes += size
        self.check_total(self.bytes)
        self.check_ratio(self.bytes)

    def check_total(self, size: int) -> None:
        """Refuse an archive of which so many bytes would have to be read."""
        if size > MAX_UNPACKED_BYTES:
            raise UnreadableDocument(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")

    def check_ratio(self, size: int) -> None:
        """Refuse an archive that would unpack to so many bytes if that is beyond reason."""
        if size > self._most:
            raise UnreadableDocument(f"it unpacks to more than {_MAX_RATIO} times its size")


# ZIP


class _ZipFile:
    """A file that zipfile may not read from in large pieces: it reads the directory in one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_DIRECTORY_BYTES:
            raise UnreadableDocument(f"its directory has more than {_MAX_DIRECTORY_BYTES} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _zip_members(file: IO[bytes], size: int, wants: Wants) -> Iterator[tuple[str, bytes | str]]:
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], _ZipFile(file)))
    except UnreadableDocument:
        raise
    except Exception as error:
        # zipfile reports a broken directory as whatever struct, codecs and seek raise.
        raise UnreadableDocument("it is not a sound ZIP archive, or cut short") from error
    with archive:
        listed = archive.infolist()
        _check_count(len(listed))
        _check_overlap(listed)
        chosen = {
            info.filename: info
            for info in listed
            if not info.filename.endswith("/") and wants(_zip_member(info))
        }
        count = _Count(size)
        # Many bombs declare what they are; what is read is counted all the same.
        count.check_ratio(sum(info.file_size for info in chosen.values()))
        for name in sorted(chosen, key=_in_bytes):
            yield name, _unzip(archive, chosen[name], count)


def _zip_member(info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    obstacle = ""
    if info.flag_bits & _ENCRYPTED:
        obstacle = "it is encrypted"
    elif kind == stat.S_IFLNK:
        obstacle = "it is a link"
    elif kind not in (0, stat.S_IFREG):
        obstacle = "it is no regular file"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # bzip2 and LZMA are unpacked by zipfile without a bound on what comes out at once.
        obstacle = "it is compressed by another method than deflate"
    # zipfile ends a name at NUL; the original shows that there was one.
    return Member(info.orig_filename, info.file_size, obstacle)


def _check_overlap(listed: list[zipfile.ZipInfo]) -> None:
    """Refuse members that share bytes: a bomb without recursion (Fifield 2019)."""
    for one, following in pairwise(sorted(listed, key=lambda info: info.header_offset)):
        if one.header_offset + _LOCAL_HEADER_BYTES + one.compress_size > following.header_offset:
            raise UnreadableDocument("its members overlap, as those of a decompression bomb do")


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, count: _Count) -> bytes | str:
    chunks = []
    try:
        with archive.open(info) as member:
            while chunk := member.read(_CHUNK):
                count.add(len(chunk))
                chunks.append(chunk)
                if len(chunks) == 1 and _is_binary(chunk):
                    return BINARY
    except UnreadableDocument:
        raise
    except Exception as error:
        # A wrong checksum, a header that contradicts the directory, bad deflate data …
        return f"it is damaged ({error})"
    data = b"".join(chunks)
    return BINARY if _is_binary(data) else data


# TAR


class _TarFile:
    """What tarfile reads from; bounds what it reads for a header, whose lengths it trusts."""

    def __init__(self, file: IO[bytes], count: _Count) -> None:
        self._file = file
        self._count = count
        self._end = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._count.add(len(data))
        if self._count.bytes > self._end:
            raise UnreadableDocument(f"a header in it has more than {_MAX_HEADER_BYTES} bytes")
        return data

    def allow(self, offset: int) -> None:
        """Let a header be read that begins at an offset; tarfile reads ahead by a chunk."""
        self._end = offset + _MAX_HEADER_BYTES + _CHUNK

    def allow_all(self) -> None:
        """Let the rest be read."""
        self._end = MAX_UNPACKED_BYTES


class _Header(tarfile.TarInfo):
    """A header whose damage is an error; to tarfile alone it is the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error


def _tar_members(file: IO[bytes], size: int, wants: Wants) -> Iterator[tuple[str, bytes | str]]:
    held: dict[str, bytes | str] = {}
    held_bytes = 0
    last = ""
    try:
        for name, data in _tar_contents(file, size, wants):
            held[name] = zlib.compress(data, 1) if isinstance(data, bytes) else data
            last = name
            held_bytes += len(held[name])
            if held_bytes > MAX_HELD_BYTES:
                raise UnreadableDocument(
                    f"its texts have more than {MAX_HELD_BYTES} bytes, compressed; "
                    "as a ZIP archive it can be read"
                )
    except UnreadableDocument:
        raise
    except Exception as error:
        # tarfile, gzip and zlib report damage as ReadError, EOFError, ValueError, zlib.error ...
        what = (
            f"it is damaged or cut short behind {last!a}"
            if last
            else "it is no sound ZIP or TAR archive"
        )
        raise UnreadableDocument(f"{what} ({error})") from error
    for name in sorted(held, key=_in_bytes):
        data = held.pop(name)
        yield name, zlib.decompress(data) if isinstance(data, bytes) else data


def _tar_contents(file: IO[bytes], size: int, wants: Wants) -> Iterator[tuple[str, bytes | str]]:
    """Yield the wanted members in the order of the archive, read once from front to back."""
    count = _Count(size)
    source = _TarFile(file, count)
    source.allow(0)
    with tarfile.open(
        fileobj=cast(IO[bytes], source),
        mode="r|",
        bufsize=_CHUNK,
        tarinfo=_Header,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        number = 0
        while info := archive.next():
            # tarfile would keep all headers.
            archive.members.clear()  # type: ignore[attr-defined]
            number += 1
            _check_count(number)
            if len(archive.pax_headers) > _MAX_GLOBAL_HEADERS:
                raise UnreadableDocument("it has more global headers than any archiver writes")
            # tarfile would go to the next header in small steps, even behind the file's end.
            count.check_total(archive.offset)
            if info.size < 0 or archive.offset < info.offset_data:
                raise UnreadableDocument(f"a member of it claims to have {info.size} bytes")
            source.allow(archive.offset)
            if not info.isdir() and wants(_tar_member(info)):
                yield info.name, _untar(archive, info)
        # The checksum of gzip stands at the end.
        source.allow_all()
        while source.read(_CHUNK):
            pass


def _tar_member(info: tarfile.TarInfo) -> Member:
    obstacle = ""
    if info.issym() or info.islnk():
        obstacle = "it is a link"
    elif not info.isreg() or info.issparse():
        obstacle = "it is no regular file"
    return Member(info.name, info.size, obstacle)


def _untar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | str:
    member = archive.extractfile(info)
    if member is None:
        raise tarfile.ReadError("a member without contents")
    data = member.read()
    return BINARY if _is_binary(data) else data


# Both


def _check_count(number: int) -> None:
    if number > MAX_MEMBERS:
        raise UnreadableDocument(f"it has more than {MAX_MEMBERS} members")


def _is_binary(data: bytes) -> bool:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return b"\0" in data and not wide


def _in_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
