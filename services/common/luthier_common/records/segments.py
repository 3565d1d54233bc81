"""The journal's files: what lies where, what a line says, and what all of it adds up to.

Below `journal/{owner}/{generation}/` lie segments named `{first}-{last}-{nonce}.jsonl` after the
revisions they hold. A generation is one incarnation of the owner's bucket; revisions compare only
within it. A segment is never rewritten, may overlap others, and any of them may be repeated: the
state is the entry with the highest revision of each name.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from luthier_common.errors import DataLoss, NotFound
from luthier_common.objects.port import ObjectStore, read_all
from luthier_common.records.port import Entry

_KEY = re.compile(r"journal/[^/]+/(\d{20})/(\d{20})-(\d{20})-[0-9a-f]{8}\.jsonl")


@dataclass(frozen=True)
class Segment:
    """One file of a journal."""

    key: str
    generation: str
    last: int
    """The highest revision in it."""


async def list_segments(objects: ObjectStore, owner: str, generation: str = "") -> list[Segment]:
    """Return the owner's segments, of one generation or of all."""
    return [
        Segment(item.key, match[1], int(match[3]))
        async for item in objects.list(_folder(owner, generation))
        if (match := _KEY.fullmatch(item.key))
    ]


async def write_segment(
    objects: ObjectStore, owner: str, generation: str, entries: Iterable[Entry]
) -> Segment:
    """Store the entries as one new segment, durably."""
    ordered = sorted(entries, key=lambda entry: entry.revision)
    first, last = (ordered[0].revision, ordered[-1].revision) if ordered else (0, 0)
    name = f"{first:020d}-{last:020d}-{secrets.token_hex(4)}.jsonl"
    key = _folder(owner, generation) + name
    await objects.put(key, "".join(map(_line, ordered)).encode())
    return Segment(key, generation, last)


async def fold(objects: ObjectStore, segments: Iterable[Segment]) -> dict[str, Entry]:
    """Return the newest entry of each name, deletions included; DataLoss if any is damaged."""
    newest: dict[str, Entry] = {}
    for segment in segments:
        # Gone since it was listed: another process has folded it into a newer one.
        with contextlib.suppress(NotFound):
            data = await read_all(objects, segment.key)
            merge(newest, _entries(segment.key, data))
    return newest


def merge(newest: dict[str, Entry], entries: Iterable[Entry]) -> None:
    """Take in the entries that are newer than those known."""
    for entry in entries:
        known = newest.get(entry.name)
        if known is None or known.revision < entry.revision:
            newest[entry.name] = entry


def _folder(owner: str, generation: str) -> str:
    return f"journal/{owner}/{generation}/" if generation else f"journal/{owner}/"


def _line(entry: Entry) -> str:
    value = None if entry.value is None else json.loads(entry.value)
    content = {"revision": entry.revision, "name": entry.name, "value": value}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def _entries(key: str, data: bytes) -> list[Entry]:
    try:
        return [_entry(line) for line in data.split(b"\n") if line]
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"journal segment {key} is damaged", reason="JOURNAL_DAMAGED") from error


def _entry(line: bytes) -> Entry:
    content = json.loads(line)
    value = content["value"]
    encoded = None if value is None else json.dumps(value, ensure_ascii=False).encode()
    return Entry(str(content["name"]), encoded, int(content["revision"]))
