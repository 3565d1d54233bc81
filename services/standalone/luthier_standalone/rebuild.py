"""`luthier records rebuild`: the records, made again from their journals."""

from __future__ import annotations

from luthier_common.errors import FailedPrecondition
from luthier_common.nats_client import open_nats
from luthier_common.nats_process import NatsProcess
from luthier_common.objects.open import open_object_store
from luthier_common.records.jetstream import open_records
from luthier_common.records.journal import rebuild

from luthier_standalone.data_dir import DataDir
from luthier_standalone.platform import SERVICES


async def rebuild_records(data: DataDir) -> dict[str, int]:
    """Replay every owner's journal; return the number of records by owner.

    FailedPrecondition while a platform is up in this directory, or if it holds no journal.
    """
    if not data.objects.is_dir():
        raise _no_journal(data)
    with data.locked():
        objects = await open_object_store(data.objects.as_uri())
        async with NatsProcess(data.nats) as server, open_nats(server.url, name="rebuild") as nats:
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


def _no_journal(data: DataDir) -> FailedPrecondition:
    return FailedPrecondition(f"{data.root} holds no journal", reason="JOURNAL_MISSING")
