"""Where the resume states of jobs lie: in the store, under the job and the epoch that saved them.

Files of an epoch are written by its run alone; a zombie writes beside its successor, never over it.
A state counts once its files are named by the job's record (`CommitResumeState`).
"""

from __future__ import annotations

from collections.abc import Iterable

from luthier_common.names import id_of, project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.port import ObjectStore

_FOLDER = "resume-states"


def state_blobs(store: ObjectStore, job: str, epoch: int) -> Blobs:
    """Return the blobs of one epoch of a job, named by its resource name; by SHA-256, as all are.

    Their project is the job's.
    """
    return Blobs(store, f"{_prefix(job)}/{epoch}")


async def clear_states(store: ObjectStore, job: str) -> None:
    """Delete every state of a job that has ended."""
    keys = [info.key async for info in store.list(f"{_prefix(job)}/")]
    for key in keys:
        await store.delete(key)


async def sweep_states(store: ObjectStore, *, keep: Iterable[str]) -> None:
    """Delete the states of all jobs but those to keep: what a trainer that died has left."""
    kept = tuple(f"{_prefix(job)}/" for job in keep)
    keys = [info.key async for info in store.list(f"{_FOLDER}/")]
    for key in keys:
        if not key.startswith(kept):
            await store.delete(key)


def _prefix(job: str) -> str:
    return f"{_FOLDER}/{project_of(job)}/{id_of(job)}"
