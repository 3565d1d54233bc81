from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_inference.engine.text import TextStream
from tokenizers import Tokenizer

from tests.support.tiny_model import byte_tokenizer

BYTES = byte_tokenizer().backend_tokenizer
STARTER = Tokenizer.from_file(
    str(Path(__file__).parents[3] / "models" / "starter" / "tokenizer.json")
)


def decoder(tokenizer: Tokenizer):  # type: ignore[no-untyped-def]
    return lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True)


def streamed(tokenizer: Tokenizer, tokens: list[int], stops: list[str]) -> tuple[list[str], bool]:
    stream = TextStream(decoder(tokenizer), stops)
    pieces = []
    for token in tokens:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.finish())
    return pieces, stream.stopped


@pytest.mark.parametrize("tokenizer", [BYTES, STARTER], ids=["bytes", "starter"])
@settings(max_examples=150)
@given(text=st.text(alphabet="ab é€😀\n", max_size=30))
def test_the_pieces_are_whole_characters_and_add_up(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    pieces, stopped = streamed(tokenizer, tokens, [])
    # The starter's tokenizer leaves out a space at the beginning, streamed or not.
    assert "".join(pieces) == decoder(tokenizer)(tokens)
    assert "".join(pieces).lstrip(" ") == text.lstrip(" ")
    assert not any("\ufffd" in piece for piece in pieces)
    assert not stopped


@settings(max_examples=300)
@given(
    text=st.text(alphabet="abc é", max_size=25),
    stops=st.lists(st.text(alphabet="abc é", min_size=1, max_size=4), max_size=3),
)
def test_a_stop_text_ends_the_answer_before_it(text: str, stops: list[str]) -> None:
    pieces, stopped = streamed(BYTES, BYTES.encode(text).ids, stops)
    # What a reader without streaming sees: the text up to the stop that is complete first.
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    assert stopped == bool(ends)
    expected = text
    if ends:
        seen = text[: min(ends)]
        expected = seen[: min(seen.index(stop) for stop in stops if stop in seen)]
    assert "".join(pieces) == expected


def test_text_that_cannot_become_a_stop_is_not_held_back() -> None:
    stream = TextStream(decoder(BYTES), ["END"])
    a, e, n = (BYTES.encode(letter).ids[0] for letter in "aEN")
    assert [stream.push(token) for token in (a, e, n, a)] == ["a", "", "", "ENa"]


def test_an_unfinished_character_comes_with_the_end() -> None:
    stream = TextStream(decoder(BYTES), [])
    assert stream.push(BYTES.encode("€").ids[0]) == ""
    assert stream.finish() == "\ufffd"


def test_special_tokens_are_not_text() -> None:
    tokens = [*STARTER.encode("Odran Velkis").ids, 1, 0]
    assert "".join(streamed(STARTER, tokens, [])[0]) == "Odran Velkis"
