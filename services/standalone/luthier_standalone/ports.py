"""Free TCP ports for the processes of one machine."""

from __future__ import annotations

import random
import socket

from luthier_common.errors import FailedPrecondition

HOST = "127.0.0.1"

# Below the range that systems hand out to outgoing connections (32768 and up): a service that
# is started again must not find its port taken by somebody's client socket.
_RANGE = range(18_000, 32_000)
_TRIES = 200


def allocate(count: int, *, avoid: frozenset[int] = frozenset()) -> list[int]:
    """Return ports that nobody listens on; FailedPrecondition if there are too few."""
    found: list[int] = []
    for port in random.sample(_RANGE, _TRIES):
        if len(found) == count:
            return found
        if port not in avoid and is_free(port):
            found.append(port)
    raise FailedPrecondition(
        f"no {count} free TCP ports between {_RANGE.start} and {_RANGE.stop}",
        reason="NO_FREE_PORTS",
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as candidate:
        # As servers do: connections that are closing must not count.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((HOST, port))
        except OSError:
            return False
    return True
