import io
import zipfile
from pathlib import Path

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from luthier.dataset.v1.dataset_pb2 import DatasetSource
from luthier_common.errors import FailedPrecondition, InvalidArgument
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_dataset.documents import Document, Documents, ReaderLimits
from luthier_dataset.readers.section import Section


class Shelf:
    """Documents over a real store, read by real child processes."""

    def __init__(self, folder: Path) -> None:
        self.blobs = Blobs(DirectoryObjects(folder / "objects"))
        self.scratch = folder / "scratch"

    async def read(self, name: str, data: bytes, limits: ReaderLimits | None = None) -> Document:
        blob = await self.blobs.put_bytes("acme", data)
        source = DatasetSource(
            file="projects/acme/files/file-1",
            display_name=name,
            sha256=blob.sha256,
            size_bytes=blob.size,
        )
        return await Documents(self.blobs, self.scratch, limits).read(source)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def handbook() -> bytes:
    document = docx.Document()
    document.add_paragraph("Before any heading stands this.")
    document.add_heading("Handbook", level=0)
    document.add_heading("Leave", level=1)
    document.add_heading("Annual leave", level=2)
    document.add_paragraph("Staff get 24 days. Dr. Velkis\napproves them.")
    document.add_paragraph("Ask early.", style="List Bullet")
    document.add_heading("Empty", level=2)
    document.add_heading("Pay", level=1)
    table = document.add_table(rows=2, cols=3)
    for cell, text in zip(table.rows[0].cells, ("Grade", "Pay", ""), strict=True):
        cell.text = text
    table.cell(1, 0).merge(table.cell(1, 1)).text = "All grades"
    table.cell(1, 2).text = "900 crowns"
    return saved(document)


def saved(document: object) -> bytes:
    data = io.BytesIO()
    document.save(data)  # type: ignore[attr-defined]
    return data.getvalue()


async def test_a_word_document_becomes_sections(shelf: Shelf) -> None:
    document = await shelf.read("Handbook 3.docx", handbook())
    assert document.title == "Handbook 3"
    assert document.sections == (
        Section((), "Before any heading stands this.", ("Before any heading stands this.",)),
        Section(
            ("Handbook", "Leave", "Annual leave"),
            "Staff get 24 days. Dr. Velkis approves them.\n- Ask early.",
            ("Staff get 24 days.", "Dr. Velkis approves them.", "Ask early."),
        ),
        Section(
            ("Handbook", "Pay"),
            "Grade | Pay\nAll grades | 900 crowns",
            ("Grade | Pay", "All grades | 900 crowns"),
        ),
    )


async def test_a_home_made_heading_style_counts_by_its_outline_level(shelf: Shelf) -> None:
    document = docx.Document()
    style = document.styles.add_style("Kapitel", WD_STYLE_TYPE.PARAGRAPH)
    level = OxmlElement("w:outlineLvl")
    level.set(qn("w:val"), "0")
    style.element.get_or_add_pPr().append(level)
    document.add_paragraph("Urlaub", style="Kapitel")
    document.add_paragraph("Es gibt 24 Tage.")
    read = await shelf.read("a.docx", saved(document))
    assert read.sections == (Section(("Urlaub",), "Es gibt 24 Tage.", ("Es gibt 24 Tage.",)),)


MARKDOWN = """\
---
title: not text
---
# Policy

Refunds take **52 days**.
See [the *site*](http://x).

## Rules
- Lock `screens`.
- Keep
  backups.

| What | How long |
|------|----------|
| Keys | 9 months |

```
code = "is kept. As it is"
```

# Contacts
Call 5211.
"""


async def test_markdown_becomes_sections(shelf: Shelf) -> None:
    document = await shelf.read("policy.md", b"\xef\xbb\xbf" + MARKDOWN.encode())
    assert [(section.heading_path, section.text) for section in document.sections] == [
        (("Policy",), "Refunds take 52 days. See the site."),
        (
            ("Policy", "Rules"),
            "- Lock screens.\n- Keep backups.\nWhat | How long\nKeys | 9 months\n"
            'code = "is kept. As it is"',
        ),
        (("Contacts",), "Call 5211."),
    ]
    assert document.sections[1].statements == (
        "Lock screens.",
        "Keep backups.",
        "What | How long",
        "Keys | 9 months",
    )


async def test_plain_text_is_one_section(shelf: Shelf) -> None:
    document = await shelf.read("notes.TXT", b"One\r\nline. Two.\r\n\r\nThree.")
    assert document.sections == (
        Section((), "One line. Two.\nThree.", ("One line.", "Two.", "Three.")),
    )


def archive(*members: tuple[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members:
            written.writestr(name, content)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.docx", b"# Markdown under a false name", "not a Word document"),
        ("a.docx", handbook()[:-100], "not a Word document"),
        ("a.docx", archive(("hello.txt", b"hi")), "a ZIP archive but not a Word document"),
        ("a.docx", archive(("word/document.xml", b"<w:doc")), "not a sound Word document"),
        ("a.docx", saved(docx.Document()), "contains no text"),
        ("a.md", handbook(), "not UTF-8 text"),
        ("a.md", b"text\0text", "not text"),
        ("a.md", b" \n\n# \n", "contains no text"),
        ("a.txt", b"\n \n", "contains no text"),
        ("a.txt", "naïve".encode("latin-1"), r"not UTF-8 text \(byte 3\)"),
    ],
)
async def test_a_file_that_is_not_what_it_claims_is_refused(
    shelf: Shelf, name: str, data: bytes, why: str
) -> None:
    with pytest.raises(FailedPrecondition, match=why) as caught:
        await shelf.read(name, data)
    assert caught.value.message.startswith(f"{name} (projects/acme/files/file-1) cannot be read: ")
    assert list(shelf.scratch.iterdir()) == []


@pytest.mark.parametrize("name", ["a.pdf", "docx", "a.doc", "a"])
async def test_a_type_without_a_reader_is_refused(shelf: Shelf, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\.docx, \.markdown, \.md, \.txt"):
        await shelf.read(name, b"x")


async def test_a_zip_bomb_is_refused_unopened(shelf: Shelf) -> None:
    bomb = archive(("word/document.xml", bytes(300 * 1024 * 1024)))
    assert len(bomb) < 1024 * 1024
    with pytest.raises(FailedPrecondition, match="unpacks to 314572800 bytes"):
        await shelf.read("a.docx", bomb)


LABORIOUS = b"[x](y) *z* `w` A fact. " * 200_000
LIMIT = "used more memory or time"


@pytest.mark.parametrize(
    ("data", "limits", "why"),
    [
        (b"A fact.", ReaderLimits(wall_seconds=0.01), "took longer than 0 seconds"),
        (LABORIOUS, ReaderLimits(cpu_seconds=1), LIMIT),
        (LABORIOUS, ReaderLimits(memory_bytes=64 * 1024 * 1024), LIMIT),
        (b"A fact. " * 1000, ReaderLimits(output_bytes=1000), LIMIT),
    ],
)
async def test_a_reader_beyond_its_limits_is_ended(
    shelf: Shelf, data: bytes, limits: ReaderLimits, why: str
) -> None:
    with pytest.raises(FailedPrecondition, match=why):
        await shelf.read("a.md", data, limits)
    assert list(shelf.scratch.iterdir()) == []


async def test_a_document_may_be_too_large(shelf: Shelf) -> None:
    with pytest.raises(InvalidArgument, match="may have 3 at most"):
        await shelf.read("a.txt", b"four", ReaderLimits(document_bytes=3))


async def test_a_reader_gets_no_secret(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The child imports sitecustomize from PYTHONPATH: it stands for whatever a parser might do.
    spy = tmp_path / "spy"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(
        "import os, sys, pathlib\n"
        f"pathlib.Path({str(spy / 'seen')!r}).write_text('\\n'.join(os.environ))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(spy))
    monkeypatch.setenv("LUTHIER_IDENTITY_SECRET", "s" * 32)
    await shelf.read("a.txt", b"A fact.")
    seen = (spy / "seen").read_text().split("\n")
    assert "PYTHONPATH" in seen
    assert not [name for name in seen if name.startswith("LUTHIER_")]
