import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.readers.items import (
    Block,
    BlockKind,
    Place,
    Remark,
    Section,
    UnreadableDocument,
    block_text,
)
from luthier_dataset.readers.pdf import read_pdf
from luthier_dataset.readers.pdf_layout import find_layout
from luthier_dataset.readers.pdf_lines import Line
from luthier_dataset.readers.pdf_order import in_reading_order
from luthier_dataset.readers.pdf_prose import Prose
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    ListFlowable,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Table,
)

from tests.support.hostile_documents import hostile_pdfs, pdf, stream

STYLES = getSampleStyleSheet()
LONG = "Staff get 24 days of leave in each year and ask for them early, so that work goes on. " * 3


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], list[Section | Remark]]:
    def read_bytes(data: bytes) -> list[Section | Remark]:
        path = tmp_path / "document"
        path.write_bytes(data)
        return list(read_pdf(path))  # type: ignore[arg-type]

    return read_bytes


Read = Callable[[bytes], list[Section | Remark]]


def laid_out(*flowables: object, header: str = "") -> bytes:
    """A document that reportlab lays out, with a header and page numbers if asked."""

    def decorate(canvas: Canvas, document: SimpleDocTemplate) -> None:
        if header:
            canvas.setFont("Helvetica", 8)
            canvas.drawString(72, 810, header)
            canvas.drawRightString(520, 30, f"Page {document.page} of 9")

    data = io.BytesIO()
    document = SimpleDocTemplate(data, pagesize=A4)
    document.build(list(flowables), onFirstPage=decorate, onLaterPages=decorate)
    return data.getvalue()


def drawn(draw: Callable[[Canvas], None]) -> bytes:
    data = io.BytesIO()
    canvas = Canvas(data, pagesize=A4)
    draw(canvas)
    canvas.save()
    return data.getvalue()


def lines(canvas: Canvas, *texts: tuple[str, float, float, str, float]) -> None:
    """Draw `(font, size, x, text, y)` lines."""
    for font, size, x, text, y in texts:
        canvas.setFont(font, size)
        canvas.drawString(x, y, text)


def styled(text: str, style: str) -> Paragraph:
    return Paragraph(text, STYLES[style])


def outline_of(items: list[Section | Remark]) -> list[tuple[tuple[str, ...], list[str]]]:
    return [
        (item.heading_path, [block_text(block) for block in item.blocks])
        for item in items
        if isinstance(item, Section)
    ]


def blocks_of(items: list[Section | Remark]) -> list[Block]:
    return [block for item in items if isinstance(item, Section) for block in item.blocks]


def test_headings_come_from_type_sizes(read: Read) -> None:
    data = laid_out(
        styled("Before any heading stands this.", "BodyText"),
        styled("Leave", "Heading1"),
        styled("Annual leave", "Heading2"),
        styled(LONG, "BodyText"),
        ListFlowable([styled("Ask early.", "BodyText")], bulletType="bullet"),
        styled("Sick leave", "Heading2"),
        styled("Call in the morning.", "BodyText"),
        PageBreak(),
        styled("Pay", "Heading1"),
        Table([["Grade", "Pay"], ["One", "900 crowns"]], colWidths=[120, 120]),
    )
    items = read(data)
    assert outline_of(items) == [
        ((), ["Before any heading stands this."]),
        (("Leave", "Annual leave"), [LONG.strip(), "- Ask early."]),
        (("Leave", "Sick leave"), ["Call in the morning."]),
        (("Pay",), ["Grade | Pay", "One | 900 crowns"]),
    ]
    kinds = [block.kind for block in blocks_of(items)]
    assert kinds[2:] == [BlockKind.BULLET, BlockKind.PARAGRAPH, *[BlockKind.TABLE_ROW] * 2]
    assert [block.place.page for block in blocks_of(items)] == [1, 1, 1, 1, 2, 2]


def test_a_block_has_its_range_in_the_text_read(read: Read) -> None:
    data = laid_out(
        styled("Überblick", "Heading1"),
        styled("Zürich, naïve.", "BodyText"),
        styled("Ends.", "BodyText"),
    )
    text = "Überblick\nZürich, naïve.\nEnds.\n".encode()
    blocks = blocks_of(read(data))
    assert [text[block.place.start : block.place.end].decode() for block in blocks] == [
        "Zürich, naïve.",
        "Ends.",
    ]
    assert blocks[0].place == Place(page=1, last_page=1, start=11, end=27)


def test_numbers_nest_headings_of_one_size(read: Read) -> None:
    body = styled("Some words of text follow here.", "BodyText")
    titles = ["1 Scope", "1.1 Who", "1.1.1 Staff", "1.2 Where", "2. Terms"]
    flow = [part for title in titles for part in (styled(title, "Heading2"), body)]
    assert [path for path, _ in outline_of(read(laid_out(*flow)))] == [
        ("1 Scope",),
        ("1 Scope", "1.1 Who"),
        ("1 Scope", "1.1 Who", "1.1.1 Staff"),
        ("1 Scope", "1.2 Where"),
        ("2. Terms",),
    ]


def test_a_short_bold_line_is_the_deepest_heading(read: Read) -> None:
    data = laid_out(
        styled("Leave", "Heading1"),
        styled("<b>2.3 Scope</b>", "BodyText"),
        styled("<b>Note.</b> A run-in bold word is none, and neither is:", "BodyText"),
        styled("<b>A whole sentence in bold.</b>", "BodyText"),
        styled(LONG, "BodyText"),
    )
    assert outline_of(read(data)) == [
        (
            ("Leave", "2.3 Scope"),
            [
                "Note. A run-in bold word is none, and neither is:",
                "A whole sentence in bold.",
                LONG.strip(),
            ],
        )
    ]


def test_bookmarks_set_the_levels(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        places = [("Part One", 0, 700), ("Same size", 1, 600), ("Body sized", 2, 500)]
        for title, level, y in places:
            canvas.bookmarkPage(title)
            canvas.addOutlineEntry(title, title, level)
            size = 10 if title == "Body sized" else 16
            lines(canvas, ("Helvetica", size, 72, title, y))
            lines(canvas, ("Helvetica", 10, 72, f"A text below {level} that is body.", y - 30))
        lines(canvas, ("Helvetica", 24, 72, "The Title", 780))

    assert outline_of(read(drawn(draw))) == [
        (("The Title", "Part One"), ["A text below 0 that is body."]),
        (("The Title", "Part One", "Same size"), ["A text below 1 that is body."]),
        (("The Title", "Part One", "Same size", "Body sized"), ["A text below 2 that is body."]),
    ]


def test_a_heading_of_two_lines_is_one(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.bookmarkPage("x")
        canvas.addOutlineEntry("How we treat the data of others", "x", 0)
        lines(canvas, ("Helvetica", 10, 72, "How we treat the", 700))
        lines(canvas, ("Helvetica", 10, 72, "data of others", 688))
        lines(canvas, ("Helvetica", 10, 72, "With care.", 660))
        lines(canvas, ("Helvetica", 16, 72, "And how we treat", 600))
        lines(canvas, ("Helvetica", 16, 72, "our own", 580))
        lines(canvas, ("Helvetica", 10, 72, "The same, and much more often than that.", 550))

    assert [path for path, _ in outline_of(read(drawn(draw)))] == [
        ("How we treat the data of others",),
        ("And how we treat our own",),
    ]


def test_running_headers_and_page_numbers_are_left_out(read: Read) -> None:
    pages: list[object] = []
    for number in range(5):
        pages += [
            styled(f"Chapter {'ABCDE'[number]}", "Heading1"),
            styled(body(number), "BodyText"),
        ]
        pages.append(PageBreak())
    found = outline_of(read(laid_out(*pages, header="ACME Handbook 2024")))
    assert found == [((f"Chapter {'ABCDE'[n]}",), [body(n)]) for n in range(5)]


def test_running_titles_may_change_with_the_chapter(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        for page in range(1, 13):
            title = f"Chapter {'ABCD'[page // 3 % 4]}"
            lines(canvas, ("Helvetica", 10, 72, f"{page + 4} {title}", 800))
            lines(canvas, ("Helvetica", 10, 72, f"It says {'abcdefghijklm'[page]}.", 400))
            canvas.showPage()

    texts = [block.text for block in blocks_of(read(drawn(draw)))]
    assert texts == [f"It says {letter}." for letter in "bcdefghijklm"]


def test_a_numbered_heading_on_each_page_stays(read: Read) -> None:
    flow = []
    for number in range(1, 6):
        flow += [styled(f"Lesson {number}", "Heading1"), styled(body(number), "BodyText")]
        flow.append(PageBreak())
    found = outline_of(read(laid_out(*flow)))
    assert found == [((f"Lesson {n}",), [body(n)]) for n in range(1, 6)]


def test_a_list_item_goes_on_in_other_type_and_a_table_of_contents_has_no_dots(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        lines(canvas, ("Helvetica", 14, 72, "1 Introduction . . . . . . . . . 5", 780))
        lines(
            canvas,
            ("Helvetica", 8, 72, "• ", 700),
            ("Helvetica", 10, 80, "The item has words", 700),
        )
        lines(canvas, ("Helvetica", 10, 80, "that go on here, and this is body text.", 688))

    assert outline_of(read(drawn(draw))) == [
        ((), ["1 Introduction 5", "- The item has words that go on here, and this is body text."])
    ]


def body(number: int) -> str:
    return " ".join(f"Rule {number}.{rule} says that it holds." for rule in range(30))


def test_numbers_that_only_look_like_page_numbers_stay(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        for amount in (17, 4, 90, 33):
            lines(canvas, ("Helvetica", 10, 72, f"Amount {amount} is due", 780))
            lines(canvas, ("Helvetica", 10, 72, f"This is the bill over {amount}.", 600))
            canvas.showPage()

    texts = [block.text for block in blocks_of(read(drawn(draw)))]
    assert texts[::2] == [f"Amount {amount} is due" for amount in (17, 4, 90, 33)]


def test_a_paragraph_goes_on_over_lines_hyphens_and_pages(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        lines(
            canvas, ("Helvetica", 10, 72, "The first line of this paragraph goes to the mar-", 112)
        )
        lines(canvas, ("Helvetica", 10, 72, "gin, and the second one goes to the end of page", 100))
        canvas.showPage()
        lines(canvas, ("Helvetica", 10, 72, "one. It names the well-known North-", 780))
        lines(canvas, ("Helvetica", 10, 72, "South road, too.", 768))
        lines(canvas, ("Helvetica", 10, 72, "A new paragraph follows a line that had room.", 756))
        lines(canvas, ("Helvetica", 10, 90, "Another is set in, and so it is a new one.", 744))

    blocks = blocks_of(read(drawn(draw)))
    assert [block.text for block in blocks] == [
        "The first line of this paragraph goes to the margin, and the second one goes to the end "
        "of page one. It names the well-known North-South road, too.",
        "A new paragraph follows a line that had room.",
        "Another is set in, and so it is a new one.",
    ]
    assert (blocks[0].place.page, blocks[0].place.last_page) == (1, 2)


def test_columns_drawn_out_of_order_are_read_in_order(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        for number in range(4, 0, -1):
            y = 700 - 40 * number
            lines(canvas, ("Helvetica", 10, 320, f"Right {number} has words.", y - 15))
            lines(canvas, ("Helvetica", 10, 72, f"Left {number} has words.", y))
        lines(canvas, ("Helvetica", 10, 72, "A line across the whole of both columns " * 2, 700))

    texts = [block.text.split(" has")[0] for block in blocks_of(read(drawn(draw)))]
    assert texts[1:] == [f"{side} {n}" for side in ("Left", "Right") for n in range(1, 5)]
    assert texts[0].startswith("A line across")


def test_scaled_turned_and_slanted_text(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        lines(canvas, ("Helvetica", 10, 72, "Body text in the usual size stands here.", 700))
        canvas.saveState()
        canvas.scale(2, 2)
        lines(canvas, ("Helvetica", 9, 36, "Scaled Heading", 330))
        canvas.restoreState()
        lines(canvas, ("Helvetica", 10, 72, "Below it.", 640))
        canvas.translate(300, 400)
        canvas.rotate(45)
        lines(canvas, ("Helvetica", 60, 0, "WATERMARK", 0))
        canvas.rotate(45)
        lines(canvas, ("Helvetica", 10, -200, "Turned by a quarter.", 0))

    assert outline_of(read(drawn(draw))) == [
        ((), ["Body text in the usual size stands here."]),
        (("Scaled Heading",), ["Below it.", "Turned by a quarter."]),
    ]


def test_a_number_before_a_gap_makes_no_table(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        lines(canvas, ("Helvetica", 10, 72, "2.3", 700), ("Helvetica", 10, 110, "Scope", 700))
        lines(canvas, ("Helvetica", 10, 72, "Name", 600), ("Helvetica", 10, 200, "Room", 600))

    kinds = [(block.kind, block.text) for block in blocks_of(read(drawn(draw)))]
    assert kinds == [(BlockKind.PARAGRAPH, "2.3 Scope"), (BlockKind.TABLE_ROW, "Name | Room")]


def test_characters_beyond_the_basic_plane_keep_their_places(read: Read) -> None:
    x = "\U0001d465"
    cmap = (
        b"begincmap 1 begincodespacerange <00> <FF> endcodespacerange\n"
        b"1 beginbfchar <41> <D835DC65> endbfchar endcmap"
    )
    content = b"BT /F 12 Tf 72 700 Td (AA is) Tj 200 0 Td (A B) Tj -200 -50 Td (Plain) Tj ET"
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 7 0 R>>"
    blocks = blocks_of(read(pdf({4: stream(content), 5: font, 7: stream(cmap)})))
    assert [block.text for block in blocks] == [f"{x}{x} is | {x} B", "Plain"]


def test_a_cut_document_is_read_as_far_as_it_goes(read: Read) -> None:
    flow = [
        part for n in range(9) for part in (styled(f"Page {n} " + LONG, "BodyText"), PageBreak())
    ]
    data = laid_out(*flow)
    items = read(data[: len(data) * 6 // 10])
    texts = [block.text for block in blocks_of(items)]
    assert 1 <= len(texts) < 9
    assert texts[0] == "Page 0 " + LONG.strip()
    assert items[-1] == Remark("skipped_part", "the file has no end mark: it seems to be cut off")


def test_a_scanned_page_among_others_is_remarked(read: Read) -> None:
    def draw(canvas: Canvas) -> None:
        lines(canvas, ("Helvetica", 10, 72, "A readable page.", 700))
        canvas.showPage()
        canvas.drawInlineImage(Image.new("L", (4, 4)), 100, 100)

    assert read(drawn(draw))[1:] == [
        Remark(
            "skipped_part",
            "page 2 without text: it seems to be scanned images",
            Place(page=2, last_page=2),
        )
    ]


def test_long_documents_come_in_parts_before_they_are_read_whole(tmp_path: Path) -> None:
    def draw(canvas: Canvas) -> None:
        for number in range(100):
            for line in range(60):
                text = f"Line {line} of {number} tells of something else. "
                lines(canvas, ("Helvetica", 8, 50, text * 3, 800 - 12 * line))
            canvas.showPage()

    path = tmp_path / "document"
    path.write_bytes(drawn(draw))
    items: Iterator[object] = iter(read_pdf(path))
    first = next(items)
    assert isinstance(first, Section)
    assert first.place.last_page < 20
    assert sum(isinstance(item, Section) for item in items) > 10


NUMBERS = st.floats(-1e6, 1e6)
LINES = st.builds(
    Line,
    text=st.text("aB1.•- ", min_size=1, max_size=12).filter(str.strip),
    cells=st.sampled_from([(), ("a", "B")]),
    size=st.sampled_from([0.0, 8.0, 10.0, 14.0]),
    bold=st.booleans(),
    x=NUMBERS,
    y=NUMBERS,
    right=NUMBERS,
    turn=st.integers(0, 3),
    broken=st.booleans(),
)


@given(st.lists(st.lists(LINES, max_size=12), max_size=4))
@settings(max_examples=50)
def test_any_lines_make_prose_with_ranges_in_order(pages: list[list[Line]]) -> None:
    numbered = dict(enumerate(pages, start=1))
    layout = find_layout(numbered, {1: {"ab": 100}})
    prose = Prose(layout, {1: {"ab": 100}})
    sections: list[Section] = []
    for page, found in numbered.items():
        ordered = in_reading_order(layout.without_running(page, found))
        sections += prose.add_page(page, ordered)
    blocks = [block for section in [*sections, *prose.finish()] for block in section.blocks]
    end = 0
    for block in blocks:
        assert end <= block.place.start
        end = block.place.end
        assert end - block.place.start == len(block.text.encode())
        assert 1 <= block.place.page <= block.place.last_page <= len(pages)


HOSTILE = hostile_pdfs()
REFUSED = {
    "empty": "not a PDF document",
    "header only": "no page can be found",
    "text under a false name": "not a PDF document",
    "noise behind the header": "no page can be found",
    "cut in its objects": "holds no text",
    "user password": "is encrypted: it opens with a password only",
    "unknown encryption": "encrypted in a way that cannot be read",
    "page tree that is its own child": "none of its pages can be read",
    "page tree with a loop": "none of its pages can be read",
    "page tree 20,000 deep": "none of its pages can be read",
    "content of 100 MB": "holds no text",
    "content deflated three times": "holds no text",
    "a million operators": "holds no text",
    "content nested deep": "holds no text",
    "type of no size": "holds no text",
    "type of vast size": "holds no text",
    "scanned page": "it holds no text; it seems to be scanned images",
    "no text": "holds no text",
    "content is missing": "holds no text",
}
REMARKED = {
    "cut before its index": "no end mark",
    "100,000 pages claimed": r"99999 pages \(the first is page 2, the last 100000\) cannot be read",
    "controls in the text": "3 damaged characters on page 1",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_document_is_refused(read: Read, name: str) -> None:
    with pytest.raises(UnreadableDocument, match=REFUSED[name]):
        read(HOSTILE[name])


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in REFUSED])
def test_a_hostile_document_is_read_where_it_can_be(read: Read, name: str) -> None:
    items = read(HOSTILE[name])
    texts = [block.text for block in blocks_of(items)]
    assert texts[0].startswith("A reada")
    remarks = [item.detail for item in items if isinstance(item, Remark)]
    assert len(remarks) == (name in REMARKED)
    if remarks:
        assert re.search(REMARKED[name], remarks[0])
