"""Comments without their marks."""

from __future__ import annotations

import html
import inspect
import re
import textwrap

_BLOCK = re.compile(r"/\*+[!/]?|\*+/|^=begin\b|^=end\b", re.MULTILINE)
_STAR = re.compile(r"^[ \t]*\*(?!/) ?", re.MULTILINE)
_LINE = re.compile(r"^[ \t]*(?://[/!]*|#+|--+)", re.MULTILINE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")


def plain(comment: str) -> str:
    """Return the text of a comment, or of several in lines of one kind.

    Kinds are `/* … */`, `// …`, `# …`, `-- …` and `=begin … =end`.
    """
    comment = comment.strip()
    if comment.startswith(("/*", "=begin")):
        return inspect.cleandoc(_STAR.sub("", _BLOCK.sub("", comment))).strip()
    return textwrap.dedent(_LINE.sub("", comment)).strip()


def without_tags(text: str) -> str:
    """Return the text of an XML documentation comment, as C# has them."""
    lines = (" ".join(line.split()) for line in html.unescape(_TAG.sub("", text)).splitlines())
    return "\n".join(line for line in lines if line)
