from pathlib import Path

import pytest
from luthier.dataset.v1.dataset_pb2 import DatasetSource
from luthier_common.errors import InvalidArgument
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_dataset.documents import Documents, ReaderLimits, check_source
from luthier_dataset.readers.__main__ import attempt
from luthier_dataset.readers.items import Section, load
from luthier_dataset.readers.job import PART_BYTES, Reading, ReadJob
from luthier_dataset.readers.kinds import Kind

LARGE = b'[{"a": "' + b"x" * 60_000_000 + b'"}]'
LABORIOUS = b"A fact.\n\n" * 1_000_000
POINTS = b"* word\n\n" * 100_000
MEMORY = 120 * 1024 * 1024


class Shelf:
    """Documents over a real store, read by real child processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = Blobs(DirectoryObjects(folder / "objects"))
        self.target = folder / "items.jsonl"

    async def source(self, name: str, data: bytes) -> DatasetSource:
        blob = await self.blobs.put_bytes("acme", data)
        file = "projects/acme/files/file-1"
        return DatasetSource(file=file, display_name=name, sha256=blob.sha256, size_bytes=blob.size)

    async def read(self, name: str, data: bytes, limits: ReaderLimits | None = None) -> Reading:
        async with Documents(self.blobs, readers=1, limits=limits) as documents:
            return await documents.read(await self.source(name, data), self.target)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def named(name: str, size: int = 1, *, training_rows: bool = False) -> DatasetSource:
    return DatasetSource(display_name=name, size_bytes=size, training_rows=training_rows)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.PDF", Kind.PDF),
        ("a.b.docx", Kind.WORD),
        ("src.tar.gz", Kind.ARCHIVE),
        ("src.tgz", Kind.ARCHIVE),
        ("Main.java", Kind.CODE),
        ("a.gz.md", Kind.MARKDOWN),
    ],
)
def test_a_kind_is_told_by_the_name(name: str, kind: Kind) -> None:
    assert check_source(named(name)) is kind


def test_a_training_file_is_rows_whatever_its_name() -> None:
    assert check_source(named("data.txt", training_rows=True)) is Kind.JSONL


@pytest.mark.parametrize("name", ["a.exe", "docx", "a.doc", "a", "a.gz"])
def test_a_type_without_a_reader_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\.docx, .*\.md, .*\.txt"):
        check_source(named(name))


def test_a_document_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="documents may have 5 at most"):
        check_source(named("a.md", 6), ReaderLimits(document_bytes=5))


async def test_items_of_a_document_are_written_with_their_places(shelf: Shelf) -> None:
    reading = await shelf.read("a.md", b"# Leave\n\nEveryone gets 24 days.\n")
    assert reading == Reading(items=1, cuts=(0, shelf.target.stat().st_size))
    section = load(shelf.target.read_bytes())
    assert isinstance(section, Section)
    assert (section.heading_path, section.text) == (("Leave",), "Everyone gets 24 days.")
    assert (section.place.start, section.place.end) == (9, 31)
    assert [path.name for path in shelf.folder.iterdir()] == ["objects", "items.jsonl"]


@pytest.mark.parametrize("name", ["\U0001f600" * 255, "\U0001f600" * 60 + ".txt", "x" * 255])
async def test_a_name_that_no_file_may_have_is_cut(shelf: Shelf, name: str) -> None:
    source = await shelf.source(name, b'{"text": "A fact."}\n')
    source.training_rows = True
    async with Documents(shelf.blobs, readers=1) as documents:
        assert (await documents.read(source, shelf.target)).items == 1


async def test_a_long_document_is_marked_in_parts(shelf: Shelf) -> None:
    reading = await shelf.read("a.txt", b"A fact of some length, no more.\n\n" * 150_000)
    data = shelf.target.read_bytes()
    assert len(reading.cuts) > 3
    for start, end in zip(reading.cuts, reading.cuts[1:], strict=False):
        part = data[start:end]
        assert part.endswith(b"\n")
        assert isinstance(load(part.split(b"\n", 1)[0]), Section)
        assert len(part) < 2 * PART_BYTES
    assert reading.cuts[-1] == len(data)


async def test_remarks_are_counted_and_some_are_shown(shelf: Shelf) -> None:
    reading = await shelf.read("a.jsonl", b'{"a": 1}\n' + b"{no json}\n" * 20)
    assert reading.remarks == {"malformed_row": 20}
    assert [remark.place.line for remark in reading.examples] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "data", "limits", "why"),
    [
        ("a.md", b"A fact.", ReaderLimits(wall_seconds=0.01), "took longer than 0 seconds"),
        ("a.txt", LABORIOUS, ReaderLimits(cpu_seconds=1, seconds_per_mib=0), "1 seconds of"),
        ("a.rst", POINTS, ReaderLimits(memory_bytes=MEMORY), "more than 120 MiB of memory"),
        ("a.json", LARGE, ReaderLimits(memory_bytes=96 * 1024 * 1024), "too many values"),
        (
            "a.md",
            b"A fact. " * 1000,
            ReaderLimits(output_bytes=1000, output_per_byte=0),
            "it unpacks to more than 1,000 bytes of text",
        ),
    ],
)
async def test_a_reader_beyond_its_limits_is_ended(
    shelf: Shelf, name: str, data: bytes, limits: ReaderLimits, why: str
) -> None:
    assert why in (await shelf.read(name, data, limits)).unreadable


async def test_a_reader_that_is_ended_leaves_the_others_alone(shelf: Shelf) -> None:
    limits = ReaderLimits(cpu_seconds=1, seconds_per_mib=0)
    async with Documents(shelf.blobs, readers=1, limits=limits) as documents:
        good = await shelf.source("good.md", b"Everyone gets 24 days.\n")
        bad = await shelf.source("bad.txt", LABORIOUS)
        readings = [await documents.read(one, shelf.target) for one in (good, bad, good)]
    assert [bool(reading.unreadable) for reading in readings] == [False, True, False]


def test_a_full_disk_is_not_the_documents_fault(shelf: Shelf) -> None:
    (shelf.folder / "a.txt").write_bytes(b"A fact.\n\n" * 10_000)
    reading = attempt(
        ReadJob(Kind.TEXT, str(shelf.folder / "a.txt"), "/dev/full", 1_000_000, 1_000_000)
    )
    assert reading == Reading(no_room=True)
