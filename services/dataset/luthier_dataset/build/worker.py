"""A worker process of builds: `python -m luthier_dataset.build.worker`."""

from __future__ import annotations

import os

import msgspec
from luthier_common.errors import PlatformError

from luthier_dataset.build.indexing import make_index
from luthier_dataset.build.jobs import Answer, Finish, Job, MakeIndex, MakeUnit, Refused
from luthier_dataset.build.unit import make_unit
from luthier_dataset.child import serve


def main() -> None:
    """Serve jobs until the service closes the pipe."""
    # One job a process, so more processes are what uses more cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    serve(lambda line: msgspec.json.encode(work(msgspec.json.decode(line, type=Job))))


def work(job: Job) -> Answer:
    """Do one job."""
    try:
        match job.task:
            case MakeUnit():
                return make_unit(job.setting, job.task)
            case MakeIndex():
                return make_index(job.setting)
            case Finish():
                # Loads Parquet, which the other jobs have no use for.
                from luthier_dataset.build.finishing import finish_build  # noqa: PLC0415

                return finish_build(job.setting, job.task)
    except PlatformError as error:
        return Refused(error.message, error.reason)


if __name__ == "__main__":
    main()
