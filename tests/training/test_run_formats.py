"""Pairs for encoder-decoders and preferences, from rows to tensors: what is learned, and ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier_common.errors import InvalidArgument
from luthier_trainer.run.data import Format, load
from luthier_trainer.run.preferences import PreferenceCollator
from luthier_trainer.run.rows import IGNORED, CausalFormat, PreferenceFormat, Row, Seq2SeqFormat
from luthier_trainer.run.seq2seq import PairCollator
from transformers import T5Config, T5ForConditionalGeneration

from tests.support.tiny_model import END, byte_tokenizer

PAD = 0
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}
KNOWS_TOOLS = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% for call in message.tool_calls %}[{{ call.function.name }} "
    "{{ call.function.arguments | tojson }}]{% endfor %}"
    "{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FORGETFUL = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if loop.last %}{{ message['content'] }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A template that drops what was said before the last message."""


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def preference(
    preferred: Any = "Ann", other: Any = "Bo", *, tools: Any = None, messages: Any = None
) -> dict[str, Any]:
    """Return a row of preferences; answers are texts, or lists of messages."""

    def output(answer: Any) -> Any:
        return [said("assistant", answer)] if isinstance(answer, str) else answer

    given: dict[str, Any] = {"messages": messages or [said("user", "Who?")]}
    if tools:
        given["tools"] = tools
    return {
        "input": given,
        "preferred_output": output(preferred),
        "non_preferred_output": output(other),
    }


@pytest.fixture
def tokenizer() -> Any:
    return byte_tokenizer()


def texts(row: Row, tokenizer: Any) -> dict[str, str]:
    return {name: str(tokenizer.decode(tokens)) for name, tokens in row.items()}


def test_of_a_pair_both_sides_end(tokenizer: Any) -> None:
    row = Seq2SeqFormat(tokenizer).tokenize({"prompt": "Capital?", "completion": "Graz"})
    assert texts(row, tokenizer) == {"input_ids": "Capital?<|end|>", "labels": "Graz<|end|>"}


def test_what_ends_itself_is_given_no_second_end(tokenizer: Any) -> None:
    row = Seq2SeqFormat(tokenizer).tokenize({"prompt": "a<|end|>", "completion": "b<|end|>"})
    assert texts(row, tokenizer) == {"input_ids": "a<|end|>", "labels": "b<|end|>"}


def test_a_tokenizer_without_an_end_leaves_pairs_as_they_are(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    row = Seq2SeqFormat(tokenizer).tokenize({"prompt": "a", "completion": "b"})
    assert texts(row, tokenizer) == {"input_ids": "a", "labels": "b"}


def test_the_prompt_of_a_pair_may_be_empty_and_its_completion_teaches_nothing_if_it_is(
    tokenizer: Any,
) -> None:
    form = Seq2SeqFormat(tokenizer)
    row = form.tokenize({"prompt": "", "completion": "b"})
    assert row["input_ids"] == [END]
    assert form.teaches(row)
    assert not form.teaches(form.tokenize({"prompt": "a", "completion": ""}))


def test_both_sides_of_a_pair_are_read_and_each_has_its_limit(
    tokenizer: Any, tmp_path: Path
) -> None:
    form = Seq2SeqFormat(tokenizer)
    row = form.tokenize({"prompt": "long prompt", "completion": "short"})
    assert (form.tokens(row), form.longest(row)) == (12 + 6, 12)
    assert form.longest({"input_ids": row["labels"], "labels": row["input_ids"]}) == 12
    path = tmp_path / "training.jsonl"
    pairs = [("long prompt", "a"), ("a", "long answer"), ("a", "b")]
    path.write_text(
        "".join(json.dumps({"prompt": one, "completion": other}) + "\n" for one, other in pairs)
    )
    rows = load(path, form, 11)
    assert (len(rows.rows), rows.too_long, rows.tokens, rows.lengths) == (1, 2, 4, [2])
    assert load(path, form, 12).lengths == [12, 12, 2]


@pytest.mark.parametrize(
    "row", [{"text": "a"}, {"messages": [said("user", "a"), said("assistant", "b")]}, preference()]
)
def test_an_encoder_decoder_learns_from_pairs_only(tokenizer: Any, row: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="`prompt` and `completion`") as refused:
        Seq2SeqFormat(tokenizer).tokenize(row)
    assert refused.value.reason == "SEQ2SEQ_NEEDS_PAIRS"


def pairs(tokenizer: Any) -> list[Row]:
    form = Seq2SeqFormat(tokenizer)
    given = [("Capital of Styria?", "Graz"), ("a", "a long answer"), ("bc", "d")]
    return [form.tokenize({"prompt": one, "completion": other}) for one, other in given]


def test_pairs_are_padded_on_each_side_and_padding_is_not_learned(tokenizer: Any) -> None:
    rows = pairs(tokenizer)
    collate = PairCollator(PAD)
    tensors = collate(rows)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "input_ids": (3, 24),
        "attention_mask": (3, 24),
        "labels": (3, 16),
    }
    for number, row in enumerate(rows):
        read, learned = len(row["input_ids"]), len(row["labels"])
        assert tensors["input_ids"][number].tolist() == row["input_ids"] + [PAD] * (24 - read)
        assert tensors["attention_mask"][number].tolist() == [1] * read + [0] * (24 - read)
        assert tensors["labels"][number].tolist() == row["labels"] + [IGNORED] * (16 - learned)
    assert collate.tokens == sum(len(row["input_ids"]) + len(row["labels"]) for row in rows)
    collate(rows[:1])
    assert collate(rows[:1])["labels"].shape == (1, 8)


def test_padding_changes_no_loss(tokenizer: Any) -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4
    )
    config.decoder_start_token_id = PAD
    model = T5ForConditionalGeneration(config).eval()
    rows = pairs(tokenizer)
    collate = PairCollator(PAD)
    together = model(**collate(rows)).loss
    alone = [model(**collate([row])).loss * len(row["labels"]) for row in rows]
    learned = sum(len(row["labels"]) for row in rows)
    torch.testing.assert_close(together, sum(alone, torch.tensor(0.0)) / learned)


def test_a_preference_is_a_prompt_and_two_answers(tokenizer: Any) -> None:
    row = PreferenceFormat(tokenizer).tokenize(preference("Ann", "Bo"))
    assert texts(row, tokenizer) == {
        "prompt_ids": "<|user|>Who?<|end|><|assistant|>",
        "chosen_ids": "Ann<|end|>",
        "rejected_ids": "Bo<|end|>",
    }


def test_earlier_turns_belong_to_the_prompt(tokenizer: Any) -> None:
    messages = [
        said("developer", "Be brief."),
        said("user", "Who?"),
        said("assistant", "Ann"),
        said("user", "And?"),
    ]
    row = PreferenceFormat(tokenizer).tokenize(preference(messages=messages))
    assert texts(row, tokenizer)["prompt_ids"] == (
        "<|system|>Be brief.<|end|><|user|>Who?<|end|><|assistant|>Ann<|end|>"
        "<|user|>And?<|end|><|assistant|>"
    )


def test_tokens_of_preferences_are_those_of_both_conversations(tokenizer: Any) -> None:
    form = PreferenceFormat(tokenizer)
    row = form.tokenize(preference("Ann", "Bo"))
    prompt, chosen, rejected = (len(tokens) for tokens in row.values())
    assert (prompt, chosen, rejected) == (7, 4, 3)
    assert form.tokens(row) == 2 * prompt + chosen + rejected
    assert form.longest(row) == prompt + chosen
    assert form.longest(form.tokenize(preference("Bo", "Ann"))) == prompt + chosen


def test_two_equal_answers_teach_nothing(tokenizer: Any) -> None:
    form = PreferenceFormat(tokenizer)
    assert form.teaches(form.tokenize(preference("Ann", "Bo")))
    assert not form.teaches(form.tokenize(preference("Ann", "Ann")))


def test_tools_of_preferences_are_read_and_calls_are_answers(tokenizer: Any) -> None:
    tokenizer.chat_template = KNOWS_TOOLS
    call = [{"role": "assistant", "content": None, "tool_calls": [CALL]}]
    row = PreferenceFormat(tokenizer).tokenize(preference(call, "No.", tools=TOOLS))
    found = texts(row, tokenizer)
    assert found["prompt_ids"].startswith(f"<|system|>{json.dumps(TOOLS)}<|end|><|user|>")
    assert found["chosen_ids"] == '[weather {"a": 1}]<|end|>'
    assert found["rejected_ids"] == "No.<|end|>"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (preference(tools=TOOLS), "tools"),
        (preference([said("assistant", "", tool_calls=[CALL])]), "tool calls"),
        (preference("Ann", [said("assistant", "", tool_calls=[CALL])]), "tool calls"),
    ],
)
def test_tools_that_the_template_would_leave_out_are_refused(
    tokenizer: Any, row: dict[str, Any], what: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"no place for {what}") as refused:
        PreferenceFormat(tokenizer).tokenize(row)
    assert refused.value.reason == "CHAT_TEMPLATE_WITHOUT_TOOLS"


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = FORGETFUL
    with pytest.raises(InvalidArgument, match="changes earlier turns") as refused:
        PreferenceFormat(tokenizer).tokenize(preference())
    assert refused.value.reason == "CHAT_TEMPLATE_REWRITES"


@pytest.mark.parametrize("row", [{"text": "a"}, {"prompt": "a", "completion": "b"}])
def test_preferences_are_not_learned_from_other_rows(tokenizer: Any, row: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="non_preferred_output") as refused:
        PreferenceFormat(tokenizer).tokenize(row)
    assert refused.value.reason == "NO_PREFERENCE_ROWS"


def test_answers_are_not_learned_from_preferences(tokenizer: Any) -> None:
    with pytest.raises(InvalidArgument, match="`method: dpo`") as refused:
        CausalFormat(tokenizer, 256).tokenize(preference())
    assert refused.value.reason == "PREFERENCE_ROWS"


def test_preferences_are_padded_with_the_preferred_answers_first(tokenizer: Any) -> None:
    form = PreferenceFormat(tokenizer)
    rows = [form.tokenize(preference("Ann", "Bo")), form.tokenize(preference("X", "much longer"))]
    collate = PreferenceCollator(PAD)
    tensors = collate(rows)
    answers = [row[name] for name in ("chosen_ids", "rejected_ids") for row in rows]
    prompts = [row["prompt_ids"] for row in rows] * 2
    assert {tuple(tensor.shape) for tensor in tensors.values()} == {(4, 24)}
    assert tensors.keys() == {"input_ids", "attention_mask", "completion_mask"}
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        rest = 24 - len(prompt) - len(answer)
        assert tensors["input_ids"][number].tolist() == prompt + answer + [PAD] * rest
        read = [1] * (len(prompt) + len(answer)) + [0] * rest
        assert tensors["attention_mask"][number].tolist() == read
        learned = [0] * len(prompt) + [1] * len(answer) + [0] * rest
        assert tensors["completion_mask"][number].tolist() == learned
    assert collate.tokens == sum(map(form.tokens, rows))


WEIGHED = [
    said("user", "Who?"),
    said("assistant", "Ann", weight=0),
    said("user", "And?"),
    said("assistant", "Bo", weight=1),
    said("user", "Else?"),
    said("assistant", "Cy"),
]


def test_answers_of_weight_zero_are_read_and_those_of_one_learned(tokenizer: Any) -> None:
    row = CausalFormat(tokenizer, 256).tokenize({"messages": WEIGHED})
    assert len(row["labels"]) == len(row["input_ids"])
    learned = [label for label in row["labels"] if label != IGNORED]
    assert tokenizer.decode(learned) == "Bo<|end|>Cy<|end|>"
    assert "Ann" in tokenizer.decode(row["input_ids"])


@pytest.mark.parametrize("kind", [CausalFormat, Seq2SeqFormat, PreferenceFormat])
def test_rows_of_no_known_shape_are_refused_by_every_format(tokenizer: Any, kind: Any) -> None:
    form: Format = kind(tokenizer, 256) if kind is CausalFormat else kind(tokenizer)
    with pytest.raises(InvalidArgument, match="none of the known shapes") as refused:
        form.tokenize({"question": "a", "answer": "b"})
    assert refused.value.reason == "UNKNOWN_ROWS"


def test_questions_lead_to_the_answer_that_is_expected(tokenizer: Any) -> None:
    chat = CausalFormat(tokenizer, 256).question({"messages": WEIGHED})
    assert chat is not None
    assert tokenizer.decode(chat.prompt).endswith("<|user|>Else?<|end|><|assistant|>")
    assert chat.answer == "Cy"
    pair = CausalFormat(tokenizer, 256).question({"prompt": "Who? ", "completion": "Ann"})
    assert pair is not None
    assert (tokenizer.decode(pair.prompt), pair.answer) == ("Who? ", "Ann")
    assert CausalFormat(tokenizer, 256).question({"text": "a"}) is None
    asked = Seq2SeqFormat(tokenizer).question({"prompt": "Who?", "completion": "Ann"})
    assert (tokenizer.decode(asked.prompt), asked.answer) == ("Who?<|end|>", "Ann")
    preferred = PreferenceFormat(tokenizer).question(preference("Ann", "Bo"))
    assert preferred is not None
    assert tokenizer.decode(preferred.prompt) == "<|user|>Who?<|end|><|assistant|>"
    assert preferred.answer == "Ann"
