from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.chunks import exact_chunks, fitting_chunks, part_of
from luthier_dataset.readers.items import NOWHERE, Place
from luthier_dataset.tokens import TEMPLATE, TOKENIZER, TokenCounter
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests.support.scripted_tools import starter, words

PROSE = (
    "Staff of Acme get 24 days of leave a year; 3 more after ten years. Ask the office first!\n"
    "Größere Wünsche kosten 1.250,00 € im Jahr - früh fragen.  Zwei Leerzeichen.\n\n"
    "- def f(x): return x ** 2  # \t note\n年次有給休暇は二十四日です。"
    "🙂🙂 naïve café <|end|> end\n"
)


def _trained(name: str) -> TokenCounter:
    """A small tokenizer of each family that base models have, trained on the prose."""
    made, trainer = _FAMILIES[name]()
    made.train_from_iterator([PROSE] * 3, trainer)
    return TokenCounter({TOKENIZER: made.to_str().encode(), TEMPLATE: b""})


def _word_piece() -> tuple[Tokenizer, Any]:
    made = Tokenizer(models.WordPiece(unk_token="?"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["?"])


def _unigram() -> tuple[Tokenizer, Any]:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made, trainers.UnigramTrainer(vocab_size=200, unk_token="?", special_tokens=["?"])


def _unparted() -> tuple[Tokenizer, Any]:
    """As in Llama 2: no splitter, so that a token may reach across a space."""
    made = Tokenizer(models.BPE(unk_token="?", fuse_unk=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return made, trainers.BpeTrainer(vocab_size=300, special_tokens=["?"], max_token_length=6)


def _byte_level() -> tuple[Tokenizer, Any]:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return made, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet)


_FAMILIES = {
    "byte_level": _byte_level,
    "word_piece": _word_piece,
    "unigram": _unigram,
    "unparted": _unparted,
}


@cache
def tokenizer(name: str) -> TokenCounter:
    return starter() if name == "starter" else _trained(name)


def lines(text: str) -> Iterator[tuple[str, Place]]:
    """The lines of a text with their exact places."""
    at = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        end = at + len(line.encode())
        yield line, Place(line=number, last_line=number, start=at, end=end)
        at = end


FAMILIES = ["starter", *_FAMILIES]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("tokens", "overlap"), [(7, 0), (64, 0), (64, 16)])
def test_chunks_have_the_exact_length_when_encoded_anew(
    name: str, tokens: int, overlap: int
) -> None:
    counter = tokenizer(name)
    text = PROSE * 10
    chunks = list(exact_chunks(lines(text), counter, tokens, overlap))
    assert len(chunks) >= 10
    assert [chunk.tokens for chunk in chunks] == [counter.count(chunk.text) for chunk in chunks]
    for chunk in chunks[:-1]:
        # Among characters of several tokens there may be no exact cut close by.
        start = len(text.encode()[: chunk.place.start].decode())
        cut = start + len(chunk.text)
        around = {counter.count(text[start:end]) for end in range(cut - 8, cut + 8)}
        assert chunk.tokens == max(count for count in around if count <= tokens)


@pytest.mark.parametrize("name", FAMILIES)
def test_prose_of_short_characters_always_gives_the_exact_length(name: str) -> None:
    text = PROSE.splitlines(keepends=True)[0] * 40
    *full, _ = exact_chunks(lines(text), tokenizer(name), 32)
    assert {chunk.tokens for chunk in full} == {32}


@pytest.mark.parametrize("name", FAMILIES)
def test_each_place_holds_its_chunk(name: str) -> None:
    text = PROSE * 5
    data = text.encode()
    for chunk in exact_chunks(lines(text), tokenizer(name), 40, 10):
        (place,) = chunk.places
        assert data[place.start : place.end].decode() == chunk.text
        assert place.line == data[: place.start].count(b"\n") + 1
        assert place.last_line == data[: place.end - 1].count(b"\n") + 1


@settings(max_examples=50)
@given(
    st.lists(st.text() | st.sampled_from(PROSE.split(" "))),
    st.sampled_from(FAMILIES),
    st.integers(1, 20),
)
def test_joined_chunks_are_the_text(texts: list[str], name: str, tokens: int) -> None:
    counter = tokenizer(name)
    pieces = [(text, NOWHERE) for text in texts]
    chunks = list(exact_chunks(pieces, counter, tokens))
    assert "".join(chunk.text for chunk in chunks) == "".join(texts)
    for chunk in chunks:
        assert chunk.text
        assert chunk.tokens == counter.count(chunk.text)
        assert chunk.tokens <= tokens or len(chunk.text) == 1


def test_an_overlap_begins_so_many_tokens_earlier() -> None:
    text = "".join(PROSE.splitlines(keepends=True)[:2]) * 10
    chunks = list(exact_chunks(lines(text), starter(), 64, 16))
    for chunk, following in pairwise(chunks):
        shared = text[following.start : chunk.start + len(chunk.text)]
        assert chunk.text.endswith(shared)
        # By itself, a text that begins inside a word or number may have a token or two more.
        assert 16 <= starter().count(shared) <= 18


@pytest.mark.parametrize(("tokens", "overlap"), [(0, 0), (8, 8), (8, -1)])
def test_an_overlap_as_long_as_the_chunks_is_refused(tokens: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot overlap"):
        list(exact_chunks([("a", NOWHERE)], starter(), tokens, overlap))


def test_characters_of_several_tokens_give_the_nearest_smaller_chunk() -> None:
    two, three = starter().count("🙂🙂"), starter().count("🙂🙂🙂")
    assert three > two + 1
    first, second, *_ = exact_chunks([("🙂" * 9, NOWHERE)], starter(), two + 1)
    assert (first.text, first.tokens) == ("🙂🙂", two)
    assert second.start == 2


def test_a_character_of_more_tokens_stands_alone() -> None:
    chunks = list(exact_chunks([("🙂🙂", NOWHERE)], starter(), 1))
    assert [chunk.text for chunk in chunks] == ["🙂", "🙂"]
    assert {chunk.tokens for chunk in chunks} == {starter().count("🙂")}


def test_blanks_that_are_no_tokens_do_not_fill_the_memory() -> None:
    chunks = list(
        exact_chunks([("a b", NOWHERE), (" " * 5000, NOWHERE), ("c", NOWHERE)], words(), 4)
    )
    assert [chunk.tokens for chunk in chunks[:2]] == [2, 0]
    assert "".join(chunk.text for chunk in chunks).split() == ["a", "b", "c"]
    assert max(len(chunk.text) for chunk in chunks) <= 64 * 4 * 2


def test_a_chunk_over_several_members_has_a_place_in_each() -> None:
    one = Place(member="a.py", line=1, last_line=1, start=0, end=6)
    other = Place(member="b.py", line=1, last_line=1, start=0, end=6)
    (chunk,) = exact_chunks([("x = 1\n", one), ("\n", NOWHERE), ("y = 2\n", other)], starter(), 99)
    assert chunk.places == (one, other)
    assert chunk.place == one


def test_a_part_is_narrowed_only_where_the_range_is_that_of_its_text() -> None:
    exact, loose = Place(start=10, end=17), Place(start=10, end=30)
    assert part_of(exact, "für uns"[:6], 0, 4) == Place(start=10, end=15)
    assert part_of(exact, "für un", 0, 6) == exact
    assert part_of(loose, "für un", 0, 4) == loose


def fitted(text: str, tokens: int) -> list[str]:
    pieces = [(line, NOWHERE) for line in text.split("\n")]
    return [part for part, _ in fitting_chunks(pieces, words(), tokens)]


def test_lines_are_joined_while_they_fit() -> None:
    assert fitted("a b\nc\nd e", 3) == ["a b\nc", "d e"]


def test_a_long_line_is_cut_by_sentence_then_word() -> None:
    assert fitted("One two three. Four five six. Seven eight.\nNine ten.", 6) == [
        "One two three. Four five six.",
        "Seven eight.\nNine ten.",
    ]
    assert fitted("one two three four five", 2) == ["one two", "three four", "five"]


def test_each_part_of_a_line_keeps_its_bytes() -> None:
    line = "Größe zählt.  Alles andere nicht."
    place = Place(line=4, last_line=4, start=100, end=100 + len(line.encode()))
    data = b" " * 100 + line.encode()
    found = list(fitting_chunks([(line, place)], words(), 2))
    assert [text for text, _ in found] == ["Größe zählt.", "Alles andere", "nicht."]
    assert [data[at.start : at.end].decode() for _, at in found] == [text for text, _ in found]
    assert {at.line for _, at in found} == {4}
