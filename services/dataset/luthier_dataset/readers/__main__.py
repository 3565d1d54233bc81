"""The child process that reads one document: `python -m luthier_dataset.readers`.

Arguments: kind, input path, output path, most bytes of memory, most seconds of CPU, most bytes of
output. Status 0 means that the sections are in the output file, 3 that it holds the reason, as
text, why the document cannot be read. Documents come from outside, so nothing else is believed.
"""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

from luthier_dataset.readers.kinds import UNREADABLE, Kind
from luthier_dataset.readers.section import Section, UnreadableDocument, dump
from luthier_dataset.readers.text import read_markdown, read_text
from luthier_dataset.readers.word import read_word

_READERS: dict[Kind, Callable[[Path], list[Section]]] = {
    Kind.WORD: read_word,
    Kind.MARKDOWN: read_markdown,
    Kind.TEXT: read_text,
}


def main(kind: str, source: str, target: str, memory: str, cpu: str, output: str) -> int:
    """Read one document within limits and return the exit status."""
    for limit, most in (
        (resource.RLIMIT_AS, int(memory)),
        (resource.RLIMIT_CPU, int(cpu)),
        (resource.RLIMIT_FSIZE, int(output)),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    try:
        sections = _READERS[Kind(kind)](Path(source))
        if not sections:
            raise UnreadableDocument("it contains no text")
    except UnreadableDocument as error:
        Path(target).write_text(str(error), encoding="utf-8")
        return UNREADABLE
    Path(target).write_bytes(dump(sections))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
