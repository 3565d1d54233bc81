"""The child process that reads documents: `python -m luthier_dataset.readers MEMORY_BYTES`.

Documents come from outside, so their parsers run here: with little memory, a bounded time and
output for each document, no network where the kernel allows that, and none of the platform's
secrets. What a parser does beyond `UnreadableDocument` ends the process; the service goes on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys
from collections import Counter
from pathlib import Path

import msgspec
from luthier_common.disk import is_disk_full

from luthier_dataset.child import serve
from luthier_dataset.readers.items import Remark, UnreadableDocument, dump
from luthier_dataset.readers.job import EXIT_MEMORY, EXIT_OUTPUT, PART_BYTES, Reading, ReadJob
from luthier_dataset.readers.kinds import reader_of

_EXAMPLES = 5
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def main(memory_bytes: str) -> None:
    """Serve jobs within limits until the service closes the pipe."""
    for limit, most in (
        (resource.RLIMIT_AS, int(memory_bytes)),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    _leave_network()
    serve(lambda line: msgspec.json.encode(read(msgspec.json.decode(line, type=ReadJob))))


def read(job: ReadJob) -> Reading:
    """Read one document within its limits of time and output."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + job.cpu_seconds
    for limit, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, job.output_bytes),
    ):
        resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))
    return attempt(job)


def attempt(job: ReadJob) -> Reading:
    """Read one document, or say why that cannot be."""
    try:
        return _read(job)
    except UnreadableDocument as error:
        return Reading(unreadable=str(error))
    except (MemoryError, SystemError):
        # CPython 3.11 loses some of its own memory errors: "error return without exception set".
        sys.exit(EXIT_MEMORY)
    except OSError as error:
        if is_disk_full(error):
            return Reading(no_room=True)
        if error.errno == errno.EFBIG:
            sys.exit(EXIT_OUTPUT)
        raise


def _read(job: ReadJob) -> Reading:
    items, size, cuts, share = 0, 0, [0], 1.0
    document = Path(job.document)
    document_bytes = document.stat().st_size
    remarks: Counter[str] = Counter()
    examples: list[Remark] = []
    with Path(job.target).open("wb") as target:
        for item in reader_of(job.kind)(document):
            if size - cuts[-1] >= PART_BYTES:
                cuts.append(size)
            size += target.write(dump(item))
            items += 1
            if isinstance(item, Remark):
                remarks[item.code] += 1
                if remarks[item.code] <= _EXAMPLES:
                    examples.append(item)
            elif 0 < job.most_bytes <= size and (known := job.share(item, document_bytes)):
                share = known
                break
    if items == remarks.total():
        raise UnreadableDocument(examples[0].detail if examples else "it contains no text")
    return Reading("", items, (*cuts, size), dict(remarks), tuple(examples), share)


def _leave_network() -> None:
    """Move to a network of its own, which has no address; without the right to, stay."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    libc.unshare(flags)


if __name__ == "__main__":
    main(*sys.argv[1:])
