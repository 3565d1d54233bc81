"""`luthier records rebuild`: the records, made again from their journals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from luthier_common.errors import FailedPrecondition
from luthier_common.nats_client import open_nats
from luthier_common.records.jetstream import open_records
from luthier_common.records.journal import rebuild
from luthier_common.settings import load

from luthier_standalone.backends import Backends, own_nats
from luthier_standalone.data_dir import DataDir
from luthier_standalone.platform import SERVICES


async def rebuild_records(data: DataDir) -> dict[str, int]:
    """Replay every owner's journal; return the number of records by owner.

    FailedPrecondition while a platform is up in this directory, or if it holds no journal.
    """
    backends = load(Backends)
    if not backends.objects_url and not data.objects.is_dir():
        raise _no_journal(data)
    with data.locked():
        objects = await backends.open_objects(data)
        async with _nats_url(backends, data) as url, open_nats(url, name="rebuild") as nats:
            jetstream = nats.jetstream()
            restored: dict[str, int] = {}
            for owner in SERVICES:
                records = await open_records(jetstream, owner, replicas=1)
                try:
                    restored[owner] = await rebuild(objects, records)
                except FailedPrecondition as error:
                    # An owner that never had a record has no journal either.
                    if error.reason != "JOURNAL_MISSING":
                        raise
    if not restored:
        raise _no_journal(data)
    return restored


@asynccontextmanager
async def _nats_url(backends: Backends, data: DataDir) -> AsyncIterator[str]:
    """The address of the server in the environment, or of one of our own while it is used."""
    if backends.nats_url:
        yield backends.nats_url
        return
    async with own_nats(data) as server:
        yield server.url


def _no_journal(data: DataDir) -> FailedPrecondition:
    return FailedPrecondition(f"{data.root} holds no journal", reason="JOURNAL_MISSING")
