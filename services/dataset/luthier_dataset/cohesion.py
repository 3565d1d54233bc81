"""Cuts text where its subject changes: TextTiling (Hearst 1997) over sentences.

The vocabulary of the sentences before and behind each gap is compared; a gap is as deep as its
similarity lies below the peaks on both sides. Gaps deeper than the mean less half a standard
deviation part subjects. Deterministic, and no more than a window of sentences lies in memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, takewhile
from statistics import fmean, pstdev

from luthier_dataset.chunks import fitting_chunks, part_of
from luthier_dataset.readers.items import NOWHERE, Block, BlockKind, Place, block_text, hull
from luthier_dataset.sentences import split_sentences
from luthier_dataset.stopwords import WORD, stop_words
from luthier_dataset.tokens import TokenCounter

_BLOCK = 4
"""Sentences compared on each side of a gap."""
_WINDOW = 256
"""Sentences that are looked at together."""
_LANGUAGE = 20
"""Sentences that tell the language."""
_STEM = 6
"""Letters of a word that count: cutting words off is a stemmer for many languages at once
(McNamee and Mayfield 2004)."""

Sections = Iterable[tuple[tuple[str, ...], Iterable[Block]]]


@dataclass(frozen=True)
class CohesiveChunk:
    """A stretch of text about one subject."""

    text: str
    heading_path: tuple[str, ...]
    """Of several sections in one chunk: what their paths share."""
    place: Place


@dataclass(frozen=True)
class _Sentence:
    text: str
    joint: str
    """What joins it to the sentence before."""
    tokens: int
    heading_path: tuple[str, ...]
    place: Place


def semantic_chunks(
    sections: Sections, tokenizer: TokenCounter, most: int, least: int
) -> Iterator[CohesiveChunk]:
    """Yield chunks of `least` to `most` tokens, as added up over their sentences.

    A heading always ends a chunk, but for sections of fewer than `least` tokens: such a one is
    joined with what follows under the same parent, the headings of both kept as lines of the text.
    Only a small section without such a neighbour gives a chunk shorter than `least`, and only a
    single word one longer than `most`.
    """
    waiting: list[_Sentence] = []
    for path, blocks in sections:
        sentences = _sentences(path, blocks, tokenizer, most)
        head = list(_until(sentences, least))
        before = waiting[-1].heading_path if waiting else None
        joined = before is not None and _neighbours(before, path)
        if not joined:
            yield from _chunks(waiting, most, least)
            waiting = []
        small = _size(head) < least
        if path and path != before and (joined or small):
            waiting.append(_Sentence(path[-1], "\n", tokenizer.count(path[-1]), path, NOWHERE))
        waiting += head
        if _size(waiting) >= least:
            yield from _windows(waiting, sentences, most, least)
            waiting = []
    yield from _chunks(waiting, most, least)


def _neighbours(before: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether two sections have one path or one parent; text above all headings has none."""
    return before == path or bool(before and path and before[:-1] == path[:-1])


def _sentences(
    path: tuple[str, ...], blocks: Iterable[Block], tokenizer: TokenCounter, most: int
) -> Iterator[_Sentence]:
    """Yield the sentences of prose, rows of tables and lines of anything else, none too long."""
    for block in blocks:
        text, joint = block_text(block), "\n"
        prose = block.kind in (BlockKind.PARAGRAPH, BlockKind.BULLET)
        at = 0
        for sentence in split_sentences(text) if prose else text.split("\n"):
            at = text.index(sentence, at)
            place = part_of(block.place, text, at, at + len(sentence))
            at += len(sentence)
            tokens = tokenizer.count(joint + sentence)
            if tokens <= most:
                yield _Sentence(sentence, joint, tokens, path, place)
            else:
                for part, inner in fitting_chunks([(sentence, place)], tokenizer, most):
                    yield _Sentence(part, joint, tokenizer.count(joint + part), path, inner)
                    joint = " "
            joint = " " if prose else "\n"


def _windows(
    head: list[_Sentence], rest: Iterator[_Sentence], most: int, least: int
) -> Iterator[CohesiveChunk]:
    """Cut a long text window by window; what the last cut of one leaves begins the next."""
    while more := list(islice(rest, _WINDOW)):
        *settled, head = _segments([*head, *more], most, least)
        yield from _told(settled)
    yield from _chunks(head, most, least)


def _chunks(sentences: Sequence[_Sentence], most: int, least: int) -> Iterator[CohesiveChunk]:
    return _told(_segments(sentences, most, least))


def _told(segments: Iterable[Sequence[_Sentence]]) -> Iterator[CohesiveChunk]:
    chunks = map(_chunk, segments)
    return (chunk for chunk in chunks if chunk.text.strip())


def _segments(sentences: Sequence[_Sentence], most: int, least: int) -> list[list[_Sentence]]:
    """Cut at the deepest gap, and the parts again, while they are too long or change subject."""
    depths = _depths(sentences)
    changes = _changes(depths)
    before = [0, *accumulate(sentence.tokens for sentence in sentences)]

    def cut(start: int, end: int) -> int | None:
        size = before[end] - before[start]
        gaps = [
            gap
            for gap in range(start + 1, end)
            if least <= before[gap] - before[start] <= size - least
        ]
        if size <= most:
            gaps = [gap for gap in gaps if gap in changes]
        # The middle one of equally deep gaps: texts without words have no deepest one.
        return max(
            gaps or (range(start + 1, end) if size > most else ()),
            key=lambda gap: (depths[gap], -abs(2 * before[gap] - before[start] - before[end])),
            default=None,
        )

    segments: list[list[_Sentence]] = []
    open_ones = [(0, len(sentences))] if sentences else []
    while open_ones:
        start, end = open_ones.pop()
        gap = cut(start, end)
        if gap is None:
            segments.append(list(sentences[start:end]))
        else:
            open_ones += [(gap, end), (start, gap)]
    return segments


def _changes(depths: Sequence[float]) -> set[int]:
    """Return the gaps where the subject changes: deep ones, and deeper than those beside them."""
    inner = depths[1:-1]
    if not inner:
        return set()
    least = fmean(inner) - pstdev(inner) / 2
    return {
        gap
        for gap, depth in enumerate(depths)
        if depth > max(least, 0) and depth == max(depths[gap - 1 : gap + 2])
    }


def _depths(sentences: Sequence[_Sentence]) -> list[float]:
    """Return the depth of the gap before each sentence, and of the end; both ends have 0."""
    stops = stop_words(" ".join(sentence.text for sentence in sentences[:_LANGUAGE]))
    bags = [_stems(sentence.text, stops) for sentence in sentences]
    alike = [
        _cosine(bags[max(0, gap - _BLOCK) : gap], bags[gap : gap + _BLOCK])
        for gap in range(1, len(bags))
    ]
    peaks = zip(_peaks(alike), reversed(_peaks(alike[::-1])), strict=True)
    inner = [left + right - 2 * here for here, (left, right) in zip(alike, peaks, strict=True)]
    return [0.0, *inner, 0.0]


def _peaks(values: Sequence[float]) -> list[float]:
    """Return for each value the top of the slope that leads up from it to the left."""
    peaks: list[float] = []
    for place, value in enumerate(values):
        peaks.append(peaks[-1] if place and values[place - 1] >= value else value)
    return peaks


def _cosine(left: Sequence[Counter[str]], right: Sequence[Counter[str]]) -> float:
    one, other = _sum(left), _sum(right)
    both = sum(count * other[stem] for stem, count in one.items())
    norm = math.sqrt(
        sum(count * count for count in one.values()) * sum(n * n for n in other.values())
    )
    return both / norm if norm else 0.0


def _sum(bags: Sequence[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for bag in bags:
        total.update(bag)
    return total


def _stems(text: str, stops: frozenset[str]) -> Counter[str]:
    words = (match[0] for match in WORD.finditer(text.casefold()))
    return Counter(word[:_STEM] for word in words if word not in stops)


def _until(sentences: Iterator[_Sentence], tokens: int) -> Iterator[_Sentence]:
    """Yield sentences up to so many tokens."""
    size = 0
    while size < tokens and (sentence := next(sentences, None)):
        size += sentence.tokens
        yield sentence


def _size(sentences: Iterable[_Sentence]) -> int:
    return sum(sentence.tokens for sentence in sentences)


def _chunk(sentences: Sequence[_Sentence]) -> CohesiveChunk:
    first, *rest = sentences
    text = first.text + "".join(sentence.joint + sentence.text for sentence in rest)
    path = first.heading_path
    for sentence in rest:
        shared = zip(path, sentence.heading_path, strict=False)
        path = tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], shared))
    places = [sentence.place for sentence in sentences if sentence.place != NOWHERE]
    return CohesiveChunk(text, path, hull(places))
