"""Cuts text into chunks of so many tokens, and knows where in the document each one stands."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, takewhile

import msgspec
from tokenizers import Encoding

from luthier_dataset.readers.items import NOWHERE, Place, hull
from luthier_dataset.sentences import split_sentences
from luthier_dataset.tokens import TokenCounter

_BLOCK = 64 * 1024
"""Characters read at a time."""
_MOST_CHARACTERS = 64
"""Characters for each wanted token that are looked at before a chunk is closed short of tokens;
only blanks and endless words, which some tokenizers hardly count, come to that."""
_REACH = 24
"""Characters by which a cut is moved for an exact count."""
_NEARBY = 128
"""Characters before the cut in which a word must begin."""
_WORD_START = re.compile(r"(?<=\w) (?=[^\W\d_])")
"""A space between two words: a tokenizer that parts words cuts here whatever stands around."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of text."""

    text: str
    places: tuple[Place, ...]
    """Where it stands, one place for each member of an archive that it touches, in order;
    NOWHERE if its pieces do not say."""
    tokens: int
    """Tokens of the text encoded by itself."""
    start: int
    """Characters of the stream before it."""

    @property
    def place(self) -> Place:
        """The first of the places."""
        return self.places[0]


def exact_chunks(
    pieces: Iterable[tuple[str, Place]], tokenizer: TokenCounter, tokens: int, overlap: int = 0
) -> Iterator[Chunk]:
    """Cut a stream of pieces into chunks of exactly `tokens` tokens; the last may have fewer.

    Pieces (lines or blocks, up to some 64 KiB) are joined as they are: line breaks and other
    additions are pieces too, at NOWHERE. The tokens of a chunk are those of its text encoded by
    itself. Where no cut nearby gives the exact number, as among characters of several tokens, the
    chunk has the next smaller one, which its `tokens` says; only a single character can have more.
    Each chunk begins `overlap` tokens before the end of the one before; without overlap the chunks
    joined are the pieces joined. Raises ValueError unless 0 <= overlap < tokens.
    """
    if not 0 <= overlap < tokens:
        raise ValueError(f"chunks of {tokens} tokens cannot overlap by {overlap}")
    stream = _Stream(pieces)
    width = 4 * tokens + _REACH
    while text := stream.peek(width):
        encoded = tokenizer.encode(text)
        short = len(encoded) <= tokens
        if short and len(text) == width < _MOST_CHARACTERS * tokens:
            width = 2 * width
            continue
        cut, count = (len(text), len(encoded)) if short else _cut(text, encoded, tokens, tokenizer)
        yield Chunk(text[:cut], stream.places(cut), count, stream.position)
        if short and len(text) < width:
            return
        start = _end(encoded, count - overlap - 1) if 0 < overlap < count else cut
        stream.skip(start if 0 < start < cut else cut)
        # What chunks took of late and a little more: encoding is nearly all of the cost.
        width = (3 * width + cut + cut // 12 + _REACH) // 4


def fitting_chunks(
    lines: Iterable[tuple[str, Place]], tokenizer: TokenCounter, tokens: int
) -> Iterator[tuple[str, Place]]:
    """Join lines to chunks of at most `tokens` tokens; cut longer lines by sentence, then word.

    A single word longer than that stays whole. Tokens are added up over lines, which comes to the
    count of the chunk or, where a tokenizer joins across a line break, a little more.
    """
    part, size = "", 0
    first = last = NOWHERE
    for piece, separator, cost, place in _pieces(lines, tokenizer, tokens):
        joined = cost + (tokenizer.count(separator) if part else 0)
        if part and size + joined > tokens:
            yield part, hull((first, last))
            part, size, first = piece, cost, place
        else:
            first = first if part else place
            part, size = (part + separator + piece if part else piece), size + joined
        last = place
    if part:
        yield part, hull((first, last))


def _pieces(
    lines: Iterable[tuple[str, Place]], tokenizer: TokenCounter, tokens: int
) -> Iterator[tuple[str, str, int, Place]]:
    """Yield pieces that fit, each with what joins it to the one before, its tokens and place."""
    for line, place in lines:
        count = tokenizer.count(line)
        if count <= tokens:
            yield line, "\n", count, place
            continue
        separator, at = "\n", 0
        for sentence in split_sentences(line):
            count = tokenizer.count(sentence)
            for piece in [sentence] if count <= tokens else sentence.split():
                at = line.index(piece, at)
                cost = count if piece is sentence else tokenizer.count(piece)
                yield piece, separator, cost, part_of(place, line, at, at + len(piece))
                at += len(piece)
                separator = " "


def part_of(place: Place, text: str, start: int, end: int) -> Place:
    """Return the place of the characters `start` to `end` of a text.

    Narrower than the text's own where that is an exact range of the text's bytes.
    """
    whole = start == 0 and end == len(text)
    if whole or _bytes(text, len(text)) != place.end - place.start:
        return place
    return msgspec.structs.replace(
        place, start=place.start + _bytes(text, start), end=place.start + _bytes(text, end)
    )


def _bytes(text: str, characters: int) -> int:
    """Return the UTF-8 bytes of the first characters."""
    return characters if text.isascii() else len(text[:characters].encode())


def _cut(text: str, encoded: Encoding, tokens: int, tokenizer: TokenCounter) -> tuple[int, int]:
    """Return where to cut a text of more than `tokens` tokens, and the tokens before the cut.

    A token boundary inside the text is not always the place: what stands behind it may have
    joined or parted the last tokens. So the text up to the cut is encoded anew, from a word
    on before which nothing can change, if the tokenizer parts words.
    """
    aim = _end(encoded, tokens - 1)
    word, before = _last_word(text, encoded, aim - _REACH) if tokenizer.parts_words else (0, 0)

    def count(cut: int) -> int:
        return before + tokenizer.count(text[word:cut])

    found = count(aim)
    if found == tokens:
        return aim, found
    least = max(word + 2, 1)
    below = range(aim - 1, max(aim - _REACH, least) - 1, -1)
    above = range(aim + 1, min(aim + _REACH, len(text) - 1) + 1)
    best = (found, aim)
    for cut in chain(below, above) if found > tokens else chain(above, below):
        found = count(cut)
        if found == tokens:
            return cut, found
        if found < tokens and (best[0] > tokens or (found, cut) > best):
            best = (found, cut)
    cut = best[1]
    while best[0] > tokens and cut > 1:
        cut -= 1
        best = (tokenizer.count(text[:cut]), cut)
    return best[1], best[0]


def _last_word(text: str, encoded: Encoding, before: int) -> tuple[int, int]:
    """Return the space before a word and the tokens up to it, (0, 0) if none stands close by."""
    found = list(_WORD_START.finditer(text, max(0, before - _NEARBY), max(0, before)))
    for space in (match.start() for match in reversed(found)):
        token = encoded.char_to_token(space - 1)
        if token is not None and _end(encoded, token) == space:
            return space, token + 1
    return 0, 0


def _end(encoded: Encoding, token: int) -> int:
    """Return the character behind a token."""
    span = encoded.token_to_chars(token)
    return span[1] if span else 0


@dataclass(frozen=True)
class _Piece:
    """A piece in the stream."""

    text: str
    place: Place
    start: int
    """Characters of the stream before it."""

    def part(self, start: int, end: int) -> Place:
        """Return the place of a part, given in characters of the stream."""
        first, last = max(start - self.start, 0), min(end - self.start, len(self.text))
        return part_of(self.place, self.text, first, last)


class _Stream:
    """Pieces read as one text, of which only what is being cut lies in memory."""

    def __init__(self, pieces: Iterable[tuple[str, Place]]) -> None:
        self._pieces = iter(pieces)
        self._held: deque[_Piece] = deque()
        self._text = ""
        self._first = 0
        """Stream position of the text held."""
        self._next = 0
        """Stream position of what is next, at or behind the start of the text held."""

    def peek(self, length: int) -> str:
        """Return the next characters, fewer at the end."""
        start = self._next - self._first
        if len(self._text) - start < length:
            self._read(start, length)
            start = 0
        return self._text[start : start + length]

    @property
    def position(self) -> int:
        """Characters before what is next."""
        return self._next

    def skip(self, length: int) -> None:
        """Go on behind so many characters."""
        self._next += length
        while self._held and self._held[0].start + len(self._held[0].text) <= self._next:
            self._held.popleft()

    def places(self, length: int) -> tuple[Place, ...]:
        """Return where the next characters stand."""
        end = self._next + length
        found = [
            piece.part(self._next, end)
            for piece in takewhile(lambda piece: piece.start < end, self._held)
            if piece.place != NOWHERE
        ]
        members = groupby(found, key=lambda place: place.member)
        return tuple(hull(group) for _, group in members) or (NOWHERE,)

    def _read(self, start: int, length: int) -> None:
        parts = [self._text[start:]]
        size = len(parts[0])
        self._first = self._next
        while size < length + _BLOCK and (piece := next(self._pieces, None)):
            text, place = piece
            if text:
                self._held.append(_Piece(text, place, self._first + size))
                parts.append(text)
                size += len(text)
        self._text = "".join(parts)
