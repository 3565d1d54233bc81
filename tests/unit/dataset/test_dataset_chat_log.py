from datetime import datetime
from pathlib import Path

import pytest
from luthier_dataset.readers.chat_log import as_message, looks_like_log
from luthier_dataset.readers.items import Item, Message, Place, Remark, Section
from luthier_dataset.readers.text import read_text


def read(folder: Path, text: str | bytes) -> list[Item]:
    path = folder / "log.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_text(path))


def messages(folder: Path, text: str | bytes) -> list[Message]:
    return [item for item in read(folder, text) if isinstance(item, Message)]


def at(written: str) -> float:
    return datetime.fromisoformat(written + "+00:00").timestamp()


@pytest.mark.parametrize(
    ("line", "time"),
    [
        ("[05.01.24, 10:22:13] Anna: Hello", "2024-01-05 10:22:13"),
        ("\u200e[05.01.2024, 10:22:13] Anna: Hello", "2024-01-05 10:22:13"),
        ("05/01/2024, 10:22 - Anna: Hello", "2024-01-05 10:22"),
        ("05/01/2024, 9:22 pm - Anna: Hello", "2024-01-05 21:22"),
        ("[05/01/24, 12:02:03\u202fAM] Anna: Hello", "2024-01-05 00:02:03"),
        ("2024-01-05 10:22 Anna: Hello", "2024-01-05 10:22"),
        ("2024-01-05T10:22:13Z Anna: Hello", "2024-01-05 10:22:13"),
        ("2024-01-05 10:22:13+02:00 | Anna: Hello", "2024-01-05 08:22:13"),
        ("2024-01-05 10:22:13.123 <Anna> Hello", "2024-01-05 10:22:13"),
        ("[2024-01-05 10:22] <@Anna> Hello", "2024-01-05 10:22"),
        ("<Anna> Hello", None),
        ("10:22 <Anna> Hello", None),
        ("[10:22:13] <+Anna> Hello", None),
        ("31.02.2024, 10:22 - Anna: Hello", None),
        ("05.01.2024, 10:22 - ~\u202fAnna: Hello", "2024-01-05 10:22"),
    ],
)
def test_a_line_is_a_message(tmp_path: Path, line: str, time: str | None) -> None:
    first, second = messages(tmp_path, f"{line}\n{line}\n")
    assert (first.sender, first.text) == ("Anna", "Hello")
    assert first.time == (None if time is None else at(time))
    assert first.place == Place(line=1, last_line=1, start=0, end=len(line.encode()))
    assert second.place.line == 2


LOG = """\
05/01/2024, 10:22 - Messages are end-to-end encrypted.
05/01/2024, 10:22 - Anna: First line
second: line

05/01/2024, really
05/01/2024, 10:23 - Jörg Müller: <Media omitted>
05/01/2024, 10:24 - Jörg Müller: Ok: 10:30?

05/01/2024, 10:25 - Anna left
05/01/2024, 10:26 - Jörg Müller: \u200eimage omitted
05/01/2024, 10:26 - Jörg Müller:
05/01/2024, 10:27 - Jörg Müller: <3
"""


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_messages_run_over_lines_and_know_their_places(
    tmp_path: Path, codec: str, end: str
) -> None:
    log = LOG if codec != "cp1252" else LOG.replace("\u200e", "<") + "01/02/2024, 1:00 - B: ä\n"
    log = log.replace("<image omitted", "<image omitted>")
    data = log.replace("\n", end).encode(codec)
    found = messages(tmp_path, data)[:3]
    assert [(message.sender, message.text) for message in found] == [
        ("Anna", "First line\nsecond: line\n\n05/01/2024, really"),
        ("Jörg Müller", "Ok: 10:30?"),
        ("Jörg Müller", "<3"),
    ]
    plain = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(codec, codec)
    for message in found:
        written = data[message.place.start : message.place.end].decode(plain)
        assert written.startswith("05/01/2024, 10:2")
        assert written.replace(end, "\n").endswith(message.text)
    assert [(one.place.line, one.place.last_line) for one in found] == [(2, 5), (7, 7), (12, 12)]
    left_out = next(item for item in read(tmp_path, data) if isinstance(item, Remark))
    assert left_out.code == "skipped_part"
    assert left_out.detail == "notices of the log left out (attachments, people who joined): 4"


@pytest.mark.parametrize(
    ("dates", "days"),
    [
        (["05/01/2024", "13/01/2024"], ["2024-01-05", "2024-01-13"]),
        (["05/01/2024", "01/13/2024"], ["2024-05-01", "2024-01-13"]),
        # Both ways could be: the one that goes forwards is right.
        (["01/02/24", "01/03/24", "02/01/24"], ["2024-01-02", "2024-01-03", "2024-02-01"]),
        (["01/02/24", "02/02/24", "01/03/24"], ["2024-02-01", "2024-02-02", "2024-03-01"]),
        (["05/01/2024", "05/01/2024"], ["2024-01-05", "2024-01-05"]),
        (["2024/05/01", "2024/05/02"], ["2024-05-01", "2024-05-02"]),
    ],
)
def test_the_whole_log_decides_where_the_day_stands(
    tmp_path: Path, dates: list[str], days: list[str]
) -> None:
    found = messages(tmp_path, "".join(f"{date}, 10:00 - Anna: Hi\n" for date in dates))
    assert [message.time for message in found] == [at(f"{day} 10:00") for day in days]


def test_an_irc_log_is_read_without_its_notices(tmp_path: Path) -> None:
    log = "*** Topic: x\n<anna> hi\n<bob> ho\n* anna waves\n-!- cy joined\n<anna> bye\n"
    assert [(one.sender, one.text) for one in messages(tmp_path, log)] == [
        *(("anna", "hi"), ("bob", "ho"), ("anna", "bye"))
    ]


def test_a_message_too_long_for_a_section_comes_in_several(tmp_path: Path) -> None:
    log = "<anna> begin\n" + "a line of text\n" * 5000 + "<bob> ho\n<bob> hu\n"
    path = tmp_path / "log.txt"
    path.write_text("<a> b\n" * 64 + log)
    found = [one for one in read_text(path) if isinstance(one, Message) and one.sender == "anna"]
    assert "\n".join(one.text for one in found) == "begin\n" + ("a line of text\n" * 5000).strip()
    assert len(found) == 5
    assert all(len(one.text) <= 16 * 1024 for one in found)
    assert [one.place.line for one in found[1:]] == [one.place.last_line + 1 for one in found[:-1]]


@pytest.mark.parametrize(
    "text",
    [
        "Anna: Hello\nBob: Hello\n",
        "2024-01-05 10:22:13 INFO: started\n2024-01-05 10:22:14 WARNING main: full\n",
        "2024-01-05 10:22:13,123 ERROR module: x\n2024-01-05 10:22:13,123 debug: y\n",
        "<anna> one line is no log\n",
        "<anna> hi\nSome\nprose\nabout <b> it.\n",
        "On 05/01/2024, 10:22 - Anna: said\nOn 05/01/2024 it rained\n",
    ],
)
def test_prose_and_the_logs_of_programs_are_no_message_logs(tmp_path: Path, text: str) -> None:
    assert not looks_like_log(text.split("\n"))
    assert all(isinstance(item, Section) for item in read(tmp_path, text))


PLACE = Place(line=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"Sender": " Anna ", "TIME": 1704450133, "Text": " Hi\n"},
            Message("Anna", "Hi", 1704450133.0),
        ),
        ({"author": 7, "ts": 1704450133000, "body": "Hi"}, Message("7", "Hi", 1704450133.0)),
        ({"user": "a", "ts": "1704450133.5", "content": "b"}, Message("a", "b", 1704450133.5)),
        (
            {"username": "a", "created_at": "2024-01-05T10:22:13Z", "message": "b", "channel": "c"},
            Message("a", "b", at("2024-01-05 10:22:13"), "c"),
        ),
        (
            {"from": "a", "date": "2024-01-05 10:22", "text": "b", "conversation_id": 5},
            Message("a", "b", at("2024-01-05 10:22"), "5"),
        ),
        ({"name": "a", "sent_at": None, "text": "b", "thread": None}, Message("a", "b")),
        ({"name": "a", "datetime": "yesterday", "text": "b"}, Message("a", "b")),
        ({"name": "a", "time": 1e300, "text": "b"}, Message("a", "b")),
        ({"name": "a", "time": "nan", "text": "b"}, Message("a", "b")),
        ({"sender": "a", "name": "b", "time": 0, "text": "c", "body": "d"}, Message("a", "c", 0.0)),
        ({"sender": "a", "text": "b"}, None),
        ({"sender": "a", "time": 1}, None),
        ({"time": 1, "text": "b"}, None),
        ({"sender": "", "time": 1, "text": "b"}, None),
        ({"sender": None, "time": 1, "text": "b"}, None),
        ({"sender": "a", "time": 1, "text": " "}, None),
        ({"sender": "a", "time": 1, "text": 5}, None),
        ({}, None),
    ],
)
def test_a_row_may_be_a_message(fields: dict[str, object], message: Message | None) -> None:
    wanted = None
    if message:
        wanted = Message(message.sender, message.text, message.time, message.thread, PLACE)
    assert as_message(fields, PLACE) == wanted
