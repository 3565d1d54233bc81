"""A worker process of builds: `python -m luthier_dataset.build.worker`."""

from __future__ import annotations

import os
import resource
import sqlite3

import msgspec
from luthier_common.disk import is_disk_full
from luthier_common.errors import PlatformError

from luthier_dataset.build.indexing import make_index
from luthier_dataset.build.jobs import (
    DISK_FULL,
    Answer,
    Finish,
    Job,
    MakeIndex,
    MakeUnit,
    ReadAsModel,
    Refused,
)
from luthier_dataset.build.spans import read_as_model
from luthier_dataset.build.unit import make_unit
from luthier_dataset.child import serve

_MEMORY_BYTES = 8 * 1024**3


def main() -> None:
    """Serve jobs until the service closes the pipe."""
    # One job a process, so more processes are what uses more cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Chat templates are foreign code that may ask for any amount of memory.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    serve(lambda line: msgspec.json.encode(work(msgspec.json.decode(line, type=Job))))


def work(job: Job) -> Answer:
    """Do one job."""
    try:
        match job.task:
            case MakeUnit():
                return make_unit(job.setting, job.task)
            case MakeIndex():
                return make_index(job.setting)
            case ReadAsModel():
                return read_as_model(job.setting, job.task)
            case Finish():
                # Loads Parquet, which the other jobs have no use for.
                from luthier_dataset.build.finishing import finish_build  # noqa: PLC0415

                return finish_build(job.setting, job.task)
    except PlatformError as error:
        return Refused(error.message, error.reason)
    except (OSError, sqlite3.Error) as error:
        if is_disk_full(error):
            return Refused("no room on the disk that builds work on", DISK_FULL)
        raise


if __name__ == "__main__":
    main()
