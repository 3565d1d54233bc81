import contextlib
import io
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls, qn
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.readers.items import (
    Block,
    BlockKind,
    Place,
    Section,
    UnreadableDocument,
    block_text,
)
from luthier_dataset.readers.word import read_word

from tests.support.hostile_documents import (
    hostile_word_documents,
    repacked,
    with_doctype,
    word_document,
)

Read = Callable[[Any], list[Section]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_document(document: Any) -> list[Section]:
        data = document if isinstance(document, bytes) else saved(document)
        path = tmp_path / "document"
        path.write_bytes(data)
        return list(read_word(path))  # type: ignore[arg-type]

    return read_document


def saved(document: Any) -> bytes:
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


def outline_of(sections: list[Section]) -> list[tuple[tuple[str, ...], list[str]]]:
    return [
        (section.heading_path, [block_text(block) for block in section.blocks])
        for section in sections
    ]


def test_headings_lists_and_tables(read: Read) -> None:
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
    sections = read(document)
    assert outline_of(sections) == [
        ((), ["Before any heading stands this."]),
        (
            ("Handbook", "Leave", "Annual leave"),
            ["Staff get 24 days. Dr. Velkis approves them.", "- Ask early."],
        ),
        (("Handbook", "Pay"), ["Grade | Pay", "All grades | 900 crowns"]),
    ]
    assert [block.kind for block in sections[2].blocks] == [BlockKind.TABLE_ROW] * 2


def test_a_block_has_its_paragraph_and_its_range_in_the_text_read(read: Read) -> None:
    document = docx.Document()
    document.add_heading("Überblick", level=1)
    document.add_paragraph()
    document.add_paragraph("Zürich,  naïve.")
    document.add_table(rows=1, cols=2).cell(0, 1).text = "Zelle"
    document.add_paragraph("Ende.")
    (section,) = read(document)
    text = "Überblick\nZürich, naïve.\nZelle\nEnde.\n".encode()
    assert section.blocks == (
        Block(BlockKind.PARAGRAPH, "Zürich, naïve.", Place(line=3, last_line=3, start=11, end=27)),
        Block(BlockKind.TABLE_ROW, "Zelle", Place(line=4, last_line=4, start=28, end=33)),
        Block(BlockKind.PARAGRAPH, "Ende.", Place(line=6, last_line=6, start=34, end=39)),
    )
    for block in section.blocks:
        assert text[block.place.start : block.place.end].decode() == block.text


def test_headings_by_outline_level_under_any_style_name(read: Read) -> None:
    document = docx.Document()
    base = document.styles.add_style("Kapitel", WD_STYLE_TYPE.PARAGRAPH)
    base.element.get_or_add_pPr().append(outline_level("0"))
    document.styles.add_style("Kapitel neu", WD_STYLE_TYPE.PARAGRAPH).base_style = base
    document.add_paragraph("Urlaub", style="Kapitel neu")
    document.add_paragraph("Direkt")._p.get_or_add_pPr().append(outline_level("1"))
    document.add_paragraph("Es gibt 24 Tage.")
    plain = document.add_paragraph("Nur Text.", style="Kapitel")
    plain._p.get_or_add_pPr().append(outline_level("9"))
    assert outline_of(read(document)) == [(("Urlaub", "Direkt"), ["Es gibt 24 Tage.", "Nur Text."])]


def outline_level(level: str) -> Any:
    element = OxmlElement("w:outlineLvl")
    element.set(qn("w:val"), level)
    return element


def test_nested_and_vertically_merged_cells(read: Read) -> None:
    document = docx.Document()
    table = document.add_table(rows=2, cols=2)
    table.cell(0, 0).merge(table.cell(1, 0)).text = "Grade"
    table.cell(0, 1).text = "One"
    cell = table.cell(1, 1)
    cell.text = "Two"
    cell.add_table(1, 2).cell(0, 1).text = "Inner"
    assert outline_of(read(document)) == [((), ["Grade | One", "Grade | Two", "Inner"])]


PARAGRAPHS = {
    "content control": (
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>Kept.</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        ["Kept."],
    ),
    "tracked change": (
        "<w:p><w:ins><w:r><w:t>New</w:t></w:r></w:ins><w:del><w:r><w:delText>Old</w:delText></w:r>"
        "</w:del><w:moveFrom><w:r><w:t>Gone</w:t></w:r></w:moveFrom><w:r><w:t>.</w:t></w:r></w:p>",
        ["New."],
    ),
    "link and field": (
        "<w:p><w:hyperlink><w:r><w:t>A link</w:t></w:r></w:hyperlink><w:r><w:tab/></w:r>"
        "<w:fldSimple><w:r><w:instrText>PAGE</w:instrText><w:t>here</w:t></w:r></w:fldSimple>"
        "<w:r><w:br/><w:t>non</w:t><w:noBreakHyphen/><w:t>stop</w:t></w:r></w:p>",
        ["A link here non-stop"],
    ),
    "text box": (
        "<w:p><w:r><w:t>Above.</w:t><w:pict><w:txbxContent><w:p><w:r><w:t>In the box.</w:t></w:r>"
        "</w:p></w:txbxContent></w:pict></w:r></w:p>",
        ["Above.", "In the box."],
    ),
    "list item by number": (
        '<w:p><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr><w:r><w:t>In.</w:t></w:r></w:p>'
        '<w:p><w:pPr><w:pStyle w:val="ListBullet"/></w:pPr><w:r><w:t>In too.</w:t></w:r></w:p>'
        '<w:p><w:pPr><w:numPr><w:numId w:val="0"/></w:numPr></w:pPr>'
        "<w:r><w:t>No.</w:t></w:r></w:p>",
        ["- In.", "- In too.", "No."],
    ),
}


@pytest.mark.parametrize("name", PARAGRAPHS)
def test_what_a_paragraph_may_hold(read: Read, name: str) -> None:
    xml, texts = PARAGRAPHS[name]
    document = docx.Document()
    holder = parse_xml(f"<w:body {nsdecls('w')}>{xml}</w:body>")
    for element in list(holder):
        document.element.body.insert(-1, element)
    assert outline_of(read(document)) == [((), texts)]


def test_headers_and_footers_are_left_out(read: Read) -> None:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "On every page"
    document.sections[0].footer.paragraphs[0].text = "Confidential"
    document.add_paragraph("The text.")
    assert outline_of(read(document)) == [((), ["The text."])]


NOTES = (
    f"<w:footnotes {nsdecls('w')}><w:footnote w:type='separator' w:id='0'><w:p/></w:footnote>"
    "<w:footnote w:id='1'><w:p><w:r><w:t>As of May.</w:t></w:r></w:p></w:footnote></w:footnotes>"
)
TYPES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"


def test_a_footnote_follows_its_paragraph(read: Read) -> None:
    document = docx.Document()
    paragraph = document.add_paragraph("Staff get 24 days.")
    reference = OxmlElement("w:footnoteReference")
    reference.set(qn("w:id"), "1")
    paragraph.add_run()._r.append(reference)
    document.add_paragraph("Next.")

    def add_notes(parts: dict[str, bytes]) -> None:
        parts["word/footnotes.xml"] = NOTES.encode()
        link = f'<Relationship Id="rId99" Type="{TYPES}" Target="footnotes.xml"/></Relationships>'
        relations = "word/_rels/document.xml.rels"
        parts[relations] = parts[relations].replace(b"</Relationships>", link.encode())

    data = repacked(saved(document), add_notes)
    assert outline_of(read(data)) == [((), ["Staff get 24 days.", "As of May.", "Next."])]


HOSTILE = hostile_word_documents()
DAMAGED = r"not a sound Word document \(DOCX\): its part {} is "
DOCTYPE = "its part word/document.xml declares a document type"
REFUSED = {
    "empty": r"it is not a Word document \(DOCX\)",
    "text under a false name": r"it is not a Word document \(DOCX\)",
    "cut": r"it is not a Word document \(DOCX\)",
    "another archive": "a ZIP archive but not a Word document",
    "compound file": "encrypted with a password, or of a format older",
    "encrypted part": "is encrypted with a password",
    "unknown compression": "Content_Types].xml is damaged",
    "wrong checksum": "Content_Types].xml is damaged",
    "main part of 300 MB": r"unpacks to 31\d{7} bytes in 17 parts",
    "main part of 60 MB": "word/document.xml unpacks to 62914567 bytes; 50331648 are the most",
    "20,000 parts": "in 20017 parts",
    "part larger than it says": DAMAGED.format("word/document.xml") + "damaged",
    "broken XML": DAMAGED.format("word/document.xml") + r"not sound XML \(line 1\)",
    "NUL in XML": DAMAGED.format("word/document.xml") + r"not sound XML \(line 2\)",
    "no content types": "a part is missing or not as it should be",
    "entities": DAMAGED.format("word/document.xml") + "not sound XML",
    "external entity": DOCTYPE,
    "external DTD": DOCTYPE,
    "parameter entity": DOCTYPE,
    "tables nested 5,000 deep": DAMAGED.format("word/document.xml") + "not sound XML",
    "missing styles": "a part is missing or not as it should be",
    "broken relationships": DAMAGED.format("word/_rels/document.xml.rels") + "not sound XML",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_document_is_refused(read: Read, name: str) -> None:
    with pytest.raises(UnreadableDocument, match=REFUSED[name]):
        read(HOSTILE[name])


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in REFUSED])
def test_a_hostile_document_is_read_where_it_can_be(read: Read, name: str) -> None:
    expected = [(("Heading",), ["A readable line.", "Cell"])]
    assert outline_of(read(HOSTILE[name])) == expected == outline_of(read(word_document()))
    assert not Path("/tmp/luthier-was-here").exists()


def test_nothing_outside_of_the_document_is_read(read: Read, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("A secret line.")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        for doctype in (
            f"<!DOCTYPE a [<!ENTITY l11 SYSTEM '{tmp_path.as_uri()}/secret'>]>",
            f"<!DOCTYPE a [<!ENTITY l11 SYSTEM '{host}/secret'>]>",
            f"<!DOCTYPE a SYSTEM '{host}/a.dtd'>",
            f"<!DOCTYPE a [<!ENTITY % p SYSTEM '{host}/p'> %p;]>",
        ):
            data = with_doctype(
                word_document(), "word/document.xml", doctype.encode(), b"A readable line."
            )
            with pytest.raises(UnreadableDocument, match="declares a document type"):
                read(data)
        with pytest.raises(BlockingIOError):
            server.accept()


WHOLE = word_document()


@given(at=st.integers(0, len(WHOLE) - 1), noise=st.binary(min_size=1, max_size=40))
@settings(max_examples=50)
def test_whatever_is_damaged_only_the_document_is_refused(at: int, noise: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(WHOLE[:at] + noise + WHOLE[at + len(noise) :])
        file.flush()
        with contextlib.suppress(UnreadableDocument):
            assert list(read_word(Path(file.name)))
