"""Tokens of rows, without torch."""

import json
from typing import Any

import pytest
from luthier_common.errors import FailedPrecondition
from luthier_trainer.preflight.tokens import TokenCounter
from luthier_trainer.shapes import Shape
from tokenizers import Tokenizer, models, pre_tokenizers, processors

TEMPLATE = "{% for one in messages %}{{ one['role'] }} {{ one['content'] }} end {% endfor %}"
ASKED = {"role": "user", "content": "a b c"}
ANSWERED = {"role": "assistant", "content": "d e"}


def files(template: str | None = TEMPLATE, **config: Any) -> dict[str, bytes]:
    words = {word: number for number, word in enumerate(["?", "<s>", "</s>"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    found = {"tokenizer.json": tokenizer.to_str().encode()}
    found["tokenizer_config.json"] = json.dumps({"eos_token": "</s>"} | config).encode()
    return found | ({"chat_template.jinja": template.encode()} if template else {})


def test_a_text_is_counted_with_what_a_run_adds() -> None:
    counter = TokenCounter(files())
    assert counter.lengths(Shape.TEXT, {"text": "a b c"}) == [1 + 3 + 1]
    assert counter.lengths(Shape.TEXT, {"text": "a b c</s>"}) == [1 + 3 + 1]


def test_the_tokenizers_own_limits_do_not_count() -> None:
    given = files()
    tokenizer = Tokenizer.from_str(given["tokenizer.json"].decode())
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=16)
    counter = TokenCounter(given | {"tokenizer.json": tokenizer.to_str().encode()})
    assert counter.lengths(Shape.TEXT, {"text": "a b c d e"}) == [1 + 5 + 1]


def test_a_pair_is_one_sequence_or_for_an_encoder_decoder_two() -> None:
    row = {"prompt": "a b ", "completion": "c"}
    counter = TokenCounter(files())
    assert counter.lengths(Shape.PAIR, row) == [1 + 3 + 1]
    assert counter.lengths(Shape.PAIR, row, sides=True) == [1 + 2, 1 + 1]


def test_a_conversation_is_counted_as_its_template_writes_it() -> None:
    counter = TokenCounter(files())
    assert counter.has_chat_template
    assert counter.lengths(Shape.CHAT, {"messages": [ASKED, ANSWERED]}) == [5 + 4]


def test_a_preference_has_two_sequences() -> None:
    row = {
        "input": {"messages": [ASKED]},
        "preferred_output": [ANSWERED],
        "non_preferred_output": [{"role": "assistant", "content": "f"}],
    }
    assert TokenCounter(files()).lengths(Shape.PREFERENCE, row) == [9, 8]


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no') }}", "{{ messages.nothing.more }}", None],
)
def test_what_the_template_refuses_is_counted_bare(template: str | None) -> None:
    counter = TokenCounter(files(template))
    assert counter.lengths(Shape.CHAT, {"messages": [ASKED, ANSWERED]}) == [3 + 2]
    assert counter.has_chat_template == (template is not None)


def test_the_template_may_be_in_the_tokenizers_configuration() -> None:
    named = [{"name": "default", "template": TEMPLATE}, {"name": "other", "template": ""}]
    for template in (TEMPLATE, named):
        counter = TokenCounter(files(None, chat_template=template))
        assert counter.lengths(Shape.CHAT, {"messages": [ASKED]}) == [5]


def test_a_template_runs_in_a_sandbox() -> None:
    escape = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    counter = TokenCounter(files(escape))
    assert counter.lengths(Shape.CHAT, {"messages": [ASKED]}) == [3]


def test_calls_have_their_arguments_as_objects() -> None:
    template = "{% for one in messages %}{{ one.tool_calls[0].function.arguments.k }}{% endfor %}"
    call = {"type": "function", "function": {"name": "f", "arguments": '{"k": "a b"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert TokenCounter(files(template)).lengths(Shape.CHAT, {"messages": [message]}) == [2]


@pytest.mark.parametrize(
    "broken",
    [
        {"tokenizer.json": b"{"},
        {"chat_template.jinja": b"{% if"},
        {"tokenizer_config.json": b"{"},
    ],
)
def test_a_base_model_that_cannot_be_counted_with_is_told(broken: dict[str, bytes]) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        TokenCounter(files() | broken)
    assert caught.value.reason == "BASE_MODEL_UNUSABLE"
