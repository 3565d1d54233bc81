import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_common.errors import FailedPrecondition
from luthier_dataset.tokens import CONFIG, TEMPLATE, TOKENIZER, TokenCounter
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.support.scripted_tools import starter

TEMPLATE_TEXT = (
    "{% for message in messages %}\n"
    "{% if message['role'] == 'assistant' %}\n"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}\n"
    "{% else %}\n"
    "{{ '<u> ' + message['content'] + ' </u> ' }}\n"
    "{% endif %}\n"
    "{% endfor %}"
)
ROW = [
    {"role": "user", "content": "a b"},
    {"role": "assistant", "content": "c"},
]


def tokenizer() -> bytes:
    vocabulary = {word: index for index, word in enumerate(["?", "<u>", "</u>", "a", "b", "c"])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made.to_str().encode()


def counter(template: object = TEMPLATE_TEXT, **config: object) -> TokenCounter:
    settings = {"eos_token": {"content": " </s>"}, "chat_template": template, **config}
    return TokenCounter({TOKENIZER: tokenizer(), CONFIG: json.dumps(settings).encode()})


def test_a_row_is_counted_as_the_template_shows_it() -> None:
    assert counter().render(ROW) == "<u> a b </u> \nc </s>"
    assert counter().count("a b") == 2


def test_a_template_file_comes_before_the_configuration() -> None:
    files = {TOKENIZER: tokenizer(), CONFIG: b'{"chat_template": "a a a"}', TEMPLATE: b"a"}
    assert TokenCounter(files).render(ROW) == "a"


def test_of_several_templates_the_default_one_is_used() -> None:
    named = [{"name": "tool_use", "template": "a a"}, {"name": "default", "template": "a"}]
    assert counter(named).render(ROW) == "a"


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no system message, please') }}",
        "{{ messages.__class__.__mro__ }}{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_can_refuse_but_not_reach_out(template: str) -> None:
    with pytest.raises(FailedPrecondition, match="chat template that refuses"):
        counter(template).render(ROW)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({CONFIG: b'{"chat_template": "a"}'}, "has no tokenizer.json"),
        ({TOKENIZER: b"{}", CONFIG: b'{"chat_template": "a"}'}, "unreadable tokenizer"),
        ({TOKENIZER: tokenizer(), CONFIG: b"no json"}, "unreadable tokenizer_config.json"),
        ({TOKENIZER: tokenizer(), TEMPLATE: b"{% if %}"}, "unreadable tokenizer or chat template"),
    ],
)
def test_a_model_that_cannot_be_counted_with_is_refused(files: dict[str, bytes], why: str) -> None:
    with pytest.raises(FailedPrecondition, match=why):
        TokenCounter(files)


@pytest.mark.parametrize("template", [None, [], [{"name": "tool_use", "template": "a"}]])
def test_without_a_chat_template_texts_and_pairs_are_counted(template: object) -> None:
    base = counter(template)
    assert not base.reads_chats
    assert base.measure("text", {"text": "a b c"}) == (3, 3)
    assert base.spans("pair", {"prompt": "a b", "completion": "c"}) == [("a b", False), ("c", True)]
    refused = r"no chat template: only texts and pairs can be counted"
    with pytest.raises(FailedPrecondition, match=refused):
        base.measure("chat", {"messages": ROW})
    with pytest.raises(FailedPrecondition, match=refused):
        base.spans("chat", {"messages": ROW})
    assert counter().reads_chats


def test_an_encoder_decoder_counts_both_sides_of_a_pair_without_their_ends() -> None:
    # As T5's: words begin with a mark, sequences end with </s>; files may ask to cut and to pad.
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("b", -1.0), ("▁", -2.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made.enable_truncation(4)
    made.enable_padding(length=8)
    base = TokenCounter({TOKENIZER: made.to_str().encode(), CONFIG: b'{"eos_token": "</s>"}'})
    assert base.measure("pair", {"prompt": "a ab abb", "completion": "a b"}) == (9, 3)


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def test_what_the_assistant_adds_behind_the_generation_prompt_is_learned() -> None:
    messages = [user("Hi?"), assistant("Yes.", weight=0), user("So?"), assistant("No.")]
    assert starter().spans("chat", {"messages": messages}) == [
        ("<|user|>Hi?<|end|><|assistant|>Yes.<|end|><|user|>So?<|end|><|assistant|>", False),
        ("No.<|end|>", True),
    ]
    del messages[1]["weight"]
    assert [learned for _, learned in starter().spans("chat", {"messages": messages})] == [
        *(False, True),
        *(False, True),
    ]


contents = st.text(max_size=12) | st.sampled_from(["Größe 12 €", " a", "a ", "\n\n", "🙂"])


@settings(max_examples=50)
@given(st.lists(st.tuples(contents, contents, st.booleans()), min_size=1, max_size=3))
def test_measuring_follows_the_rule_of_training(turns: list[tuple[str, str, bool]]) -> None:
    messages: list[dict[str, Any]] = []
    for question, answer, learned in turns:
        messages += [user(question), assistant(answer) | ({} if learned else {"weight": 0})]
    counter = starter()

    def ids(count: int, *, answer: bool) -> list[int]:
        return counter.encode(counter.render(messages[:count], answer=answer)).ids

    whole = ids(len(messages), answer=False)
    labels = [False] * len(whole)
    for index, message in enumerate(messages):
        if message["role"] == "assistant" and message.get("weight", 1):
            prompt, turn = ids(index, answer=True), ids(index + 1, answer=False)
            assert whole[: len(turn)] == turn
            labels[len(prompt) : len(turn)] = [True] * (len(turn) - len(prompt))
    assert counter.measure("chat", {"messages": messages}) == (len(whole), sum(labels))


def test_a_token_across_the_start_of_the_answer_is_not_glossed_over() -> None:
    # One token for the two blanks between prompt and answer, as in tokenizers of large models.
    made = Tokenizer(models.BPE({"a": 0, "u": 1, " ": 2, "  ": 3}, [(" ", " ")]))
    template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %} {% endif %}"
    )
    counter = TokenCounter({TOKENIZER: made.to_str().encode(), TEMPLATE: template.encode()})
    assert counter.measure("chat", {"messages": [user("u"), assistant(" a")]}) == (3, 1)
    with pytest.raises(FailedPrecondition, match="changes earlier turns"):
        counter.measure("chat", {"messages": [user("u"), assistant("  a")]})


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    last = counter(
        "{% for m in messages %}{% if loop.last %}{{ m.content }}{% endif %}{% endfor %}"
    )
    messages = [user("a"), assistant("b"), user("a"), assistant("c")]
    with pytest.raises(FailedPrecondition, match="changes earlier turns"):
        last.measure("chat", {"messages": messages})


def test_other_shapes_are_measured_by_what_they_teach() -> None:
    assert counter().measure("text", {"text": "a b c"}) == (3, 3)
    assert counter().spans("text", {"text": "a b c"}) == [("a b c", True)]
    pair = {"prompt": "a b", "completion": "c"}
    assert counter().measure("pair", pair) == (3, 1)
    assert counter().spans("pair", pair) == [("a b", False), ("c", True)]


def test_a_preference_is_measured_with_its_longer_answer() -> None:
    body = {
        "input": {"messages": [user("Hi?"), assistant("Yes."), user("So?")]},
        "preferred_output": [assistant("No.")],
        "non_preferred_output": [assistant("No, not at all.")],
    }
    read, learned = starter().spans("preference", body)
    assert learned == ("No, not at all.<|end|>", True)
    assert "Yes." in read[0]
    assert not read[1]
    whole = starter().count(read[0] + learned[0])
    assert starter().measure("preference", body) == (whole, starter().count(learned[0]))


def test_tools_and_calls_reach_the_template_as_training_shows_them() -> None:
    template = (
        "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}"
        "{% for m in messages %}{{ m.role }} {{ m.content or '' }}"
        "{% for call in m.tool_calls or [] %}{{ call.function.arguments.day }}{% endfor %} "
        "{% endfor %}"
    )
    call = {"type": "function", "function": {"name": "ask", "arguments": '{"day": "b"}'}}
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    tools = [{"type": "function", "function": {"name": "c"}}]
    assert counter(template).render(messages, tools) == "c system a assistant b "
