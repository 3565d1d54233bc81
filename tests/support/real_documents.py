"""One small real document of each kind, made by the tool that people make it with.

Each tells its rows apart from its furniture: running headers, navigation, attachments, quotes.
"""

from __future__ import annotations

import csv
import io
import json
import mailbox
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import docx
import openpyxl
import pyarrow as pa
from pptx import Presentation
from pptx.util import Inches
from pyarrow import parquet as pq
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    ListFlowable,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Table,
)

START = datetime(2024, 1, 5, 9, 0, tzinfo=UTC)
"""When the messages begin."""


@dataclass(frozen=True)
class RealDocument:
    """A document."""

    name: str
    data: bytes
    text: bytes
    """What byte ranges refer to: the data, or the text read of a document that is no text."""


def _text(name: str, text: str) -> RealDocument:
    data = text.encode()
    return RealDocument(name, data, data)


def _read(name: str, data: io.BytesIO, *lines: str) -> RealDocument:
    """A document that is no text, with the lines of its headings and blocks."""
    return RealDocument(name, data.getvalue(), "".join(f"{line}\n" for line in lines).encode())


class _Outlined(SimpleDocTemplate):  # type: ignore[misc]
    """Lays out pages and makes a bookmark of each heading."""

    def afterFlowable(self, flowable: Flowable) -> None:
        style = flowable.style.name if isinstance(flowable, Paragraph) else ""
        if style.startswith("Heading"):
            title = flowable.getPlainText()
            self.canv.bookmarkPage(title)
            self.canv.addOutlineEntry(title, title, int(style[-1]) - 1)


def pdf() -> RealDocument:
    """Three pages by reportlab: title, headings of two levels with bookmarks, list, table."""
    styles = getSampleStyleSheet()
    styles["Title"].fontSize = 26

    def furniture(canvas: Canvas, document: SimpleDocTemplate) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(72, 810, "Acme - for staff only")
        canvas.drawRightString(520, 30, f"Page {document.page} of 3")

    def body(text: str) -> Paragraph:
        return Paragraph(text, styles["BodyText"])

    data = io.BytesIO()
    _Outlined(data, pagesize=A4, title="Acme Handbook", invariant=1).build(
        [
            Paragraph("Acme Handbook", styles["Title"]),
            Paragraph("Leave", styles["Heading1"]),
            Paragraph("Annual leave", styles["Heading2"]),
            body("Everyone at Acme gets 24 days of leave in each year, and asks for them early."),
            ListFlowable([body("Ask in writing."), body("Ask in time.")], bulletType="bullet"),
            Paragraph("Sick leave", styles["Heading2"]),
            body("Call your head before nine in the morning."),
            PageBreak(),
            Paragraph("Travel", styles["Heading1"]),
            body("Trains are booked by the front desk."),
            PageBreak(),
            Table([["Class", "Limit"], ["Second", "200 kilometres"]], colWidths=[120, 120]),
        ],
        onFirstPage=furniture,
        onLaterPages=furniture,
    )
    return _read(
        "handbook.pdf",
        data,
        *("Acme Handbook", "Leave", "Annual leave"),
        "Everyone at Acme gets 24 days of leave in each year, and asks for them early.",
        *("Ask in writing.", "Ask in time.", "Sick leave"),
        "Call your head before nine in the morning.",
        *("Travel", "Trains are booked by the front desk."),
        *("Class | Limit", "Second | 200 kilometres"),
    )


def word() -> RealDocument:
    """Title, headings of two levels, list and table by python-docx."""
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Acme - for staff only"
    document.add_heading("Rules of the house", level=0)
    document.add_heading("Keys", level=1)
    document.add_heading("Lost keys", level=2)
    document.add_paragraph("Tell the front desk at once.")
    document.add_paragraph("A new key costs 30 crowns.", style="List Bullet")
    document.add_heading("Bicycles", level=1)
    table = document.add_table(rows=2, cols=2)
    for row, texts in zip(table.rows, (("Where", "How many"), ("Yard", "40")), strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    data = io.BytesIO()
    document.save(data)
    return _read(
        "rules.docx",
        data,
        *("Rules of the house", "Keys", "Lost keys", "Tell the front desk at once."),
        *("A new key costs 30 crowns.", "Bicycles", "Where | How many", "Yard | 40"),
    )


def slides() -> RealDocument:
    """A title slide, and one with bullets, a text box and notes, by python-pptx."""
    deck = Presentation()
    opening = deck.slides.add_slide(deck.slide_layouts[0])
    opening.shapes.title.text = "Plans for spring"
    opening.placeholders[1].text = "The board of Acme"
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "New shops"
    slide.placeholders[1].text = "Lund opens in May"
    slide.placeholders[1].text_frame.add_paragraph().text = "Ghent opens in June"
    box = slide.shapes.add_textbox(Inches(1), Inches(6), Inches(4), Inches(1))
    box.text_frame.text = "Both hire now."
    slide.notes_slide.notes_text_frame.text = "Say whom to ask."
    data = io.BytesIO()
    deck.save(data)
    return _read(
        "plans.pptx",
        data,
        *("Plans for spring", "The board of Acme", "New shops", "Lund opens in May"),
        *("Ghent opens in June", "Both hire now.", "Say whom to ask."),
    )


def page() -> RealDocument:
    """A web page with navigation, script, list and table."""
    html = """<!doctype html><html><head><title>Acme</title><script>track()</script></head><body>
<nav><a href="/">Home</a></nav>
<h1>Shop</h1><h2>Opening hours</h2><p>We open at <b>nine</b>
&amp; close at five.</p><ul><li>Closed on Sundays</li></ul>
<h2>Parking</h2><table><tr><th>Place</th><th>Price</th></tr><tr><td>Yard</td><td>2 &euro;</td></tr>
</table></body></html>"""
    return _read(
        "shop.html",
        io.BytesIO(html.encode()),
        *("Shop", "Opening hours", "We open at nine & close at five.", "Closed on Sundays"),
        *("Parking", "Place | Price", "Yard | 2 \u20ac"),
    )


def markdown() -> RealDocument:
    """Headings of two levels, marks inside a line, a list and code."""
    return _text(
        "deploy.md",
        "# Deploying\n\n## Before\n\nTell the *caf\u00e9* first,\nthen `wait`.\n\n"
        "- Take a copy.\n\n## After\n\n```\nmake check\n```\n",
    )


def restructured() -> RealDocument:
    """Titles of two levels, a list and an admonition."""
    return _text(
        "printer.rst",
        "Printer\n=======\n\nPaper\n-----\n\nUse the *upper* tray.\n\n- A4 only\n\n"
        "Ink\n---\n\n.. note:: It lasts for 900 pages.\n",
    )


def text() -> RealDocument:
    """Paragraphs without any heading, the second with Windows line ends."""
    return _text("notes.txt", "The lift stops\nat ten.\n\nThe na\u00efve way\r\nis down.\r\n")


def email() -> RealDocument:
    """A reply with a quote, a signature and an attachment."""
    message = _mail("Ann Berg", "Re: Broken chair", START)
    message.set_content(
        "Put it in the yard.\nWe fetch it on Friday.\n\n"
        "On Thu, 4 Jan 2024, Bob wrote:\n> My chair is broken.\n\n-- \nAnn\n"
    )
    message.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="list.pdf")
    message.set_boundary("part")
    data = message.as_bytes()
    return RealDocument("chair.eml", data, data)


def sheet() -> RealDocument:
    """Two sheets by openpyxl, one of them with an empty row."""
    workbook = openpyxl.Workbook(write_only=True)
    front = workbook.create_sheet("Front desk")
    front.append(["question", "answer", "since"])
    front.append(["When are refunds paid?", "Within 52 days.", datetime(2024, 1, 5)])
    other = workbook.create_sheet("Floors")
    for row in (["question", "answer"], [], ["How many floors?", 7]):
        other.append(row)
    data = io.BytesIO()
    workbook.save(data)
    return _read("desk.xlsx", data)


def comma_separated() -> RealDocument:
    """Semicolons and a line break in quotes, as spreadsheets write them."""
    return _table("desk.csv", csv.excel, ";", ("Where is the safe?", "On floor 2;\nask Bob."))


def tab_separated() -> RealDocument:
    """Tabs, no quotes."""
    return _table("desk.tsv", csv.unix_dialect, "\t", ("Who has the van?", "Ann has it."))


def _table(
    name: str, dialect: type[csv.Dialect], delimiter: str, row: Sequence[str]
) -> RealDocument:
    out = io.StringIO()
    writer = csv.writer(out, dialect, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL)
    writer.writerows([("question", "answer"), row])
    return _text(name, out.getvalue())


def parquet() -> RealDocument:
    """Three rows by pyarrow, one of them without an answer."""
    rows = [
        {"question": "Who signs for travel?", "answer": "The head of the house."},
        {"question": "Who signs for tools?", "answer": None},
        {"question": "How long is a stay?", "answer": "Five nights at most."},
    ]
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    return _read("desk.parquet", data)


def json_lines() -> RealDocument:
    """An object a line; one line is broken."""
    row = json.dumps({"question": "Caf\u00e9?", "answer": "Next door."}, ensure_ascii=False)
    return _text("desk.jsonl", f'{{"question": \n{row}\n')


def json_table() -> RealDocument:
    """A table inside an object."""
    rows = [{"question": "Is there tea?", "answer": "Yes, in the hall."}]
    return _text("desk.json", json.dumps({"hall": {"tea": rows}}, indent=1))


def slack() -> RealDocument:
    """The export of a channel: a day's messages, somebody joining."""
    told = [
        ("U1", "Where do I get a badge?"),
        ("U2", "At the front desk."),
        ("U1", "When is it open &amp; who is there?"),
        ("U2", "Ann, from nine."),
    ]
    messages: list[dict[str, Any]] = [
        {"type": "message", "subtype": "channel_join", "user": "U1", "text": "joined", "ts": "1.0"}
    ]
    for number, (user, said) in enumerate(told):
        name = {"U1": "Bob Lund", "U2": "Ann Berg"}[user]
        messages.append(
            {
                "type": "message",
                "user": user,
                "text": said,
                "ts": f"{START.timestamp() + 60 * number:.6f}",
                "user_profile": {"real_name": name},
            }
        )
    return _text("2024-01-05.json", json.dumps(messages, indent=2))


def whatsapp() -> RealDocument:
    """A chat's export: a notice, a message of two lines, a picture, a pause of a day."""
    return _text(
        "chat.txt",
        "05/01/2024, 09:00 - Messages are end-to-end encrypted.\n"
        "05/01/2024, 09:01 - Bob: Is the yard free?\n"
        "05/01/2024, 09:02 - Ann: It is.\nUntil ten.\n"
        "05/01/2024, 09:03 - Bob: <Media omitted>\n"
        "05/01/2024, 09:04 - Bob: May I park there?\n"
        "05/01/2024, 09:05 - Ann: Yes, \u2026 by the wall.\n"
        "06/01/2024, 09:00 - Bob: Thanks!\n",
    )


def mail_box() -> RealDocument:
    """A thread of four e-mails by the standard library's mailbox."""
    told = [
        ("Bob Lund", "Keys", "May I have a key?"),
        ("Ann Berg", "Re: Keys", "Which door?\n\n> May I have a key?"),
        ("Bob Lund", "Re: Keys", "The yard.\n\nFrom now on, please."),
        ("Ann Berg", "Re: Keys", "It is at the desk."),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.mbox"
        box = mailbox.mbox(path)
        for number, (sender, subject, said) in enumerate(told):
            message = _mail(sender, subject, START + timedelta(minutes=5 * number))
            message.set_content(said)
            box.add(mailbox.mboxMessage(message))
        box.close()
        data = path.read_bytes()
    return RealDocument("keys.mbox", data, data)


def _mail(sender: str, subject: str, time: datetime) -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"{sender} <{sender.split()[0].lower()}@acme.example>"
    message["To"] = "desk@acme.example"
    message["Subject"] = subject
    message["Date"] = format_datetime(time)
    return message


def zip_archive() -> RealDocument:
    """A ZIP with a Java class, a readme and what a machine has made."""
    files = {
        "shop/Till.java": "/** Counts money. */\nclass Till {\n    int sum;\n}\n",
        "shop/README.md": "# Till\n",
        "shop/target/Till.java": "class Copy { }\n",
    }
    return RealDocument("till.zip", zip_of(files), files["shop/Till.java"].encode())


def tar_archive() -> RealDocument:
    """A compressed TAR with a Go function and a link."""
    source = b"package yard\n\n// Free tells whether a place is free.\nfunc Free() bool {}\n"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("yard/free.go")
        member.size = len(source)
        archive.addfile(member, io.BytesIO(source))
        link = tarfile.TarInfo("yard/link.go")
        link.type, link.linkname = tarfile.SYMTYPE, "free.go"
        archive.addfile(link)
    return RealDocument("yard.tar.gz", data.getvalue(), source)


def source() -> RealDocument:
    """A TypeScript function with its comment."""
    return _text(
        "door.ts",
        "/** Opens the d\u00f6or. */\nexport function open(code: string): boolean {\n"
        "  // One code for all.\n  return code === 'x';\n}\n",
    )


def zip_of(files: Mapping[str, str]) -> bytes:
    """A ZIP of source files by the standard library."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()
