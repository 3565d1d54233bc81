"""Templates and tokens without torch, beside what transformers makes of them; stop texts."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luthier.inference.v1.generation_pb2 import ChatMessage
from luthier_common.errors import FailedPrecondition, InvalidArgument
from luthier_inference.engines.base_text import BaseText
from luthier_inference.engines.stops import StopTexts
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer

from tests.support.scripted_model import byte_tokenizer

STARTER = Path(__file__).parents[3] / "models" / "starter"
FILES = {path.name: path.read_bytes() for path in STARTER.iterdir() if path.suffix == ".json"}
TEXT = BaseText(FILES)
MESSAGES = [("system", "Be brief."), ("user", "How long?"), ("assistant", "24"), ("user", "Why?")]


def test_a_conversation_is_written_as_transformers_writes_it() -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    told = [{"role": role, "content": content} for role, content in MESSAGES]
    wanted = tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False)
    given_ones = [ChatMessage(role=role, content=content) for role, content in MESSAGES]
    assert TEXT.prompt(given_ones) == wanted
    assert (
        TEXT.tokens(wanted, special=False)
        == tokenizer(wanted, add_special_tokens=False)["input_ids"]
    )


@given(st.text(max_size=40))
def test_tokens_are_the_bytes_of_their_text(text: str) -> None:
    written = b"".join(map(TEXT.token_bytes, TEXT.tokens(text, special=False)))
    # This tokenizer begins every text with a space.
    assert written.decode().removeprefix(" ") == text.removeprefix(" ")


def test_pieces_of_sentences_and_bytes_are_written_out() -> None:
    vocabulary = {"\u2581how": 0, "<0xC3>": 1, "<0xA9>": 2, "</s>": 3}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    text = BaseText({"tokenizer.json": tokenizer.to_str().encode()})
    assert [text.token_bytes(number) for number in range(5)] == [
        b" how", b"\xc3", b"\xa9", b"</s>", b""
    ]  # fmt: skip


def test_a_template_may_refuse_and_may_do_no_harm() -> None:
    for template, told in (
        ("{{ raise_exception('no system messages') }}", "no system messages"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ):
        config = json.dumps({"chat_template": template}).encode()
        files = {"tokenizer.json": FILES["tokenizer.json"], "tokenizer_config.json": config}
        with pytest.raises(InvalidArgument, match=told) as caught:
            BaseText(files).prompt([ChatMessage(role="user", content="x")])
        assert caught.value.reason == "CHAT_TEMPLATE_REFUSED"


def test_what_is_unusable_says_so() -> None:
    for files in ({}, {"tokenizer.json": b"{"}, FILES | {"chat_template.jinja": b"{% if %}"}):
        with pytest.raises(FailedPrecondition) as caught:
            BaseText(files)
        assert caught.value.reason == "BASE_MODEL_UNUSABLE"
    bare = BaseText({"tokenizer.json": byte_tokenizer().to_str().encode()})
    with pytest.raises(FailedPrecondition) as caught:
        bare.prompt([ChatMessage(role="user", content="x")])
    assert caught.value.reason == "CHAT_TEMPLATE_MISSING"


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_text_goes_through_up_to_the_first_stop_text(text: str, stops: list[str]) -> None:
    stream = StopTexts(stops)
    out = "".join(stream.push(character) for character in text) + stream.push("", last=True)
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert (out, stream.stopped) == (text, False)
        return
    first = text[: min(ends)]
    starts = [first.index(stop) for stop in stops if stop in first]
    assert (out, stream.stopped) == (text[: min(starts)], True)
