"""The stream of commands, and the one where refused commands rest until they are replayed."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import nats.js.errors
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc.status_pb2 import Status
from luthier_common.errors import FailedPrecondition, NotFound, Unavailable
from luthier_common.events.stream import open_stream
from luthier_common.names import check_id
from luthier_common.nats_client import NO_MESSAGE_FOUND, translated
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, RawStreamMsg, RetentionPolicy, StreamConfig

COMMANDS = "TRAINER_COMMANDS"
DEAD_LETTERS = "TRAINER_DEAD_LETTERS"

COMMAND_SUBJECT = "luthier.commands.trainer.v1.{project}.submit"
_DEAD_LETTER_SUBJECT = "luthier.deadletters.trainer.v1.{project}.submit"
_PROJECT_TOKEN = 4

_REPEATABLE_HEADER = re.compile(r"(?!nats-)[\w-]+", re.ASCII | re.IGNORECASE)
"""Others are the server's own, or cannot be sent at all."""

MOST_WAITING = 1000
"""Commands of one project that can wait; the next publish is refused."""
MAX_COMMAND_BYTES = 64 << 10
"""With headers; small, so that a dead letter, which escapes them, always finds room."""
_MAX_COMMANDS_BYTES = 1 << 30
_COMMAND_DUPLICATES_SECONDS = 600.0

MOST_DEAD_LETTERS = 1000
"""Dead letters of one project that are kept; the oldest goes first."""
DEAD_LETTER_DAYS = 30
_DAY_SECONDS = 24 * 3600.0
_MAX_DEAD_LETTERS_BYTES = 1 << 30


async def open_command_streams(js: JetStreamContext) -> None:
    """Create both streams if absent; Unavailable while NATS is away.

    Commands are work: each is kept until it is acknowledged, and one that finds no room is
    refused to its publisher, who may try again. The limits of one project leave the others theirs.
    """
    await open_stream(
        js,
        StreamConfig(
            name=COMMANDS,
            subjects=[COMMAND_SUBJECT.format(project="*")],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=MOST_WAITING,
            max_msg_size=MAX_COMMAND_BYTES,
            max_bytes=_MAX_COMMANDS_BYTES,
            duplicate_window=_COMMAND_DUPLICATES_SECONDS,
        ),
    )
    await open_stream(
        js,
        StreamConfig(
            name=DEAD_LETTERS,
            subjects=[_DEAD_LETTER_SUBJECT.format(project="*")],
            discard=DiscardPolicy.OLD,
            max_msgs_per_subject=MOST_DEAD_LETTERS,
            max_age=DEAD_LETTER_DAYS * _DAY_SECONDS,
            max_bytes=_MAX_DEAD_LETTERS_BYTES,
            # Long, so that a refusal that was cut off is not stored twice the next morning.
            duplicate_window=_DAY_SECONDS,
        ),
    )


def project_in(subject: str) -> str:
    """Return the project that a command was published for."""
    return subject.split(".")[_PROJECT_TOKEN]


def delivery_id(message: Msg) -> str:
    """Return an id of a command in its stream, the same at each delivery."""
    stored = message.metadata
    return f"{COMMANDS}-{stored.sequence.stream}-{stored.timestamp.isoformat()}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused command, whole."""

    sequence: int
    """Where it rests."""
    time: datetime
    """When it was refused."""
    subject: str
    headers: dict[str, str]
    payload: bytes
    error: Status
    """Why it was refused."""

    @property
    def project(self) -> str:
        """The project it was published for."""
        return project_in(self.subject)


class DeadLetters:
    """The refused commands of all projects. Methods raise Unavailable while NATS is away."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def store(self, message: Msg, error: Status) -> int:
        """Keep a refused command and return where; the same one again changes nothing."""
        whole = {
            "subject": message.subject,
            # Not headers again: those would mean something to the server, which also limits them.
            "headers": message.headers or {},
            "payload": base64.b64encode(message.data).decode(),
            "error": MessageToDict(error),
        }
        subject = _DEAD_LETTER_SUBJECT.format(project=project_in(message.subject))
        headers: dict[str, str] = {Header.MSG_ID: delivery_id(message)}
        with translated("storing a dead letter"):
            ack = await self._js.publish(
                subject, json.dumps(whole).encode(), stream=DEAD_LETTERS, headers=headers
            )
        return ack.seq

    async def get(self, sequence: int, project: str = "") -> DeadLetter:
        """Return one, of the project if it is given; NotFound, InvalidArgument."""
        found = await self._next(sequence, _token(project))
        if found is None or found.sequence != sequence:
            raise NotFound(f"there is no dead letter {sequence}", reason="DEAD_LETTER_NOT_FOUND")
        return found

    async def list(self, project: str = "") -> AsyncIterator[DeadLetter]:
        """Yield those of one project, or of all, that rest now, oldest first; InvalidArgument."""
        token = _token(project)
        with _reading():
            last = (await self._js.stream_info(DEAD_LETTERS)).state.last_seq
        letter = await self._next(1, token)
        while letter is not None and letter.sequence <= last:
            yield letter
            letter = await self._next(letter.sequence + 1, token)

    async def replay(self, letter: DeadLetter) -> None:
        """Publish the command again as it was, and remove the letter once it is stored.

        ResourceExhausted when too many commands of its project wait.
        """
        headers = {
            name: value
            for name, value in letter.headers.items()
            if _REPEATABLE_HEADER.fullmatch(name)
        }
        with translated(f"replaying dead letter {letter.sequence}"):
            await self._js.publish(letter.subject, letter.payload, stream=COMMANDS, headers=headers)
            await self._js.delete_msg(DEAD_LETTERS, letter.sequence)

    async def _next(self, sequence: int, project: str) -> DeadLetter | None:
        """Return the first at `sequence` or behind it."""
        subject = _DEAD_LETTER_SUBJECT.format(project=project)
        with _reading():
            try:
                found = await self._js.get_msg(DEAD_LETTERS, sequence, subject=subject, next=True)
            except nats.js.errors.NotFoundError as error:
                if error.err_code == NO_MESSAGE_FOUND:
                    return None
                raise
        return _letter(found)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        with translated("reading dead letters"):
            yield
    except Unavailable as error:
        if error.reason != "STREAM_MISSING":
            raise
        raise FailedPrecondition(
            "there is no stream of dead letters: no trainer has run on this NATS server",
            reason="DEAD_LETTERS_MISSING",
        ) from error


def _token(project: str) -> str:
    return check_id(project, field="project") if project else "*"


def _letter(found: RawStreamMsg) -> DeadLetter:
    whole = json.loads(found.data or b"")
    return DeadLetter(
        sequence=cast(int, found.seq),  # the server always says them
        time=cast(datetime, found.time),
        subject=whole["subject"],
        headers=whole["headers"],
        payload=base64.b64decode(whole["payload"]),
        error=ParseDict(whole["error"], Status()),
    )
