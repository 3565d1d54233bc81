import contextlib
import io
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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
from luthier_dataset.readers.slides import read_slides
from pptx import Presentation
from pptx.oxml import parse_xml
from pptx.oxml.ns import nsdecls
from pptx.util import Inches

from tests.support.hostile_documents import hostile_presentations, presentation, with_doctype

Read = Callable[[Any], list[Section]]
TITLE_SLIDE, TITLE_AND_CONTENT, TITLE_ONLY, BLANK = 0, 1, 5, 6


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_deck(deck: Any) -> list[Section]:
        path = tmp_path / "document"
        if isinstance(deck, bytes):
            path.write_bytes(deck)
        else:
            data = io.BytesIO()
            deck.save(data)
            path.write_bytes(data.getvalue())
        return list(read_slides(path))  # type: ignore[arg-type]

    return read_deck


def add_slide(deck: Any, layout: int, title: str = "", body: str = "") -> Any:
    slide = deck.slides.add_slide(deck.slide_layouts[layout])
    if title:
        slide.shapes.title.text = title
    if body:
        slide.placeholders[1].text = body
    return slide


def box(shapes: Any, text: str) -> Any:
    shape = shapes.add_textbox(0, 0, Inches(1), Inches(1))
    shape.text_frame.text = text
    return shape


def outline_of(sections: list[Section]) -> list[tuple[tuple[str, ...], list[str]]]:
    return [
        (section.heading_path, [block_text(block) for block in section.blocks])
        for section in sections
    ]


def test_each_slide_is_a_section_under_the_title(read: Read) -> None:
    deck = Presentation()
    add_slide(deck, TITLE_SLIDE, "Handbook", "For all staff")
    add_slide(deck, TITLE_AND_CONTENT, "Leave", "24 days a year.\nAsk\vearly.")
    add_slide(deck, TITLE_AND_CONTENT, "Empty")
    box(add_slide(deck, BLANK).shapes, "No title here.")
    sections = read(deck)
    assert outline_of(sections) == [
        (("Handbook",), ["For all staff"]),
        (("Handbook", "Leave"), ["- 24 days a year.", "- Ask early."]),
        (("Handbook",), ["No title here."]),
    ]
    assert [section.place.page for section in sections] == [1, 2, 4]


def test_without_a_title_slide_slides_stand_alone(read: Read) -> None:
    deck = Presentation()
    add_slide(deck, TITLE_AND_CONTENT, "Leave", "24 days.")
    add_slide(deck, TITLE_SLIDE, "Pay", "900 crowns")
    assert outline_of(read(deck)) == [(("Leave",), ["- 24 days."]), (("Pay",), ["900 crowns"])]


def test_a_block_has_its_slide_and_its_range_in_the_text_read(read: Read) -> None:
    deck = Presentation()
    add_slide(deck, TITLE_AND_CONTENT, "Zürich", "Naïve.")
    slide = add_slide(deck, TITLE_ONLY, "Ü")
    box(slide.shapes, "Ende.")
    blocks = [block for section in read(deck) for block in section.blocks]
    assert blocks == [
        Block(BlockKind.BULLET, "Naïve.", Place(page=1, last_page=1, start=8, end=15)),
        Block(BlockKind.PARAGRAPH, "Ende.", Place(page=2, last_page=2, start=19, end=24)),
    ]
    text = "Zürich\nNaïve.\nÜ\nEnde.\n".encode()
    assert [text[block.place.start : block.place.end].decode() for block in blocks] == [
        "Naïve.",
        "Ende.",
    ]


def test_tables_groups_and_notes(read: Read) -> None:
    deck = Presentation()
    slide = add_slide(deck, TITLE_ONLY, "Pay")
    group = slide.shapes.add_group_shape()
    box(group.shapes, "In a group.")
    box(group.shapes.add_group_shape().shapes, "Deeper.")
    table = slide.shapes.add_table(2, 2, 0, 0, Inches(2), Inches(1)).table
    table.cell(0, 0).text = "Grade"
    table.cell(0, 1).text = "Pay"
    table.cell(1, 0).merge(table.cell(1, 1))
    table.cell(1, 0).text = "All grades"
    slide.notes_slide.notes_text_frame.text = "Say this slowly."
    box(slide.shapes, "Last shape.")
    (section,) = read(deck)
    assert [block_text(block) for block in section.blocks] == [
        "In a group.",
        "Deeper.",
        "Grade | Pay",
        "All grades",
        "Last shape.",
        "Say this slowly.",
    ]
    assert section.blocks[2].kind is BlockKind.TABLE_ROW


def test_bullets_are_what_the_paragraph_says(read: Read) -> None:
    deck = Presentation()
    slide = add_slide(deck, TITLE_AND_CONTENT, "List", "Plain.\nBulleted.")
    frame = slide.placeholders[1].text_frame
    frame.paragraphs[1].level = 1
    frame.paragraphs[0]._p.get_or_add_pPr().insert(0, element("a:buNone"))
    paragraph = box(slide.shapes, "Numbered.").text_frame.paragraphs[0]
    paragraph._p.get_or_add_pPr().insert(0, element("a:buAutoNum"))
    (section,) = read(deck)
    assert section.text == "Plain.\n- Bulleted.\n- Numbered."


def element(tag: str) -> Any:
    kind = ' type="arabicPeriod"' if tag == "a:buAutoNum" else ""
    return parse_xml(f"<{tag} {nsdecls('a')}{kind}/>")


def test_slide_numbers_and_footers_are_left_out(read: Read) -> None:
    deck = Presentation()
    slide = add_slide(deck, TITLE_AND_CONTENT, "Leave", "24 days.")
    for kind in ("dt", "ftr", "sldNum"):
        shape = box(slide.shapes, f"A {kind}")
        properties = shape._element.nvSpPr.nvPr
        properties._add_ph().set("type", kind)
    assert outline_of(read(deck)) == [(("Leave",), ["- 24 days."])]


HOSTILE = hostile_presentations()
MAIN, SLIDE = "ppt/presentation.xml", "ppt/slides/slide1.xml"
DAMAGED = r"not a sound PowerPoint presentation \(PPTX\): its part {} is "
REFUSED = {
    "empty": r"it is not a PowerPoint presentation \(PPTX\)",
    "text under a false name": r"it is not a PowerPoint presentation \(PPTX\)",
    "cut": r"it is not a PowerPoint presentation \(PPTX\)",
    "another archive": "a ZIP archive but not a PowerPoint presentation",
    "compound file": "encrypted with a password, or of a format older",
    "encrypted part": "is encrypted with a password",
    "unknown compression": "Content_Types].xml is damaged",
    "wrong checksum": "Content_Types].xml is damaged",
    "main part of 300 MB": r"unpacks to 31\d{7} bytes in 38 parts",
    "main part of 60 MB": "presentation.xml unpacks to 62914567 bytes; 50331648 are the most",
    "20,000 parts": "in 20038 parts",
    "part larger than it says": DAMAGED.format(MAIN) + "damaged",
    "broken XML": DAMAGED.format(MAIN) + r"not sound XML \(line 1\)",
    "NUL in XML": DAMAGED.format(MAIN) + r"not sound XML \(line 2\)",
    "no content types": "a part is missing or not as it should be",
    "entities": DAMAGED.format(MAIN) + "not sound XML",
    "external entity": f"its part {MAIN} declares a document type",
    "external DTD": f"its part {MAIN} declares a document type",
    "parameter entity": f"its part {MAIN} declares a document type",
    "entities in a slide": DAMAGED.format(SLIDE) + "not sound XML",
    "external entity in a slide": f"its part {SLIDE} declares a document type",
    "broken slide": DAMAGED.format(SLIDE) + "not sound XML",
    "missing slide": "a part is missing or not as it should be",
    "groups nested 5,000 deep": DAMAGED.format(SLIDE) + "not sound XML",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_presentation_is_refused(read: Read, name: str) -> None:
    with pytest.raises(UnreadableDocument, match=REFUSED[name]):
        read(HOSTILE[name])


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in REFUSED])
def test_a_hostile_presentation_is_read_where_it_can_be(read: Read, name: str) -> None:
    expected = [(("Heading",), ["- A readable line."])]
    assert outline_of(read(HOSTILE[name])) == expected == outline_of(read(presentation()))
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
                presentation(), "ppt/slides/slide1.xml", doctype.encode(), b"A readable line."
            )
            with pytest.raises(UnreadableDocument, match="declares a document type"):
                read(data)
        with pytest.raises(BlockingIOError):
            server.accept()


WHOLE = presentation()


@given(at=st.integers(0, len(WHOLE) - 1), noise=st.binary(min_size=1, max_size=40))
@settings(max_examples=50)
def test_whatever_is_damaged_only_the_document_is_refused(at: int, noise: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(WHOLE[:at] + noise + WHOLE[at + len(noise) :])
        file.flush()
        with contextlib.suppress(UnreadableDocument):
            assert list(read_slides(Path(file.name)))
