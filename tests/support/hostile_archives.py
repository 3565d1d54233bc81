"""Archives made to harm their reader: `ARCHIVES` by file name, each with what becomes of it."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

GOOD = ("src/good.py", b"def good():\n    return 1\n")
"""A member that is read, whatever stands beside it."""
MIB = 1024 * 1024
DEEP = 100_000


@dataclass(frozen=True)
class Hostile:
    """A hostile archive."""

    kind: str
    write: Callable[[Path], object]
    refused: bool
    """The whole archive is refused; otherwise GOOD is read."""


ARCHIVES: dict[str, Hostile] = {}


def add(kind: str, name: str, content: Callable[[], bytes], *, refused: bool = False) -> None:
    """Add a case; its bytes are made when it is written."""
    if f"{kind}-{name}" in ARCHIVES:
        raise ValueError(f"two cases are called {kind}-{name}")
    write = lambda path: path.write_bytes(content())  # noqa: E731
    ARCHIVES[f"{kind}-{name}"] = Hostile(kind, write, refused)


# ZIP and TAR, written by hand so that they can lie.


@dataclass(frozen=True)
class Entry:
    """A member of a ZIP; None stands for the truth."""

    name: bytes
    data: bytes = b"x = 1\n"
    packed: bytes | None = None
    method: int = 8
    flags: int = 0x800
    mode: int = 0
    size: int | None = None
    crc: int | None = None
    local_name: bytes | None = None
    extra: bytes = b""
    offset: int | None = None


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zip_of(entries: Iterable[Entry], comment: bytes = b"", **lies: int) -> bytes:
    """Return a ZIP with GOOD and these entries; `lies`: count, directory_size, directory_at."""
    body, directory, count = b"", b"", 0
    for entry in [Entry(GOOD[0].encode(), GOOD[1]), *entries]:
        packed = entry.packed
        if packed is None:
            packed = deflate(entry.data) if entry.method == 8 else entry.data
        size = len(entry.data) if entry.size is None else entry.size
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        offset = len(body) if entry.offset is None else entry.offset
        common = struct.pack(
            "<HHHHIII", entry.flags, entry.method, 0, 0x21, crc, len(packed) % 2**32, size % 2**32
        )
        local = entry.name if entry.local_name is None else entry.local_name
        body += b"PK\x03\x04\x14\x00" + common + struct.pack("<HH", len(local), 0) + local + packed
        directory += b"PK\x01\x02\x14\x03\x14\x00" + common
        lengths = (len(entry.name), len(entry.extra), 0, 0, 0, entry.mode << 16, offset % 2**32)
        directory += struct.pack("<HHHHHII", *lengths) + entry.name + entry.extra
        count += 1
    count = lies.get("count", count)
    end = struct.pack(
        "<HHHHIIH",
        *(0, 0, count % 2**16, count % 2**16),
        lies.get("directory_size", len(directory)),
        lies.get("directory_at", len(body)),
        len(comment),
    )
    return body + directory + b"PK\x05\x06" + end + comment


def header(
    name: bytes,
    size: int = 0,
    kind: bytes = b"0",
    *,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    size_field: bytes | None = None,
    checksum: int | None = None,
) -> bytes:
    """Return a TAR header."""
    field = size_field if size_field is not None else b"%011o\0" % size
    numbers = b"0000644\0" + b"0000000\0" * 2 + field.ljust(12, b"\0") + b"0" * 11 + b"\0"
    block = name[:100].ljust(100, b"\0") + numbers + b" " * 8 + kind + link.ljust(100, b"\0")
    block = (block + magic).ljust(512, b"\0")
    number = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % number + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def tar_file(name: bytes, data: bytes = b"x = 1\n", **lies: object) -> bytes:
    return header(name, len(data), **lies) + padded(data)  # type: ignore[arg-type]


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return header(b"pax", len(records), kind) + padded(records)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length += len(str(length)) - len(str(len(body)))
    return str(length).encode() + body


def tar_of(*parts: bytes, end: bytes = bytes(1024)) -> bytes:
    return tar_file(GOOD[0].encode(), GOOD[1]) + b"".join(parts) + end


def gz(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def zeros(mebibytes: int) -> bytes:
    """Return so many MiB of zeros in gzip, which may be put together of several members."""
    return gz(bytes(16 * MIB)) * (mebibytes // 16)


# Names that lead elsewhere, in both formats.

NAMES = {
    "traversal": {
        "up": b"../../etc/passwd.py",
        "inside": b"src/../../evil.py",
        "backslash": b"..\\..\\evil.py",
        "mixed": b"src\\..\\..\\/evil.py",
        "last": b"src/..",
    },
    "absolute": {
        "root": b"/etc/cron.d/evil.sh",
        "double": b"//server/share/evil.sh",
        "backslash": b"\\\\server\\share\\evil.sh",
        "drive": b"C:\\Windows\\evil.py",
        "drive_slash": b"c:/windows/evil.py",
    },
    "name": {
        "newline": b"src/a\nb.py",
        "escape": b"src/\x1b[2Ja.py",
        "bell": b"src/\x07.py",
        "c1": "src/\x9b2J.py".encode(),
    },
}
for kind, names in NAMES.items():
    for label, name in names.items():
        add(kind, f"{label}.zip", partial(zip_of, [Entry(name)]))
        add(kind, f"{label}.tar", partial(tar_of, tar_file(name)))
add("name", "nul.zip", lambda: zip_of([Entry(b"src/a.py\0.png")]))
add("name", "not_utf8.zip", lambda: zip_of([Entry(b"src/\xff\xfe.py")]), refused=True)
add("name", "not_utf8.tar", lambda: tar_of(tar_file(b"src/\xff\xfe.py")))
add("name", "surrogate.tar", lambda: tar_of(tar_file(b"src/\xed\xa0\x80.py")))
add("name", "empty.zip", lambda: zip_of([Entry(b"")]))
add("name", "deep.zip", lambda: zip_of([Entry(b"a/" * 32_000 + b"a.py")]))
add(
    "name",
    "deep.tar",
    lambda: tar_of(pax(record(b"path", b"a/" * 8_000 + b"a.py")), tar_file(b"a")),
)
add(
    "name",
    "long_gnu.tar",
    lambda: tar_of(tar_file(b"././@LongLink", b"a" * 20_000, kind=b"L"), tar_file(b"a")),
)
add(
    "name",
    "twice.zip",
    lambda: zip_of([Entry(b"a.py", b"one = 1\n"), Entry(b"a.py", b"two = 2\n")]),
)
add(
    "name",
    "twice.tar",
    lambda: tar_of(tar_file(b"a.py", b"a = 1\n"), tar_file(b"a.py", b"b = 2\n")),
)

# Links and devices.

for label, mode in {
    "symlink": 0o120777,
    "device": 0o060600,
    "fifo": 0o010600,
    "socket": 0o140600,
}.items():
    add("link", f"{label}.zip", partial(zip_of, [Entry(b"etc.py", b"/etc/passwd", mode=mode)]))
for label, kind_of in {
    "hard": b"1",
    "symlink": b"2",
    "character_device": b"3",
    "block_device": b"4",
    "fifo": b"6",
    "contiguous_unknown": b"Z",
}.items():
    linked = header(b"etc.py", kind=kind_of, link=b"/etc/passwd")
    add("link", f"{label}.tar", partial(tar_of, linked))
add(
    "link",
    "folder_then_through.tar",
    lambda: tar_of(header(b"d", kind=b"2", link=b"/etc"), tar_file(b"d/evil.py")),
)

# Too many members.

add("many", "million.zip", lambda: zip_directory(1_000_000), refused=True)
add("many", "over_the_limit.zip", lambda: zip_directory(120_000), refused=True)
add("many", "million.tar.gz", lambda: gz(header(b"a.py") * 20_000) * 50, refused=True)
add(
    "many",
    "million_links.tar.gz",
    lambda: gz(header(b"a.py", kind=b"2", link=b"b") * 20_000) * 50,
    refused=True,
)
add("many", "links.tar.gz", lambda: gz(tar_of(header(b"a.py", kind=b"2", link=b"b") * 50_000)))


def zip_directory(count: int) -> bytes:
    """Return a ZIP whose directory names one member again and again."""
    once = zip_of([])
    at = once.index(b"PK\x01\x02")
    entry = once[at : once.index(b"PK\x05\x06")]
    end = struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(entry) * count, at, 0)
    return once[:at] + entry * count + b"PK\x05\x06" + end


# Bombs.


def deflated_zeros(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (mebibytes // 16) + b"\x03\x00"


ZIP64 = struct.pack("<HHQ", 1, 8, 10 * 1024 * MIB)
add(
    "bomb",
    "10_gib.zip",
    lambda: zip_of([Entry(b"a.py", b"", deflated_zeros(10_240), size=0xFFFFFFFF, extra=ZIP64)]),
)
add(
    "bomb",
    "10_gib_declared_small.zip",
    lambda: zip_of([Entry(b"a.py", b"x" * 99, deflated_zeros(10_240))]),
)
add(
    "bomb",
    "text.zip",
    lambda: text_bombs(300),
    refused=True,
)
add(
    "bomb",
    "10_gib.tar.gz",
    lambda: gz(tar_of(header(b"a.py", 7 * 1024 * MIB), end=b"")) + zeros(10_240),
    refused=True,
)
add("bomb", "zeros.tar.gz", lambda: zeros(1_024), refused=True)
add("bomb", "behind_the_end.tar.gz", lambda: gz(tar_of()) + zeros(1_024), refused=True)
add(
    "bomb",
    "text.tar.gz",
    lambda: gz(tar_file(b"a.py", b"x = 1234\n" * 800_000)) * 300,
    refused=True,
)
add("bomb", "gzip_in_gzip.tar.gz", lambda: gz(gz(gz(bytes(64 * MIB)))), refused=True)
add("bomb", "lzma.zip", lambda: zip_of([Entry(b"a.py", method=14)]))
add("bomb", "bzip2.zip", lambda: zip_of([Entry(b"a.py", method=12)]))


def text_bombs(count: int) -> bytes:
    """Return a ZIP with so many texts of 8 MiB."""
    data = (b"x = 1234\n" * MIB)[: 8 * MIB]
    packed, crc = deflate(data), zlib.crc32(data)
    names = (b"%d.py" % number for number in range(count))
    return zip_of([Entry(name, b"", packed, size=8 * MIB, crc=crc) for name in names])


# Members over each other, and archives in archives.

add(
    "overlap",
    "same_bytes.zip",
    lambda: zip_of([Entry(b"%d.py" % n, offset=0) for n in range(1000)]),
    refused=True,
)
add(
    "overlap",
    "quoted.zip",
    lambda: zip_of([Entry(b"a.py", b"x" * 1000, method=0), Entry(b"b.py", offset=60)]),
    refused=True,
)
add("overlap", "offset_behind_end.zip", lambda: zip_of([Entry(b"a.py", offset=2**31)]))
add("nested", "zip.zip", lambda: zip_of([Entry(b"inner.zip", zip_of([Entry(b"in.py")]))]))
add("nested", "tar_in_zip.zip", lambda: zip_of([Entry(b"inner.tar.gz", gz(tar_of()))]))
add("nested", "disguised.zip", lambda: zip_of([Entry(b"inner.py", zip_of([]))]))
add("nested", "zip.tar", lambda: tar_of(tar_file(b"inner.zip", zip_of([]))))


# Encrypted, damaged, cut short.

add("encrypted", "one.zip", lambda: zip_of([Entry(b"a.py", flags=0x801)]))
add("encrypted", "strong.zip", lambda: zip_of([Entry(b"a.py", flags=0x841)]))
add("encrypted", "aes.zip", lambda: zip_of([Entry(b"a.py", method=99, flags=0x801)]))
add("damaged", "checksum.zip", lambda: zip_of([Entry(b"a.py", crc=1)]))
add("damaged", "deflate.zip", lambda: zip_of([Entry(b"a.py", packed=b"\xff" * 50)]))
add("damaged", "names_differ.zip", lambda: zip_of([Entry(b"a.py", local_name=b"../b.py")]))
add("damaged", "size_too_large.zip", lambda: zip_of([Entry(b"a.py", size=5_000)]))
add("damaged", "unknown_method.zip", lambda: zip_of([Entry(b"a.py", method=77)]))
add("damaged", "header.tar", lambda: tar_of(header(b"a.py", 6, checksum=1)), refused=True)
add(
    "damaged",
    "checksum.tar.gz",
    lambda: gz(tar_of())[:-8] + b"\1\2\3\4" + gz(tar_of())[-4:],
    refused=True,
)
add("damaged", "garbage.tar.gz", lambda: gz(random.Random(1).randbytes(100_000)), refused=True)
add(
    "damaged",
    "garbage.zip",
    lambda: b"PK\x03\x04" + random.Random(2).randbytes(100_000),
    refused=True,
)
add("damaged", "garbage.tar", lambda: random.Random(3).randbytes(100_000), refused=True)
add("damaged", "empty.tar", lambda: b"", refused=True)
add("damaged", "behind_gzip.tar.gz", lambda: gz(tar_of()) + b"garbage", refused=True)
add(
    "truncated",
    "half.zip",
    lambda: zip_of([Entry(b"a.py", b"x" * 9_999, method=0)])[:5_000],
    refused=True,
)
add("truncated", "half.tar", lambda: tar_of(tar_file(b"a.py", b"x" * 9_999))[:5_000], refused=True)
add("truncated", "in_a_header.tar", lambda: tar_of(tar_file(b"a.py"))[:1_300], refused=True)
add(
    "truncated",
    "half.tar.gz",
    lambda: gz(tar_of(tar_file(b"a.py", random.Random(4).randbytes(9_999))))[:5_000],
    refused=True,
)
add("truncated", "in_the_gzip_header.tar.gz", lambda: gz(tar_of())[:6], refused=True)

# Lies about sizes and places.

add("lie", "comment.zip", lambda: zip_of([], comment=b"PK\x05\x06" + b"c" * 65_000), refused=True)
add("lie", "long_comment.zip", lambda: zip_of([], comment=b"c" * 65_535))
add("lie", "directory_at.zip", lambda: zip_of([], directory_at=2**32 - 2), refused=True)
add("lie", "directory_size.zip", lambda: zip_of([], directory_size=2**31), refused=True)
add("lie", "count.zip", lambda: zip_of([], count=60_000))
add(
    "lie",
    "zip64_size.zip",
    lambda: zip_of([Entry(b"a.py", size=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 2**63))]),
)
add(
    "lie",
    "zip64_short.zip",
    lambda: zip_of([Entry(b"a.py", size=0xFFFFFFFF, extra=b"\1\0\2\0aa")]),
    refused=True,
)
add(
    "lie",
    "zip64_directory.zip",
    lambda: zip64_end(2**62, 2**62),
    refused=True,
)


def zip64_end(size: int, at: int) -> bytes:
    """Return a ZIP whose directory is said to be elsewhere by its ZIP64 records."""
    whole = zip_of([])
    end = whole.index(b"PK\x05\x06")
    record64 = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, size, at)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1)
    last = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    return whole[:end] + record64 + locator + last


add("lie", "huge.tar", lambda: tar_of(header(b"a.py", 8**11 - 1)), refused=True)
add(
    "lie",
    "huge_binary.tar",
    lambda: tar_of(header(b"a.py", size_field=b"\x80" + b"\x7f" * 11)),
    refused=True,
)
add(
    "lie",
    "negative.tar",
    lambda: tar_of(header(b"a.py", size_field=b"\xff" * 11 + b"\x00")),
    refused=True,
)
add("lie", "no_number.tar", lambda: tar_of(header(b"a.py", size_field=b"twelve")), refused=True)
add("sparse", "gnu.tar", lambda: tar_of(sparse_header(), bytes(512)))
add(
    "sparse",
    "pax_1.tar",
    lambda: tar_of(
        pax(
            record(b"GNU.sparse.major", b"1")
            + record(b"GNU.sparse.minor", b"0")
            + record(b"GNU.sparse.realsize", b"9" * 18)
        ),
        tar_file(b"a.py", b"1\n0\n0\n".ljust(512, b"\0")),
    ),
)
add(
    "sparse",
    "pax_1_endless.tar",
    lambda: tar_of(
        pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")),
        tar_file(b"a.py", b"999999999\n" + b"1\n" * 500_000),
    ),
    refused=True,
)
add(
    "sparse",
    "pax_0.tar",
    lambda: tar_of(
        pax(record(b"GNU.sparse.size", b"99") + record(b"GNU.sparse.map", b"0,x")),
        tar_file(b"a.py"),
    ),
    refused=True,
)


def sparse_header() -> bytes:
    """Return the header of an old GNU sparse file of 8 GiB."""
    block = bytearray(header(b"a.py", 0, b"S", magic=b"ustar  \0"))
    block[386:410] = b"%011o\0%011o\0" % (8 * 1024 * MIB - 1, 0)
    block[483:495] = b"%011o\0" % (8 * 1024 * MIB - 1)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


# Headers that are bombs themselves.

add(
    "pax",
    "gibibyte.tar",
    lambda: tar_of(header(b"pax", 1024 * MIB, b"x"), bytes(4 * MIB)),
    refused=True,
)
add(
    "pax",
    "gibibyte.tar.gz",
    lambda: gz(header(b"pax", 1024 * MIB, b"x")) + zeros(1_024),
    refused=True,
)
add(
    "pax",
    "long_name.tar.gz",
    lambda: gz(header(b"l", 1024 * MIB, b"L")) + zeros(1_024),
    refused=True,
)
add(
    "pax",
    "chain.tar",
    lambda: tar_of(pax(record(b"a", b"b")) * 2_000, tar_file(b"a.py")),
    refused=True,
)
add(
    "pax",
    "global.tar.gz",
    lambda: gz(
        tar_of(*(pax(record(b"k%d" % n, b"v"), b"g") + tar_file(b"a.py") for n in range(5_000)))
    ),
    refused=True,
)
add("pax", "digits.tar", lambda: tar_of(pax(b"1" * 16_000), tar_file(b"a.py")))
add("pax", "zero_length.tar", lambda: tar_of(pax(b"0 a=b\n"), tar_file(b"a.py")), refused=True)
add(
    "pax",
    "size.tar",
    lambda: tar_of(pax(record(b"size", b"-1024")), tar_file(b"a.py")),
    refused=True,
)

# Sources made to harm their parser, each beside GOOD.


def zip_with(name: str, source: Callable[[], bytes]) -> bytes:
    return zip_of([Entry(name.encode(), source())])


SOURCES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "brackets": ("a.py", lambda: b"(" * DEEP + b")" * DEEP),
    "braces": ("a.js", lambda: b"{" * DEEP + b"}" * DEEP),
    "functions": ("a.js", lambda: b"function f(){" * 10_000 + b"}" * 10_000),
    "classes": ("A.java", lambda: b"class A{" * 15_000 + b"}" * 15_000),
    "less_than": ("a.cpp", lambda: b"a<" * DEEP),
    "interpolation": ("a.cs", lambda: b'$"{' * 80_000),
    "shell": ("a.sh", lambda: b"${a" * 80_000),
    "comments": ("a.c", lambda: b"/**/" * 60_000 + b"int f(){}"),
    "unclosed_comments": ("a.rs", lambda: b"/*" * DEEP),
    "heredocs": ("a.rb", lambda: b"<<A, " * 50_000),
    "templates": ("a.ts", lambda: b"`${" * 80_000),
    "selects": ("a.sql", lambda: b"select (" * 30_000),
    "indents": ("b.py", lambda: b"".join(b" " * n + b"def f():\n" for n in range(700))),
    "tags": ("a.tsx", lambda: b"<a>" * 80_000),
    "kotlin": ("a.kt", lambda: b'"${' * 80_000),
    "php": ("a.php", lambda: b"<?php " + b"[" * DEEP),
    "go": ("a.go", lambda: b"package a\nvar a = " + b"[" * DEEP),
    "long_line": ("a.js", lambda: b"a=1;" * (2 * MIB) + b"var s=1"),
    "long_name": ("a.c", lambda: b"int " + b"a" * 200_000 + b"(){}"),
    "nuls": ("a.py", lambda: b"x = 1\n" + b"\0" * 10_000),
    "not_utf8": ("a.py", lambda: b"# caf\xe9 \xff\xfe\ndef f(): pass\n"),
    "controls": ("a.py", lambda: b"\x01\x02\xff" * 100),
    "surrogates": ("a.py", lambda: b"# \xed\xa0\x80\ndef f(): pass\n"),
    "utf16": ("a.sql", lambda: "create table a (b int);\n".encode("utf-16")),
    "odd_utf16": ("b.sql", lambda: b"\xff\xfea"),
}
for label, (name_of, source) in SOURCES.items():
    add("source", f"{label}.zip", partial(zip_with, name_of, source))
