"""`luthier commands`: refused commands, listed and published again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf.message import DecodeError
from luthier.trainer.v1.command_pb2 import SubmitTrainingJob
from luthier_common import nats_client
from luthier_common.errors import PermissionDenied, Unavailable
from luthier_common.nats_client import open_nats
from luthier_trainer.dead_letters import DeadLetter, DeadLetters
from rich.markup import escape
from rich.table import Table

_CONNECT_SECONDS = 5.0
_NOT_ALLOWED = "permissions violation"
"""What the server says to a user whose permissions leave something out."""


@asynccontextmanager
async def open_dead_letters(nats_url: str) -> AsyncIterator[DeadLetters]:
    """Connect; PermissionDenied inside when the URL's user has not the trainer's access."""
    # The error that is raised says it once; each attempt need not.
    logging.getLogger(nats_client.__name__).addHandler(logging.NullHandler())
    async with open_nats(nats_url, name="luthier commands", timeout=_CONNECT_SECONDS) as client:
        try:
            yield DeadLetters(client.jetstream())
        except Unavailable as error:
            # The server does not answer a request that is not allowed.
            if _NOT_ALLOWED not in str(client.last_error).lower():
                raise
            raise PermissionDenied(
                "this user of NATS may not read or replay dead letters: use the trainer's own "
                "(--nats-url, or LUTHIER_NATS_URL)",
                reason="NATS_REFUSED",
            ) from error


async def replay(letters: DeadLetters, project: str, sequence: int | None) -> AsyncIterator[int]:
    """Replay one dead letter, or all that rest now; yield the sequence of each that is done.

    What is refused again meanwhile comes to rest behind them and is left there.
    """
    if sequence is not None:
        await letters.replay(await letters.get(sequence, project))
        yield sequence
        return
    async for letter in letters.list(project):
        await letters.replay(letter)
        yield letter.sequence


async def table(letters: DeadLetters, project: str) -> Table:
    """Return the dead letters of one project, or of all, as a table."""
    shown = Table("sequence", "project", "refused", "request id", "reason")
    async for letter in letters.list(project):
        when = letter.time.astimezone().isoformat(sep=" ", timespec="seconds")
        texts = (letter.project, when, _request_id(letter), letter.error.message)
        shown.add_row(str(letter.sequence), *map(_plain, texts))
    return shown


def _request_id(letter: DeadLetter) -> str:
    try:
        return SubmitTrainingJob.FromString(letter.payload).request_id
    except DecodeError:
        return ""


def _plain(text: str) -> str:
    """What a stranger wrote, without power over the terminal."""
    return escape(text if text.isprintable() else ascii(text))
