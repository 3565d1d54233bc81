"""Recipe `conversations`: message logs cut into conversations, one side of each the assistant.

Messages are taken as they come, and conversations are open side by side, one for each thread. A
message that is at most `gap_seconds` away from the open conversation of its thread belongs to it,
in the order of time; one that is further away, later or earlier, ends it and begins its own. So a
log may run forwards or backwards and is never held whole. Messages without a time stay where they
stand and end nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from luthier.dataset.v1.recipe_pb2 import ConversationsRecipe, Recipe

from luthier_dataset.readers.chat_log import as_message
from luthier_dataset.readers.items import Message, Place, Record, hull
from luthier_dataset.recipes.recipe import Document, Kind, Origin, Row, Shape, Tools

NAME = "conversations"
SHORT_CONVERSATION = "short_conversation"
_DEFAULT_GAP = 3600
_DEFAULT_MIN = 4
_DEFAULT_MAX = 6
_MOST_OPEN = 16 * 1024 * 1024
"""Characters of all open conversations; beyond it the one that has been silent longest ends."""
_UNKNOWN = float("-inf")


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each piece of `min_exchanges` to `max_exchanges` of a conversation.

    Long conversations are cut evenly. One of fewer than `min_exchanges`, or the end that no cut
    can hold, is dropped and counted. Pieces of one conversation share a group.
    """
    wanted = config.conversations
    least = wanted.min_exchanges or _DEFAULT_MIN
    most = wanted.max_exchanges or max(least, _DEFAULT_MAX)
    conversations = _conversations(_messages(document), wanted.gap_seconds or _DEFAULT_GAP)
    for number, conversation in enumerate(conversations, start=1):
        exchanges = _exchanges(conversation, wanted.assistants)
        start = 0
        for size in _sizes(len(exchanges), least, most):
            piece = exchanges[start : start + size]
            yield _row(wanted, piece, document.file, f"{document.sha256}:{number}")
            start += size
        # A conversation without any exchange is one that is too short.
        if start < max(1, len(exchanges)):
            tools.drop(SHORT_CONVERSATION)


def check(config: Recipe) -> None:
    """Refuse negative numbers, and more exchanges at least than at most."""
    wanted = config.conversations
    for name in ("gap_seconds", "min_exchanges", "max_exchanges"):
        if getattr(wanted, name) < 0:
            raise ValueError(f"{name}: must not be negative")
    if wanted.max_exchanges and wanted.max_exchanges < (wanted.min_exchanges or _DEFAULT_MIN):
        raise ValueError("max_exchanges: must not be less than min_exchanges")


KIND = Kind(make_rows, check)


def _sizes(count: int, least: int, most: int) -> list[int]:
    """Return the exchanges of each piece, from `least` to `most`, as even as possible.

    They hold as many of `count` exchanges as such pieces can; where two numbers of pieces hold
    all, the smaller is taken.
    """
    pieces = min(-(-count // most), count // least)
    held = min(count, pieces * most)
    return [held // pieces + (number < held % pieces) for number in range(pieces)]


def _messages(document: Document) -> Iterator[Message]:
    for item in document.items():
        if isinstance(item, Message):
            yield item
        elif isinstance(item, Record) and (message := as_message(item.fields, item.place)):
            yield message


@dataclass
class _Open:
    """A conversation that may go on."""

    messages: list[Message] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Of each message; that of the one before where the log does not say."""
    size: int = 0
    """Characters."""

    def far(self, time: float | None, gap: float) -> bool:
        """Return whether a moment is more than `gap` seconds before the first or after the last."""
        if time is None or self.times[-1] == _UNKNOWN:
            return False
        first = self.times[bisect_right(self.times, _UNKNOWN)]
        return time - self.times[-1] > gap or first - time > gap

    def add(self, message: Message) -> None:
        """Add a message behind those of its time."""
        time = message.time
        if time is None:
            time = self.times[-1] if self.times else _UNKNOWN
        at = bisect_right(self.times, time)
        self.times.insert(at, time)
        self.messages.insert(at, message)
        self.size += len(message.text)


def _conversations(messages: Iterator[Message], gap: float) -> Iterator[list[Message]]:
    """Yield conversations as they end; see the module for when they do."""
    opened: OrderedDict[str, _Open] = OrderedDict()
    """The one that has been silent longest comes first."""
    size = 0
    for message in messages:
        conversation = opened.get(message.thread)
        if conversation and conversation.far(message.time, gap):
            size -= conversation.size
            yield opened.pop(message.thread).messages
        opened.setdefault(message.thread, _Open()).add(message)
        opened.move_to_end(message.thread)
        size += len(message.text)
        while size > _MOST_OPEN:
            _, conversation = opened.popitem(last=False)
            size -= conversation.size
            yield conversation.messages
    for conversation in opened.values():
        yield conversation.messages


@dataclass(frozen=True)
class _Turn:
    """What one side says before the other answers."""

    text: str
    places: tuple[Place, ...]


_Exchange = tuple[_Turn, _Turn]


def _exchanges(messages: Sequence[Message], assistants: Sequence[str]) -> list[_Exchange]:
    """Return the turns of a conversation in pairs, from the first user's to the last answer.

    Without named assistants the one who answers first is the assistant; who else speaks is a user.
    """
    senders = list(dict.fromkeys(message.sender for message in messages))
    answering = set(assistants) or set(senders[1:2])
    group = len([sender for sender in senders if sender not in answering]) > 1
    turns: list[tuple[bool, _Turn]] = []
    for answers, run in groupby(messages, lambda message: message.sender in answering):
        turns.append((answers, _turn(list(run), named=group and not answers)))
    if turns and turns[0][0]:
        del turns[0]
    # Sides alternate by now: every other turn is an answer, and a last question has none.
    return [
        (question, answer)
        for (_, question), (_, answer) in zip(turns[::2], turns[1::2], strict=False)
    ]


def _turn(messages: list[Message], *, named: bool) -> _Turn:
    parts = []
    for sender, run in groupby(messages, lambda message: message.sender):
        text = "\n".join(message.text for message in run)
        parts.append(f"{sender}: {text}" if named else text)
    return _Turn("\n".join(parts), tuple(message.place for message in messages))


def _row(wanted: ConversationsRecipe, piece: list[_Exchange], file: str, group: str) -> Row:
    messages = [{"role": "system", "content": wanted.system}] if wanted.system else []
    places: list[Place] = []
    for question, answer in piece:
        messages.append({"role": "user", "content": question.text})
        messages.append({"role": "assistant", "content": answer.text})
        places += [*question.places, *answer.places]
    # The order of time need not be that of the file.
    places.sort(key=lambda place: (place.member, place.page, place.start, place.line))
    origin = Origin(file, place=hull(places))
    return Row(Shape.CHAT, {"messages": messages}, (origin,), group)
