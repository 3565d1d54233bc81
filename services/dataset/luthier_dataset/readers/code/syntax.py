"""Parses source code with a bounded amount of work and memory.

Work is counted in steps, not seconds, so that a file is parsed, or not, on every machine alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node, Parser, Point, Tree

from luthier_dataset.readers.code.languages import Language, Role, grammar_of

MAX_PARSED_BYTES = 512 * 1024
"""UTF-8 bytes; larger sources are mostly generated, and their trees would take too much memory."""
MAX_STEPS = 10_000
"""Steps for one file: 100 operations of the parser, or 4 KiB read. Common code takes some 3,000
for MAX_PARSED_BYTES; no file is known to take more than 3 s and 500 MiB within these limits."""

_CHUNK = 4096


class TooMuchWork(Exception):
    """A file needs more steps than there are, so it is not parsed; the message is for its owner."""


class Budget:
    """Steps that are left for the files of one document."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def parse(self, language: Language, source: bytes) -> Tree:
        """Return the tree of a source in UTF-8, with errors where it is wrong; TooMuchWork."""
        if self.left <= 0:
            raise TooMuchWork("the files before it took all the work for one document")
        most = min(MAX_STEPS, self.left)
        steps = 0

        def read(offset: int, _point: Point) -> bytes:
            nonlocal steps
            steps += 1
            return source[offset : offset + _CHUNK]

        def over(_offset: int, _has_error: bool) -> bool:
            nonlocal steps
            steps += 1
            return steps > most

        try:
            return Parser(grammar_of(language)).parse(read, progress_callback=over)
        except ValueError as error:
            # So the library reports a parse that was stopped.
            raise TooMuchWork("it would take too much work to parse") from error
        finally:
            self.left -= min(steps, most)


def nodes_of(language: Language, tree: Tree) -> Iterator[tuple[Role, Node]]:
    """Yield the nodes that have a role, parents before their children.

    A cursor walks without recursion in constant time for each node. Queries do not: they take
    time with the square of the children of a node.
    """
    roles = language.roles
    cursor = tree.walk()
    while True:
        node = cursor.node
        if node is not None and node.is_named and (role := roles.get(node.type)):
            yield role, node
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return
