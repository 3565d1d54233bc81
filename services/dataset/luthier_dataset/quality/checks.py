"""The checks that look at one row at a time.

All of them together look at 5 to 6 MB of prose a second on one core of a 2-core cloud machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from ftfy.badness import BADNESS_RE
from luthier.dataset.v1.quality_pb2 import QualityCheck

from luthier_dataset.quality.findings import Finding
from luthier_dataset.quality.personal import masked, personal_data_in
from luthier_dataset.quality.secrets import secrets_in
from luthier_dataset.recipes.recipe import Row, Shape, prompt_and_answer

_MOST = 5
"""Values that a row's detail names."""
_CONTROL = re.compile(r"[\ufffd\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")

_PROSE_WORDS = 12
"""Words from which a line is expected to end in punctuation; labels and headings are shorter."""
_WRAPPED_WORDS = 8
"""Words of a line that may go on in the next one."""
_WORD = re.compile(r"[^\W\d_]+")
_NOT_PROSE = re.compile(r"[|;{}<>=\\]|^\s*(?:[-*+•]|\d+[.)])\s|^(?:\t| {4})|^#{1,6} |https?://\S+$")
"""Rows of tables, code, list items, headings: they end as they like."""
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_BREAKS_OFF = re.compile(r"(?:…|\.\.\.|[,(\[{“„«\u2013-])$")


def findings_in(row: Row) -> Iterator[Finding]:
    """Yield what is wrong with a row, at most one finding for each check."""
    _, answer = prompt_and_answer(row)
    if not answer.strip() and not _calls_tools(row):
        yield Finding(QualityCheck.EMPTY_ANSWER, "the answer is empty")
    # A text that is learned whole may be a chunk of a longer one.
    elif row.shape is not Shape.TEXT and (cut := how_cut(answer)):
        yield Finding(QualityCheck.TRUNCATED_ANSWER, cut)
    text = "\n".join(_strings(row.body))
    if damage := _damage(text):
        yield Finding(QualityCheck.DAMAGED_TEXT, damage)
    if secrets := _few(f"{kind}: {value[:4]}…" for kind, value in secrets_in(text)):
        yield Finding(QualityCheck.SECRET, secrets)
    if data := _few(f"{kind}: {masked(value)}" for kind, value in personal_data_in(text)):
        yield Finding(QualityCheck.PERSONAL_DATA, data)


def how_cut(answer: str) -> str:
    """Return how an answer breaks off, empty if it does not seem to."""
    if len(_FENCE.findall(answer)) % 2:
        return "a block of code is not closed"
    line = _last_line(answer)
    words = _WORD.findall(line)
    if len(words) < _PROSE_WORDS or _NOT_PROSE.search(line) or _FENCE.match(line):
        return ""
    end = f"ends in “{line[-30:]}”"
    if _BREAKS_OFF.search(line):
        return end
    # Scripts without capitals have other habits; a line of capitalised words is a title.
    titled = sum(word[0].isupper() for word in words) > 0.7 * len(words)
    return end if line[-1].lower() != line[-1].upper() and not titled else ""


def _last_line(answer: str) -> str:
    """The last line that is not blank, with the lines before it that are wrapped into it."""
    lines = answer.rstrip().splitlines()
    tail = lines.pop() if lines else ""
    while lines and len(_WORD.findall(lines[-1])) >= _WRAPPED_WORDS and lines[-1][-1].isalpha():
        tail = f"{lines.pop()} {tail}"
        if len(_WORD.findall(tail)) >= _PROSE_WORDS:
            break
    return tail


def _damage(text: str) -> str:
    """What shows that a text was decoded wrongly, with the characters around it."""
    found = _CONTROL.search(text)
    if found is None and not text.isascii():
        found = BADNESS_RE.search(text)
    if found is None:
        return ""
    around = text[max(found.start() - 8, 0) : found.end() + 8]
    return f"{found[0]!a} in {around!r}"


def _calls_tools(row: Row) -> bool:
    """Whether the answer is a call of a tool, which has no text."""
    return row.shape is Shape.CHAT and bool(row.body["messages"][-1].get("tool_calls"))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def _few(details: Iterable[str]) -> str:
    return ", ".join(islice(dict.fromkeys(details), _MOST))
