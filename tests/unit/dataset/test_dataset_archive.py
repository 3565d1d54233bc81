import contextlib
import io
import os
import random
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from luthier_dataset.readers import archive, members
from luthier_dataset.readers.archive import MAX_REMARKS, read_archive
from luthier_dataset.readers.items import CodeFile, Item, Place, Remark, UnreadableDocument, dump

from tests.support import hostile_archives
from tests.support.hostile_archives import ARCHIVES, GOOD, Entry, gz, tar_file, tar_of, zip_of

FILES = {
    "lib/z.py": b"def z():\n    pass\n",
    "README.md": b"# Read me\n",
    "lib/Stack.java": b"class Stack { void push() { } }\n",
    "lib-x/b.go": b"package b\nfunc B() {}\n",
    "lib/été.rb": b"def ete\nend\n",
}
SORTED = ["README.md", "lib-x/b.go", "lib/Stack.java", "lib/z.py", "lib/été.rb"]
Pack = Callable[[Path, dict[str, bytes]], Path]


def pack_zip(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "made.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return path


def pack_tar(folder: Path, files: dict[str, bytes]) -> Path:
    return _pack_tar(folder / "made.tar", "w", files)


def pack_tar_gz(folder: Path, files: dict[str, bytes]) -> Path:
    return _pack_tar(folder / "made.tar.gz", "w:gz", files)


def _pack_tar(path: Path, mode: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


PACKS = pytest.mark.parametrize("pack", [pack_zip, pack_tar, pack_tar_gz])


def files_of(items: Sequence[Item]) -> dict[str, CodeFile]:
    return {item.path: item for item in items if isinstance(item, CodeFile)}


def details(items: Sequence[Item]) -> list[str]:
    return [item.detail for item in items if isinstance(item, Remark)]


def read_bytes(folder: Path, data: bytes) -> list[Item]:
    path = folder / "archive"
    path.write_bytes(data)
    return list(read_archive(path))


@PACKS
def test_files_come_sorted_with_their_units_and_places(tmp_path: Path, pack: Pack) -> None:
    items = list(read_archive(pack(tmp_path, FILES)))
    found = files_of(items)
    assert list(found) == SORTED
    assert len(items) == len(SORTED)
    assert {path: file.language for path, file in found.items()} == {
        "README.md": "",
        "lib-x/b.go": "go",
        "lib/Stack.java": "java",
        "lib/z.py": "python",
        "lib/été.rb": "ruby",
    }
    push = found["lib/Stack.java"].units[1]
    assert (push.kind, push.name) == ("method", "Stack.push")
    assert push.place == Place("lib/Stack.java", 0, 0, 1, 1, 14, 29)
    for path, file in found.items():
        assert file.place == Place(path, 0, 0, 1, FILES[path].count(b"\n"), 0, len(FILES[path]))
        for unit in file.units:
            assert unit.source.encode() == FILES[path][unit.place.start : unit.place.end]


@PACKS
def test_the_order_of_the_archive_does_not_matter(tmp_path: Path, pack: Pack) -> None:
    first = list(read_archive(pack(tmp_path, FILES)))
    assert first == list(read_archive(pack(tmp_path, dict(reversed(FILES.items())))))


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
def test_archives_made_by_git_are_read(tmp_path: Path, kind: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.py").symlink_to("lib/z.py")
    for command in (
        ["init", "-q"],
        ["add", "."],
        [*identity, "commit", "-qm", "x"],
        ["archive", f"--format={kind}", "--prefix=top/", "-o", f"made.{kind}", "HEAD"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, env={**os.environ, "HOME": "/"})
    items = list(read_archive(tmp_path / f"made.{kind}"))
    assert list(files_of(items)) == [f"top/{name}" for name in SORTED]
    assert details(items) == ["top/link.py is left out: it is a link"]


@PACKS
def test_what_others_or_machines_made_is_left_out_and_counted(tmp_path: Path, pack: Pack) -> None:
    left_out = {
        "a/node_modules/x/index.js": b"x",
        "a/node_modules/y/index.js": b"x",
        "vendor/x.go": b"x",
        "web/app.min.js": b"x",
        "yarn.lock": b"x",
        "logo.png": b"\x89PNG\r\n\0\0",
        "odd.bin": b"\x01\xff",
    }
    items = list(read_archive(pack(tmp_path, {"src/vendor.py": b"x = 1\n", **left_out})))
    assert list(files_of(items)) == ["src/vendor.py"]
    assert items[1:] == [
        Remark(
            "skipped_member",
            "files left out because others or a machine made them (5): "
            "node_modules (2), vendor (1), minified files (1), lock files (1)",
        ),
        Remark("skipped_member", "binary files left out: 2"),
    ]


@PACKS
def test_large_members_and_archives_inside_are_named(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_SOURCE_BYTES", 999)
    large = b"x" * 1000
    items = list(read_archive(pack(tmp_path, {"a.py": b"", "b.sql": large, "c.jar": b"PK"})))
    assert details(items) == [
        "b.sql is left out: it has more than 999 bytes",
        "c.jar is left out: archives inside archives are not opened",
    ]
    assert isinstance(items[1], Remark)
    assert items[1].place == Place("b.sql")


def test_many_remarks_become_a_count(tmp_path: Path) -> None:
    many = [Entry(b"../%d.py" % number) for number in range(MAX_REMARKS + 20)]
    broken = [Entry(b"%d.py" % number, crc=number) for number in range(30)]
    found = details(read_bytes(tmp_path, zip_of([*many, *broken])))
    assert len(found) == MAX_REMARKS + 2
    assert found[-2:] == [
        "30 more members are left out: it is damaged",
        "20 more members are left out: its name leads out of the archive",
    ]


def test_of_members_of_one_name_the_last_is_read(tmp_path: Path) -> None:
    for data in (
        zip_of([Entry(b"a.py", b"one = 1\n"), Entry(b"a.py", b"two = 2\n")]),
        tar_of(tar_file(b"a.py", b"one = 1\n"), tar_file(b"a.py", b"two = 2\n")),
    ):
        items = read_bytes(tmp_path, data)
        assert files_of(items)["a.py"].text == "two = 2\n"
        assert details(items) == [
            "a.py is left out: several members have this name; the last one is read"
        ]


def test_an_archive_without_text_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableDocument, match=r"holds no text .*: a.py is left out: it is a link"
    ):
        read_bytes(tmp_path, hostile_archives.header(b"a.py", kind=b"2") + bytes(1024))
    with pytest.raises(UnreadableDocument, match=r"holds no text that can be read$"):
        list(read_archive(pack_zip(tmp_path, {})))


def test_limits_count_what_is_really_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{number}.py": random.Random(number).randbytes(50_000) for number in range(4)}
    texts = {name: data.hex().encode() for name, data in files.items()}
    monkeypatch.setattr(members, "MAX_UNPACKED_BYTES", 300_000)
    for pack in (pack_zip, pack_tar_gz):
        with pytest.raises(UnreadableDocument, match="unpacks to more than 300000 bytes"):
            list(read_archive(pack(tmp_path, texts)))
    monkeypatch.setattr(members, "MAX_UNPACKED_BYTES", 10**9)
    monkeypatch.setattr(members, "MAX_HELD_BYTES", 100_000)
    with pytest.raises(UnreadableDocument, match="as a ZIP archive it can be read"):
        list(read_archive(pack_tar_gz(tmp_path, texts)))
    assert len(list(read_archive(pack_zip(tmp_path, texts)))) == 4
    monkeypatch.setattr(members, "MAX_HELD_BYTES", 10**9)
    monkeypatch.setattr(members, "MAX_MEMBERS", 3)
    for pack in (pack_zip, pack_tar_gz):
        with pytest.raises(UnreadableDocument, match="more than 3 members"):
            list(read_archive(pack(tmp_path, texts)))


def test_nothing_is_written_and_the_first_file_comes_before_the_last_is_read(
    tmp_path: Path,
) -> None:
    path = pack_zip(tmp_path, FILES)
    before = sorted(tmp_path.rglob("*"))
    items = read_archive(path)
    assert isinstance(next(items), CodeFile)
    assert sorted(tmp_path.rglob("*")) == before
    items.close()  # type: ignore[attr-defined]


def test_there_are_enough_hostile_archives() -> None:
    assert len(ARCHIVES) >= 70
    assert len({case.kind for case in ARCHIVES.values()}) >= 10


SLOW = ("bomb", "many", "source", "pax")
"""Large to write or slow to read; the tests of the reader's process have them all."""


@pytest.mark.parametrize("name", [name for name in ARCHIVES if not name.startswith(SLOW)])
def test_a_hostile_archive_is_refused_or_read_without_its_bad_members(
    name: str, tmp_path: Path
) -> None:
    case = ARCHIVES[name]
    path = tmp_path / "archive"
    case.write(path)
    started = time.process_time()
    if case.refused:
        with pytest.raises(UnreadableDocument, match=r"^(it|its|a) "):
            list(read_archive(path))
    else:
        items = list(read_archive(path))
        assert files_of(items)[GOOD[0]].text == GOOD[1].decode()
        for item in items:
            assert b"root:" not in dump(item)
            if isinstance(item, Remark):
                assert item.detail.isprintable()
    assert time.process_time() - started < 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"plain text", "no sound ZIP or TAR archive"),
        (b"BZh9" + bytes(100), "no sound ZIP or TAR archive"),
        (gz(b"plain text"), "no sound ZIP or TAR archive"),
        (tar_of(tar_file(b"b.py"))[:2_100], "cut short behind 'b.py'"),
        (tar_of(end=b"\1" * 512), "cut short behind 'src/good.py'"),
        (b"PK\x03\x04", "not a sound ZIP archive"),
    ],
)
def test_what_is_broken_is_refused_with_the_place(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read_bytes(tmp_path, data)


def test_any_cut_or_flipped_byte_is_refused_or_read(tmp_path: Path) -> None:
    chance = random.Random(5)
    for pack in (pack_zip, pack_tar, pack_tar_gz):
        sound = pack(tmp_path, FILES).read_bytes()
        for _ in range(60):
            data = bytearray(sound[: chance.choice([len(sound), chance.randrange(len(sound))])])
            for _ in range(chance.randrange(4)):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
            # Anything else than these items or this error would end the test.
            with contextlib.suppress(UnreadableDocument):
                assert files_of(read_bytes(tmp_path, bytes(data)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: hostile_archives.text_bombs(12), "unpacks to more than 40 times its size"),
        (lambda: hostile_archives.zeros(80), "unpacks to more than 40 times its size"),
        (
            lambda: gz(hostile_archives.header(b"p", 80 << 20, b"x")) + hostile_archives.zeros(80),
            "header in it has more",
        ),
        (lambda: hostile_archives.zip_directory(101_000), "more than 100000 members"),
        (lambda: hostile_archives.zip_directory(700_000), "directory has more than"),
    ],
)
def test_bombs_are_refused_early(tmp_path: Path, data: Callable[[], bytes], why: str) -> None:
    path = tmp_path / "archive"
    path.write_bytes(data())
    with pytest.raises(UnreadableDocument, match=why):
        list(read_archive(path))
