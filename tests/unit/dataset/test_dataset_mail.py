from datetime import UTC, datetime
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from mailbox import mbox
from pathlib import Path

import pytest
from luthier_dataset.readers import mail
from luthier_dataset.readers.items import Item, Message, Place, Remark, UnreadableDocument
from luthier_dataset.readers.mail import read_email, read_mailbox
from luthier_dataset.readers.replies import without_quotes

TIME = datetime(2024, 1, 5, 9, 22, tzinfo=UTC).timestamp()


def written(text: str = "Hello,\nall well?\n", **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Änna Vogel <anna@example.com>"
    message["Subject"] = "Re: AW: Größe"
    message["Date"] = "Fri, 05 Jan 2024 10:22:00 +0100"
    for name, value in headers.items():
        del message[name]
        message[name] = value
    message.set_content(text)
    return message


def read(folder: Path, data: bytes) -> list[Item]:
    path = folder / "a.eml"
    path.write_bytes(data)
    return list(read_email(path))


def box(folder: Path, data: bytes) -> list[Item]:
    path = folder / "a.mbox"
    path.write_bytes(data)
    return list(read_mailbox(path))


def test_an_email_becomes_a_message(tmp_path: Path) -> None:
    data = bytes(written())
    lines = data.count(b"\n")
    place = Place(line=1, last_line=lines, start=0, end=len(data))
    assert read(tmp_path, data) == [
        Message("Änna Vogel", "Hello,\nall well?", TIME, "Größe", place)
    ]


def test_attachments_are_left_out_with_their_names(tmp_path: Path) -> None:
    message = written()
    message.add_alternative("<p>not this</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="Räume.pdf")
    message.add_attachment(written("Forwarded text."))
    found, remark = read(tmp_path, bytes(message))
    assert isinstance(found, Message)
    assert found.text == "Hello,\nall well?"
    assert isinstance(remark, Remark)
    assert remark.code == "skipped_part"
    assert remark.detail == "attachments are left out: Räume.pdf, message/rfc822"


def test_an_html_email_is_read_without_its_quotes(tmp_path: Path) -> None:
    html = (
        "<style>p{}</style><p>Yes &amp; <b>no</b>.</p><p>Anna</p>"
        '<div class="gmail_quote">On Monday Bob wrote:<blockquote>Well?</blockquote></div>'
    )
    message = MIMEMultipart("alternative")
    message["From"] = "anna@example.com"
    message.attach(MIMEText(html, "html", "iso-8859-15"))
    [found] = read(tmp_path, message.as_bytes())
    assert found == Message(
        "anna@example.com", "Yes & no.\nAnna", None, "", place=found_place(found)
    )


def found_place(item: Item) -> Place:
    assert isinstance(item, Message)
    return item.place


@pytest.mark.parametrize(
    ("header", "sender"),
    [
        (b"From: =?iso-8859-1?q?J=F6rg?= <j@example.com>", "Jörg"),
        (b"From: j@example.com", "j@example.com"),
        (b'From: "Miller, J." <j@example.com>', "Miller, J."),
        ("From: Jörg <j@example.com>".encode(), "Jörg"),
        (b"From:\r\nSender: s@example.com", "s@example.com"),
    ],
)
def test_the_sender_is_a_name_or_an_address(tmp_path: Path, header: bytes, sender: str) -> None:
    [found] = read(tmp_path, header + b"\r\n\r\nHello.\r\n")
    assert isinstance(found, Message)
    assert found.sender == sender


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        (b"windows-1251", "Привет".encode("cp1251"), "Привет"),
        (b"x-unknown", "naïve".encode(), "naïve"),
        (b"punycode", "naïve".encode(), "naïve"),
        (b"utf-16", "né".encode("utf-16"), "né"),
        (b"utf-8", b"a\xffb\0c", "a\ufffdb\ufffdc"),
        (b"rot13", b"abc", "abc"),
    ],
)
def test_any_charset_gives_text(tmp_path: Path, charset: bytes, body: bytes, text: str) -> None:
    head = b"From: a@b\nContent-Type: text/plain; charset=" + charset
    head += b"\nContent-Transfer-Encoding: 8bit\n\n"
    [found] = read(tmp_path, head + body)
    assert isinstance(found, Message)
    assert found.text == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Yes.\n\n> Shall I?\n> Now?\n", "Yes."),
        ("Yes.\n\nOn 5 Jan 2024 at 10:22, Bob <b@c.d> wrote:\n> Shall I?\n", "Yes."),
        ("Ja.\n\nAm Freitag schrieb Bob\nMeier:\n\n> Soll ich?\n", "Ja."),
        ("> One?\nYes.\n> Two?\nNo.\n", "Yes.\nNo."),
        ("Points:\n> One?\nYes.", "Points:\nYes."),
        ("Yes.\n-- \nAnna\nAcme Ltd", "Yes."),
        ("Yes.\n--\nAnna", "Yes."),
        ("Yes.\n\n-----Original Message-----\nFrom: Bob\nShall I?", "Yes."),
        ("Ja.\n\n-----Ursprüngliche Nachricht-----\nVon: Bob", "Ja."),
        ("Yes.\n\nFrom: Bob\nSent: Monday\nTo: Anna\n\nShall I?", "Yes."),
        ("Ja.\n\n*Von:* Bob\n*Gesendet:* Montag\n\nSoll ich?", "Ja."),
        ("Oui.\n________________________________\nDe : Bob", "Oui."),
        ("From: here to there.\nIt is far.", "From: here to there.\nIt is far."),
        ("a\n\n\n\nb\n---\nc", "a\n\nb\n---\nc"),
        ("> only quoted", ""),
    ],
)
def test_quotes_and_signatures_are_dropped(text: str, kept: str) -> None:
    assert without_quotes(text) == kept


def test_a_mailbox_is_read_message_by_message(tmp_path: Path) -> None:
    path = tmp_path / "real.mbox"
    real = mbox(path)
    real.add(written("One.\n\nFrom here on.\n"))
    real.add(written("Two.\n", Subject="Other", Date="Fri, 05 Jan 2024 10:22:00 -0000"))
    real.add(b"Subject: nobody\n\nx\n")
    real.close()
    data = path.read_bytes()
    one, two, remark = read_mailbox(path)
    assert isinstance(one, Message)
    assert isinstance(two, Message)
    assert (one.sender, one.text, one.thread) == ("Änna Vogel", "One.\n\nFrom here on.", "Größe")
    assert (two.text, two.thread, two.time) == ("Two.", "Other", TIME + 3600)
    for message in (one, two):
        slice_ = data[message.place.start : message.place.end]
        assert slice_.startswith(b"From: ")
        assert data.count(b"\n", 0, message.place.start) + 1 == message.place.line
        assert message.place.last_line == message.place.line + slice_.count(b"\n") - 1
    assert isinstance(remark, Remark)
    assert "does not say whom it is from" in remark.detail
    assert remark.place.line > two.place.last_line


def test_a_message_that_is_too_large_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "MAX_BYTES", 1000)
    data = b"From x\nFrom: a@b\n\n" + b"a" * 200_000 + b"\n\nFrom x\nFrom: c@d\n\nShort.\n"
    remark, message = box(tmp_path, data)
    assert isinstance(remark, Remark)
    assert remark.detail == "a message is left out: an e-mail may have 1000 bytes at most"
    assert isinstance(message, Message)
    assert (message.sender, message.text) == ("c@d", "Short.")
    assert data[message.place.start : message.place.end] == b"From: c@d\n\nShort.\n"
    with pytest.raises(UnreadableDocument, match="an e-mail may have 1000 at most"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not say whom it is from"),
        (b"Just text.\n", "does not say whom it is from"),
        (b"\xff\xfe\0\0", "does not say whom it is from"),
        (b"Content-Type: multipart/mixed; boundary=a\n\n--a\n" * 65, "64 nested parts"),
        (b"From: a@b\n\n" + b"\n" * 1_000_001, "1000000 lines at most"),
    ],
)
def test_what_is_no_email_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read(tmp_path, data)


def test_what_is_no_mailbox_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match="it is not a mailbox"):
        box(tmp_path, b"\nJust text.\n")
    assert box(tmp_path, b"") == []


@pytest.mark.parametrize("name", [b"From", b"Subject", b"Date", b"Content-Type"])
@pytest.mark.parametrize("value", [b"(" * 5000, b"<" * 5000, b"=?utf-8?b?" * 900, b";," * 5000])
def test_hostile_headers_cost_little(tmp_path: Path, name: bytes, value: bytes) -> None:
    data = b"Sender: s@example.com\n" + name + b": " + value + b"\n\nHello.\n"
    try:
        found = read(tmp_path, data)
    except UnreadableDocument:
        return
    assert [item.text for item in found if isinstance(item, Message)] in (["Hello."], [])
