import json

import pytest
from luthier_common.errors import FailedPrecondition
from luthier_dataset.rows import ChatMessage
from luthier_dataset.tokens import CONFIG, TEMPLATE, TOKENIZER, TokenCounter
from tokenizers import Tokenizer, models, pre_tokenizers

TEMPLATE_TEXT = (
    "{% for message in messages %}\n"
    "{% if message['role'] == 'assistant' %}\n"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}\n"
    "{% else %}\n"
    "{{ '<u> ' + message['content'] + ' </u> ' }}\n"
    "{% endif %}\n"
    "{% endfor %}"
)
ROW: list[ChatMessage] = [
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
    assert counter().count_row(ROW) == 6
    assert counter().count("a b") == 2


def test_a_template_file_comes_before_the_configuration() -> None:
    files = {TOKENIZER: tokenizer(), CONFIG: b'{"chat_template": "a a a"}', TEMPLATE: b"a"}
    assert TokenCounter(files).count_row(ROW) == 1


def test_of_several_templates_the_default_one_is_used() -> None:
    named = [{"name": "tool_use", "template": "a a"}, {"name": "default", "template": "a"}]
    assert counter(named).count_row(ROW) == 1


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
        counter(template).count_row(ROW)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({CONFIG: b'{"chat_template": "a"}'}, "has no tokenizer.json"),
        ({TOKENIZER: b"{}", CONFIG: b'{"chat_template": "a"}'}, "unreadable tokenizer"),
        ({TOKENIZER: tokenizer()}, "has no chat template"),
        ({TOKENIZER: tokenizer(), CONFIG: b"no json"}, "unreadable tokenizer_config.json"),
        ({TOKENIZER: tokenizer(), TEMPLATE: b"{% if %}"}, "unreadable tokenizer or chat template"),
    ],
)
def test_a_model_that_cannot_be_counted_with_is_refused(files: dict[str, bytes], why: str) -> None:
    with pytest.raises(FailedPrecondition, match=why):
        TokenCounter(files)
