"""Reads message logs: exports of messengers, IRC logs, and rows that are messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from luthier_dataset.readers.encoding import Line
from luthier_dataset.readers.items import (
    MAX_SECTION_BYTES,
    NOWHERE,
    Item,
    Message,
    Place,
    Remark,
    hull,
)

Lines = Callable[[], Iterable[Line | Remark]]
"""Reads the lines of a log from the start."""

# `[05.01.24, 10:22:13] Anna: text`, `05/01/2024, 10:22 - Anna: text`,
# `2024-01-05 10:22 Anna: text`, `<anna> text` and `[2024-01-05 10:22] <anna> text`.
# Every repetition is bounded, so that no line costs more than another.
_MESSAGE = re.compile(
    r"""\u200e?\ufeff?
    (?P<stamp>\[?
      (?P<a>\d{1,4})(?P<separator>[./-])(?P<b>\d{1,2})(?P=separator)(?P<c>\d{1,4})
      ,?[ T\u00a0]{1,3}
      (?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d{1,9})?)?
      (?:[ \u00a0\u202f]?(?P<half>[ap])\.?m\.?)?
      [ ]?(?P<zone>Z|[+-]\d\d:?\d\d|UTC)?
      \]?[ ]{0,4}(?:[-\u2013|][ ]{1,4})?)?
    (?:(?:\[?\d{1,2}:\d\d(?::\d\d)?\]?[ ]{1,4})?<[ @+~&%]?(?P<nick>[^<>\s]{1,64})>(?:[ ]|$)
      |(?P<name>[^\s:<>\[\]*](?:[^:<>\[\]\n]{0,78}[^\s:<>\[\]])?)[ ]?:(?:[ ]|$))""",
    re.VERBOSE | re.IGNORECASE,
)
_STAMP = re.compile(r"\u200e?\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},?[ T\u00a0]{1,3}\d{1,2}:\d\d")
"""Begins a line that is no continuation, such as `05/01/2024, 10:22 - Anna left`."""
_DATE = re.compile(
    r"[\u200e\ufeff]{0,2}\[?(\d{1,2})[./-](\d{1,2})[./-](\d{2,4}),?[ T\u00a0]{1,3}\d{1,2}:\d\d"
)
"""A date at the start of a line that can be read in two ways."""
_NOTICE = re.compile(r"(?:\[?\d{1,2}:\d\d(?::\d\d)?\]?[ ]{1,4})?(?:\*{1,3}|-!-|-->|<--)(?:[ ]|$)")
"""A line of an IRC log that is nobody's message."""
_NO_TEXT = re.compile(r"\u200e|<[^<>]{1,80}>\s*\Z")
"""What messengers write where a picture or a deleted message was, in any language."""
_LOG_LEVEL = re.compile(
    r"(?:trace|debug|info|notice|warn|warning|error|critical|fatal|severe)\b", re.IGNORECASE
)
"""What stands at a sender's place in the log of a program."""


def looks_like_log(lines: Iterable[str]) -> bool:
    """Return whether most of some lines, blank ones aside, begin a message of a log."""
    written = [line for line in lines if line.strip()]
    found = sum(_header(line) is not None or bool(_NOTICE.match(line)) for line in written)
    return found >= 2 and found * 2 > len(written)


def read_log(lines: Lines) -> Iterator[Item]:
    """Yield the messages of a log in its order; a message runs to the next one's first line.

    Times without a zone are read as UTC. Whether `05/01/24` is in May or in January is decided by
    the whole log, see `_day_first`. A message too long for a section comes in several. Attachments
    and notices are left out; a remark counts them.
    """
    day_first = _day_first(lines())
    remarks: list[Remark] = []
    open_message: _Open | None = None
    left_out = 0
    for line in lines():
        if isinstance(line, Remark):
            remarks.append(line)
            continue
        match = _header(line.text)
        if match or _STAMP.match(line.text) or _NOTICE.match(line.text):
            if open_message:
                yield from open_message.message()
            open_message = _opened(match, line, day_first) if match else None
            left_out += open_message is None
        elif open_message:
            yield from open_message.go_on(line)
    if open_message:
        yield from open_message.message()
    if left_out:
        detail = f"notices of the log left out (attachments, people who joined): {left_out}"
        yield Remark("skipped_part", detail)
    yield from remarks


@dataclass
class _Open:
    """A message that may go on in the next line."""

    sender: str
    time: float | None
    lines: list[str]
    places: list[Place] = field(default_factory=list)
    size: int = 0

    def go_on(self, line: Line) -> Iterator[Message]:
        """Add a line; yield what is there if it would get too long."""
        if self.size + len(line.text) + 1 > MAX_SECTION_BYTES // 4:
            yield from self.message()
            self.lines, self.places, self.size = [], [], 0
        self.lines.append(line.text)
        if line.text.strip() or not self.places:
            self.places.append(line.place)
        self.size += len(line.text) + 1

    def message(self) -> Iterator[Message]:
        text = "\n".join(self.lines).strip()
        if text:
            yield Message(self.sender, text, self.time, place=hull(self.places))


def _header(line: str) -> re.Match[str] | None:
    """The match of a line that begins a message; a name without a time or `<>` is not enough."""
    match = _MESSAGE.match(line)
    if not match or not (match["stamp"] or match["nick"]):
        return None
    return None if _LOG_LEVEL.match(match["name"] or "") else match


def _opened(match: re.Match[str], line: Line, day_first: bool) -> _Open | None:
    text = line.text[match.end() :]
    if _NO_TEXT.match(text):
        return None
    sender = " ".join((match["name"] or match["nick"]).lstrip("~").split())
    return _Open(sender, _time(match, day_first), [text], [line.place], len(text))


def _day_first(lines: Iterable[Line | Remark]) -> bool:
    """Whether dates that can be read both ways have the day first.

    A number above 12 decides; else the way in which fewer messages go back in time; else the day
    is first.
    """
    day, month = 0, 0
    back = {True: 0, False: 0}
    last: dict[bool, tuple[int, ...]] = {True: (), False: ()}
    for line in lines:
        match = _DATE.match(line.text) if isinstance(line, Line) else None
        if not match:
            continue
        first, second, year = map(int, match.groups())
        day += first > 12
        month += second > 12
        for way, date in ((True, (year, second, first)), (False, (year, first, second))):
            back[way] += date < last[way]
            last[way] = date
    return day > month if day != month else back[True] <= back[False]


def _time(match: re.Match[str], day_first: bool) -> float | None:
    if not match["stamp"]:
        return None
    a, b, c = int(match["a"]), int(match["b"]), int(match["c"])
    if len(match["a"]) == 4:
        year, month, day = a, b, c
    elif day_first:
        day, month, year = a, b, c
    else:
        month, day, year = a, b, c
    hour = int(match["hour"])
    if match["half"]:
        hour = hour % 12 + 12 * (match["half"] in "pP")
    try:
        moment = datetime(
            year + 2000 * (year < 100),
            month,
            day,
            hour,
            int(match["minute"]),
            int(match["second"] or 0),
            tzinfo=_zone(match["zone"]),
        )
    except ValueError:
        return None
    return moment.timestamp()


def _zone(written: str | None) -> timezone:
    if not written or written[0] not in "+-":
        return UTC
    hours, minutes = int(written[1:3]), int(written[-2:])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if written[0] == "-" else offset)


_SENDER = ("sender", "author", "from", "user", "username", "name")
_TIME = ("time", "timestamp", "date", "datetime", "ts", "created_at", "sent_at")
_TEXT = ("text", "message", "body", "content")
_THREAD = ("thread", "channel", "conversation_id")
_MOST_SECONDS = 1e11
"""Larger numbers count milliseconds: as seconds they would lie beyond the year 5000."""


def as_message(fields: dict[str, Any], place: Place = NOWHERE) -> Message | None:
    """Return the message that a row of a table is, or None if it is none.

    It needs columns for sender, time and text under their usual names, in any case; of several
    that fit, the first named here counts. Times are ISO 8601, or seconds or milliseconds since
    1970; any other means that the time is not known.
    """
    columns = {name.strip().lower(): value for name, value in fields.items()}
    if not (any(name in columns for name in _TIME)):
        return None
    sender, text = _first(columns, _SENDER), _first(columns, _TEXT)
    if not isinstance(sender, str | int) or not isinstance(text, str):
        return None
    if not str(sender).strip() or not text.strip():
        return None
    thread = _first(columns, _THREAD)
    return Message(
        str(sender).strip(),
        text.strip(),
        _moment(_first(columns, _TIME)),
        "" if thread is None else str(thread),
        place,
    )


def _first(columns: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((columns[name] for name in names if name in columns), None)


def _moment(value: Any) -> float | None:
    """Seconds since 1970 of a time as tables and JSON write it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not abs(seconds) < _MOST_SECONDS * 1000:
        return None
    return seconds / 1000 if abs(seconds) >= _MOST_SECONDS else seconds
