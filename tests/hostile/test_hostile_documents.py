"""Hostile and broken documents through the real reader processes, as a build reads them.

`make test` reads one document of each kind, `make test-full` all of them.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from luthier.dataset.v1.dataset_pb2 import DatasetSource
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_dataset.documents import Documents
from luthier_dataset.readers.items import Remark, load
from luthier_dataset.readers.job import Reading

from tests.support.hostile_archives import ARCHIVES
from tests.support.hostile_documents import (
    hostile_pdfs,
    hostile_presentations,
    hostile_word_documents,
)
from tests.support.hostile_tables import hostile_tables, huge_tables
from tests.support.hostile_texts import hostile_texts

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Case:
    """A document that means harm."""

    kind: str
    name: str
    file: str
    """Its file name."""
    write: Callable[[Path], object]


def cases() -> Iterator[Case]:
    """Yield every case there is."""
    for suffix, documents in (
        ("pdf", hostile_pdfs()),
        ("docx", hostile_word_documents()),
        ("pptx", hostile_presentations()),
    ):
        for name, data in documents.items():
            yield Case(suffix, name, f"hostile.{suffix}", _writing(data))
    for name, (file, data) in {**hostile_tables(), **hostile_texts()}.items():
        yield Case(name.partition(":")[0], name, file, _writing(data))
    for name, (file, write) in huge_tables().items():
        yield Case("a file of a gigabyte", name, file, write)
    for file, archive in ARCHIVES.items():
        yield Case(archive.kind, file, file, archive.write)


def _writing(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


CASES = list(cases())
SLOW = ("tags: paragraphs that never close", "headers: a million")
"""Cases that do not stand for their kind in a short run."""
KINDS = {case.kind: case for case in reversed(CASES) if case.name not in SLOW}
"""The first case of each kind."""


OUTCOMES = json.loads(Path(__file__).with_name("outcomes.json").read_text(encoding="utf-8"))
"""What becomes of each case: why it is refused, or what is read and remarked. By kind and name."""


def outcome_of(reading: Reading) -> str:
    """Return an outcome, without what a library says in brackets at the end."""
    if reading.unreadable:
        return re.sub(r" \((?:[^()]|\([^()]*\))*\)$", "", reading.unreadable)
    remarks = [f"{count} {code}" for code, count in sorted(reading.remarks.items())]
    return ", ".join([f"{reading.items} items", *remarks])


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(DirectoryObjects(tmp_path / "objects"))


@pytest.fixture
async def documents(blobs: Blobs) -> AsyncIterator[Documents]:
    async with Documents(blobs, readers=1) as opened:
        yield opened


async def read(
    documents: Documents, blobs: Blobs, folder: Path, case: Case
) -> tuple[Reading, Path]:
    """Read a case, as a stored file is read."""
    document = folder / "original"
    case.write(document)
    blob = await blobs.put_file("acme", document)
    document.unlink()
    source = DatasetSource(
        file="projects/acme/files/file-1",
        display_name=case.file,
        sha256=blob.sha256,
        size_bytes=blob.size,
    )
    target = folder / "room" / "items.jsonl"
    target.parent.mkdir()
    return await documents.read(source, target), target


def test_there_are_enough_cases_of_enough_kinds() -> None:
    assert len(CASES) >= 300
    assert len(KINDS) >= 30
    known = {kind: set(names) for kind, names in OUTCOMES.items()}
    assert known == {
        kind: {case.name for case in CASES if case.kind == kind}
        for kind in {case.kind for case in CASES}
    }


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case.kind}-{case.name}",
            marks=() if KINDS[case.kind] is case and case.kind != "a file of a gigabyte"
            else pytest.mark.full,
        )
        for case in CASES
    ],
)  # fmt: skip
async def test_a_hostile_document_is_refused_or_skipped_and_does_no_harm(
    documents: Documents, blobs: Blobs, tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    async with asyncio.timeout(130):
        reading, target = await read(documents, blobs, tmp_path, case)
    assert outcome_of(reading) == OUTCOMES[case.kind][case.name]
    if not reading.unreadable:
        items = [load(line) for line in target.read_bytes().splitlines()]
        assert len(items) == reading.items
        remarks = [item for item in items if isinstance(item, Remark)]
        assert sum(reading.remarks.values()) == len(remarks) < len(items)
    # Nothing is written outside its room.
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written <= {"here", "objects", "room"}
    assert list(here.iterdir()) == []
    assert {path.name for path in target.parent.iterdir()} <= {"items.jsonl"}
    # The reader, or the one after it, goes on.
    good = Case("good", "good", "good.md", _writing(b"# Leave\n\nEveryone gets 24 days.\n"))
    (tmp_path / "good").mkdir()
    afterwards, _ = await read(documents, blobs, tmp_path / "good", good)
    assert (afterwards.unreadable, afterwards.items) == ("", 1)


async def test_a_reader_has_little_memory_no_secrets_and_no_network(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_IDENTITY_SECRET", "not for parsers")
    async with Documents(blobs, readers=1) as documents:
        good = Case("good", "good", "good.md", _writing(b"Everyone gets 24 days.\n"))
        await read(documents, blobs, tmp_path, good)
        (child,) = psutil.Process().children()
        room = Path(f"/proc/{child.pid}")
        limits = {line[:25].strip(): line[25:].split() for line in (room / "limits").open()}
        assert limits["Max address space"][:2] == [str(1024 * MEBIBYTE)] * 2
        assert limits["Max core file size"][0] == "0"
        assert b"LUTHIER_" not in (room / "environ").read_bytes()
        # In a network of its own there is the loopback device at most.
        devices = (room / "net" / "dev").read_text().splitlines()[2:]
        assert [device.split(":")[0].strip() for device in devices] in ([], ["lo"])
