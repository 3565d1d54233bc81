"""Corpora made from seeds: the same bytes on every machine.

The texts are of invented words, drawn as often as words of a language are (Zipf 1949) and mixed
with the function words of English, so that sizes of sentences, tokens and shingles come out as
those of real prose do. A test holds the digests of the corpora.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

MEGABYTE = 1_000_000

_FUNCTION_WORDS = re.findall(
    r"\w+",
    "the of and to a in that is was for on with as it at by be this are from or an which not "
    "have has had but they their its were been all will more when there can if one we what so "
    "no any each may such other than then these must only into after also under between",
)
_VOCABULARY = 20_000
_SENTENCE_END, _PARAGRAPH_END = 18, 4
"""Of 256 words so many end a sentence, and so many of these a paragraph."""


def _vocabulary() -> list[str]:
    """Return the words, most frequent first."""
    random = Random("vocabulary")
    starts = [*"bcdfghlmnprstvw", "br", "cl", "dr", "gr", "pl", "st", "tr"]
    middles = [*"aeiou", "ai", "ea", "ou"]
    ends = ["", "", "", "l", "m", "n", "r", "s", "t", "nd", "st"]
    made = dict.fromkeys(_FUNCTION_WORDS)
    while len(made) < _VOCABULARY:
        syllables = random.choices((1, 2, 3, 4), (2, 5, 3, 1))[0]
        parts = (random.choice(part) for _ in range(syllables) for part in (starts, middles, ends))
        made["".join(parts)] = None
    return list(made)


def _forms(word: str) -> list[str]:
    """Return a word as it stands within a sentence, at its start, its end, a paragraph's end."""
    title = word.capitalize()
    return [f"{one}{end}" for end in (" ", ". ", ".\n\n") for one in (word, title)]


_WORDS = _vocabulary()
_FORMS = [form for word in _WORDS for form in _forms(word)]
_DRAWN = np.searchsorted(
    np.cumsum(1 / np.arange(2, _VOCABULARY + 2)) / np.sum(1 / np.arange(2, _VOCABULARY + 2)),
    (np.arange(65_536) + 0.5) / 65_536,
)
"""The word that each of 65,536 equally likely numbers stands for."""


def prose(random: Random, words: int) -> str:
    """Return so many words in sentences and paragraphs, `.` at the end."""
    drawn = _DRAWN[np.frombuffer(random.randbytes(2 * words), "<u2")]
    chance = np.frombuffer(random.randbytes(words), np.uint8)
    ends = chance < _SENTENCE_END
    ends[-1] = True
    starts = np.roll(ends, 1)
    breaks = ends & (chance < _PARAGRAPH_END)
    forms = drawn * 6 + starts + 2 * ends + 2 * breaks
    return "".join(map(_FORMS.__getitem__, forms.tolist())).rstrip()


def with_edits(random: Random, text: str, edits: int) -> str:
    """Return a text with so many of its words, spread over it, replaced by others."""
    words = text.split(" ")
    for place in random.sample(range(len(words)), edits):
        words[place] = random.choice(_WORDS)
    return " ".join(words)


@dataclass(frozen=True)
class Planted:
    """Texts, some of them edited copies of others."""

    texts: list[str]
    originals: list[int]
    """For each text the number of the one that it was copied from, its own if it was not."""


def near_duplicates(seed: int, texts: int, words: int = 200) -> Planted:
    """Return texts of which a quarter are copies of one before, with one to eight words changed."""
    random = Random(f"near {seed}")
    made: list[str] = []
    originals: list[int] = []
    for number in range(texts):
        if number and random.random() < 0.25:
            original = originals[random.randrange(number)]
            made.append(with_edits(random, made[original], random.randint(1, 8)))
            originals.append(original)
        else:
            made.append(prose(random, words))
            originals.append(number)
    return Planted(made, originals)


def chat_rows(seed: int, size: int) -> Iterator[bytes]:
    """Yield lines of a training file of conversations, `size` bytes of them or a little more."""
    random = Random(f"chat {seed}")
    while size > 0:
        messages = [{"role": "system", "content": prose(random, 20)}]
        for _ in range(random.randint(1, 3)):
            messages.append({"role": "user", "content": prose(random, random.randint(8, 60))})
            messages.append(
                {"role": "assistant", "content": prose(random, random.randint(20, 200))}
            )
        line = json.dumps({"messages": messages}).encode() + b"\n"
        yield line
        size -= len(line)


def short_rows(seed: int, size: int, largest: int = 20 * MEGABYTE) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of files of short conversations, 270 bytes each on average."""
    random = Random(f"short {seed}")
    number = 0
    while size > 0:
        lines: list[bytes] = []
        length = 0
        while length < min(largest, size):
            said = (prose(random, random.randint(4, 14)), prose(random, random.randint(4, 24)))
            roles = zip(("user", "assistant"), said, strict=True)
            messages = [{"role": role, "content": text} for role, text in roles]
            lines.append(json.dumps({"messages": messages}).encode() + b"\n")
            length += len(lines[-1])
        yield f"rows-{number:05}.jsonl", b"".join(lines)
        size -= length
        number += 1


def handbook(seed: int, pages: int) -> bytes:
    """Return a PDF of so many pages: headings of two sizes, prose, tables, page numbers."""
    random = Random(f"handbook {seed}")
    styles = getSampleStyleSheet()
    story: list[Flowable] = []
    for page in range(pages):
        if page % 8 == 0:
            story.append(Paragraph(_title(random), styles["Heading1"]))
        for _ in range(2):
            story.append(Paragraph(_title(random), styles["Heading2"]))
            story += [Paragraph(prose(random, 70), styles["BodyText"]) for _ in range(3)]
        if page % 4 == 0:
            story += [Spacer(1, 8), _table(random)]
        story.append(PageBreak())
    data = io.BytesIO()
    document = SimpleDocTemplate(data, title=f"Handbook {seed}", invariant=True)
    document.build(story, onFirstPage=_number, onLaterPages=_number)
    return data.getvalue()


def documents(seed: int, size: int, largest: int = 20 * MEGABYTE) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of text documents, `size` bytes together or a little more.

    Markdown, plain text and JSON Lines, each document of a hundredth of `largest` up to it. In a
    document, one section, stretch of text or record in twenty nearly repeats one before it.
    """
    random = Random(f"documents {seed}")
    number = 0
    while size > 0:
        wanted = int(largest * math.exp(random.uniform(math.log(0.01), 0)))
        suffix = random.choices(("md", "txt", "jsonl"), (45, 45, 10))[0]
        pieces = _pieces(Random(f"document {seed} {number}"), suffix)
        parts: list[bytes] = []
        length = 0
        while length < min(wanted, size):
            parts.append(next(pieces).encode())
            length += len(parts[-1])
        yield f"document-{number:05}.{suffix}", b"".join(parts)
        size -= length
        number += 1


def _pieces(random: Random, suffix: str) -> Iterator[str]:
    """Yield the sections, paragraphs or records of a document, without end."""
    if suffix == "md":
        yield f"# {_title(random)}\n\n"
    said: list[str] = []
    while True:
        if said and random.random() < 0.05:
            text = with_edits(random, random.choice(said), 2)
        else:
            text = prose(random, random.randint(60, 240))
            said = [*said[-200:], text]
        if suffix == "md":
            yield f"## {_title(random)}\n\n{text}\n\n"
        elif suffix == "txt":
            yield f"{text}\n\n"
        else:
            yield json.dumps({"title": _title(random), "text": text}) + "\n"


def _title(random: Random) -> str:
    return " ".join(random.choices(_WORDS[len(_FUNCTION_WORDS) :], k=3)).capitalize()


def _table(random: Random) -> Table:
    rows = [[_title(random), str(random.randint(1, 9999)), _title(random)] for _ in range(5)]
    return Table(rows, style=TableStyle([("GRID", (0, 0), (-1, -1), 0.5, "black")]))


def _number(canvas: Canvas, document: SimpleDocTemplate) -> None:
    canvas.drawCentredString(300, 30, f"Page {canvas.getPageNumber()}")
