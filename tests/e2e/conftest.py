"""What tests of whole jobs share."""

from collections.abc import Iterator

import pytest

from tests.support.forked_runs import ForkServer, fork_server


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """The process that forks runs; it takes seconds to start."""
    with fork_server() as running:
        yield running
