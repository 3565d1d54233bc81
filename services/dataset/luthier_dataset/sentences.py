"""Splits prose into sentences by rules: abbreviations, initials, numbers and times stay whole."""

from __future__ import annotations

import re

_OPENING = "\"'([«\u201c\u2018"
_CLOSING = "\"')]»\u201d\u2019"
_END = re.compile(rf"[.!?…]+[{re.escape(_CLOSING)}]*\s+(?=[{re.escape(_OPENING)}]*[^\W_a-z])")
"""A possible end: punctuation, then white space, then what can begin a sentence."""

_NEVER_LAST = re.compile(
    r"mr|mrs|ms|dr|prof|st|rev|hon|gen|col|capt|lt|sgt|messrs|e\.g|i\.e|cf|vs|viz|approx"
    r"|ca|bzw|z|z\.b|d\.h|u\.a|hr|fr",
    re.IGNORECASE,
)
"""Abbreviations after which a sentence goes on."""
_BEFORE_NUMBER = re.compile(
    r"no|nos|nr|art|sec|fig|vol|ch|p|pp|para|ext|tel|par|abs|ziff", re.IGNORECASE
)
"""Abbreviations only where a number follows."""
_NUMBERED = re.compile(r"\(?\d{1,3}\.")
"""A list number at the start of a text."""


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text without line breaks, in order, nothing lost but space."""
    sentences = []
    start = 0
    for match in _END.finditer(text):
        if _ends(text[start : match.end()].rstrip(), text[match.end() : match.end() + 1]):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends(sentence: str, following: str) -> bool:
    if not sentence.endswith("."):
        return True
    if _NUMBERED.fullmatch(sentence):
        return False
    last = sentence.rpartition(" ")[2].lstrip(_OPENING)[:-1]
    if _NEVER_LAST.fullmatch(last):
        return False
    if _BEFORE_NUMBER.fullmatch(last):
        return not following.isdigit()
    # A single capital is an initial, as in "J. R. Miller" - unless it is the whole word "I".
    return not (len(last) == 1 and last.isupper() and last != "I")
