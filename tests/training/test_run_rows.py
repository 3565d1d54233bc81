"""Rows of every shape to tokens: what is learned of them, as trl has it, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from datasets import Dataset
from luthier_common.errors import InvalidArgument
from luthier_trainer.run.data import load
from luthier_trainer.run.rows import IGNORED, CausalFormat, Row
from tokenizers import processors
from trl import SFTConfig, SFTTrainer

from tests.support.tiny_model import byte_tokenizer

TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Graz"}'},
}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "dry"},
    {"role": "assistant", "content": "No."},
]
KNOWS_TOOLS = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% for call in message.tool_calls %}[{{ call.function.name }} "
    "{{ call.function.arguments | tojson }}]{% endfor %}"
    "{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ASKS_FOR_CALLS = "{% if 'tool_calls' not in message %}{{ message.content }}{% endif %}"
KNOWS_DEFINITIONS_ONLY = KNOWS_TOOLS.replace("message.tool_calls", "[]")


@pytest.fixture
def tokenizer() -> Any:
    return byte_tokenizer()


def tokenize(body: dict[str, Any], tokenizer: Any, context: int) -> Row:
    return CausalFormat(tokenizer, context).tokenize(body)


def learned(row: Row, tokenizer: Any) -> str:
    """Return the learned tokens as text; every label must be its own token."""
    pairs = list(zip(row["input_ids"], row["labels"], strict=True))
    assert all(label in (IGNORED, token) for token, label in pairs)
    return str(tokenizer.decode([label for _, label in pairs if label != IGNORED]))


def read(row: Row, tokenizer: Any) -> str:
    return str(tokenizer.decode(row["input_ids"]))


def starting_with(tokenizer: Any, token: str) -> Any:
    """Make a tokenizer put a special token in front, as those of many models do."""
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.convert_tokens_to_ids(token))]
    )
    return tokenizer


def test_a_text_is_learned_whole_but_for_its_first_token(tokenizer: Any) -> None:
    row = tokenize({"text": "Vienna"}, tokenizer, 256)
    assert read(row, tokenizer) == "Vienna<|end|>"
    assert learned(row, tokenizer) == "ienna<|end|>"


def test_a_text_that_ends_itself_is_given_no_second_end(tokenizer: Any) -> None:
    row = tokenize({"text": "Vienna<|end|>"}, tokenizer, 256)
    assert read(row, tokenizer) == "Vienna<|end|>"


def test_the_first_token_of_a_tokenizer_leaves_the_text_to_be_learned(tokenizer: Any) -> None:
    row = tokenize({"text": "Vienna"}, starting_with(tokenizer, "<|system|>"), 256)
    assert read(row, tokenizer) == "<|system|>Vienna<|end|>"
    assert learned(row, tokenizer) == "Vienna<|end|>"


@pytest.mark.parametrize(
    ("context", "tokens"), [(8, "<|system|>Vienna<|end|>"), (7, "Vienna"), (6, "Vienna")]
)
def test_a_chunk_of_the_whole_context_does_without_special_tokens(
    tokenizer: Any, context: int, tokens: str
) -> None:
    row = tokenize({"text": "Vienna"}, starting_with(tokenizer, "<|system|>"), context)
    assert read(row, tokenizer) == tokens


def test_texts_longer_than_the_context_are_left_out_and_counted(
    tokenizer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "Vienna"}\n{"text": "Salzburg"}\n')
    rows = load(path, CausalFormat(tokenizer, 6), 6)
    assert [read(row, tokenizer) for row in rows.rows] == ["Vienna"]
    assert rows.too_long == 1


def test_of_a_pair_the_completion_and_its_end_are_learned(tokenizer: Any) -> None:
    row = tokenize({"prompt": "Capital? ", "completion": "Vienna"}, tokenizer, 256)
    assert read(row, tokenizer) == "Capital? Vienna<|end|>"
    assert learned(row, tokenizer) == "Vienna<|end|>"
    row = tokenize({"prompt": "", "completion": "Vienna"}, tokenizer, 256)
    assert learned(row, tokenizer) == "ienna<|end|>", "there is nothing to guess the first from"


def test_a_token_that_spans_prompt_and_completion_is_learned() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<|end|>": 0, "a": 1, "b": 2, "c": 3, "ab": 4}
    merging = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    merging.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="<|end|>")
    row = tokenize({"prompt": "ca", "completion": "bc"}, tokenizer, 256)
    assert row == {"input_ids": [3, 4, 3, 0], "labels": [IGNORED, 4, 3, 0]}


TRL_ROWS: list[list[dict[str, Any]]] = [
    [{"text": "Vienna"}, {"text": "ended<|end|>"}, {"text": "Ä€😀\u2028"}],
    [{"prompt": "Capital?", "completion": " Vienna"}, {"prompt": "a", "completion": "b<|end|>"}],
]


@pytest.mark.parametrize("start", ["", "<|system|>"])
@pytest.mark.parametrize("rows", TRL_ROWS, ids=["text", "pair"])
def test_tokens_and_labels_are_those_of_trl(
    tokenizer: Any, tmp_path: Path, rows: list[dict[str, Any]], start: str
) -> None:
    if start:
        starting_with(tokenizer, start)
    # What its `_prepare_dataset` needs of a trainer:
    trainer = SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=True)
    prepared = SFTTrainer._prepare_dataset(
        cast(SFTTrainer, trainer),
        Dataset.from_list(rows),
        tokenizer,
        SFTConfig(output_dir=str(tmp_path), max_length=None, use_cpu=True, bf16=False),
        packing=False,
        formatting_func=None,
        dataset_name="train",
    )
    for row, theirs in zip(rows, prepared, strict=True):
        ours = tokenize(row, tokenizer, 256)
        assert ours["input_ids"] == theirs["input_ids"]
        # Of a whole text trl labels the first token, too, which the loss then never looks at.
        assert ours["labels"] == [IGNORED, *theirs["labels"][1:]]


def conversation(tools: Any = TOOLS, messages: Sequence[Any] = CONVERSATION) -> dict[str, Any]:
    return {"messages": list(messages), "tools": tools, "parallel_tool_calls": False}


def test_tools_are_read_and_calls_are_learned(tokenizer: Any) -> None:
    tokenizer.chat_template = KNOWS_TOOLS
    row = tokenize(conversation(), tokenizer, 1000)
    definition = json.dumps(TOOLS)
    assert read(row, tokenizer) == (
        f"<|system|>{definition}<|end|><|user|>Rain?<|end|>"
        '<|assistant|>[weather {"city": "Graz"}]<|end|>'
        "<|tool|>dry<|end|><|assistant|>No.<|end|>"
    )
    assert learned(row, tokenizer) == '[weather {"city": "Graz"}]<|end|>No.<|end|>'


def test_a_call_of_weight_zero_is_read_only(tokenizer: Any) -> None:
    tokenizer.chat_template = KNOWS_TOOLS
    messages = [one | {"weight": 0} if "tool_calls" in one else one for one in CONVERSATION]
    assert learned(tokenize(conversation(messages=messages), tokenizer, 1000), tokenizer) == (
        "No.<|end|>"
    )


@pytest.mark.parametrize("arguments", ['{"city": "Graz"}', {"city": "Graz"}, "", None])
def test_arguments_reach_the_template_as_an_object(tokenizer: Any, arguments: Any) -> None:
    tokenizer.chat_template = KNOWS_TOOLS
    call = CALL | {"function": {"name": "weather", "arguments": arguments}}
    messages = [CONVERSATION[0], {"role": "assistant", "tool_calls": [call]}]
    expected = '{"city": "Graz"}' if arguments else "{}"
    row = tokenize(conversation(messages=messages), tokenizer, 1000)
    assert learned(row, tokenizer) == f"[weather {expected}]<|end|>"


def test_arguments_that_are_no_json_are_refused(tokenizer: Any) -> None:
    call = CALL | {"function": {"name": "weather", "arguments": "{city"}}
    messages = [CONVERSATION[0], {"role": "assistant", "tool_calls": [call]}]
    with pytest.raises(InvalidArgument, match="call of weather are not JSON") as refused:
        tokenize(conversation(messages=messages), tokenizer, 1000)
    assert refused.value.reason == "INVALID_TOOL_CALL"


@pytest.mark.parametrize(
    ("template", "row", "what"),
    [
        (None, conversation(messages=[CONVERSATION[0], CONVERSATION[3]]), "tools"),
        (None, conversation(tools=None), "tool calls"),
        (KNOWS_DEFINITIONS_ONLY, conversation(), "tool calls"),
    ],
)
def test_what_the_template_would_leave_out_is_refused(
    tokenizer: Any, tmp_path: Path, template: str | None, row: dict[str, Any], what: str
) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InvalidArgument, match=f"rows, line 1: .*no place for {what},") as refused:
        load(path, CausalFormat(tokenizer, 1000), 1000)
    assert refused.value.reason == "CHAT_TEMPLATE_WITHOUT_TOOLS"


def test_an_empty_list_of_tools_or_calls_is_none(tokenizer: Any) -> None:
    tokenizer.chat_template = KNOWS_TOOLS.replace("{{ message.content }}", ASKS_FOR_CALLS)
    messages = [CONVERSATION[0], CONVERSATION[3] | {"tool_calls": []}]
    row = tokenize(conversation([], messages), tokenizer, 256)
    assert learned(row, tokenizer) == "No.<|end|>"


def test_a_developer_is_the_system_as_where_the_model_is_served(tokenizer: Any) -> None:
    messages = [{"role": "developer", "content": "Be brief."}, CONVERSATION[0], CONVERSATION[3]]
    row = tokenize({"messages": messages}, tokenizer, 256)
    assert read(row, tokenizer).startswith("<|system|>Be brief.<|end|><|user|>")


@pytest.mark.parametrize("template", [None, "{{ 1 + 'a' }}"])
def test_a_template_that_is_missing_or_broken_is_the_rows_end_not_the_runs(
    tokenizer: Any, template: str | None
) -> None:
    tokenizer.chat_template = template
    with pytest.raises(InvalidArgument, match="template refuses this conversation") as refused:
        tokenize({"messages": [CONVERSATION[0], CONVERSATION[3]]}, tokenizer, 256)
    assert refused.value.reason == "CHAT_TEMPLATE_REFUSES"
    assert tokenize({"text": "a"}, tokenizer, 256)["input_ids"], "texts need none"


def test_rows_of_no_known_shape_are_refused_with_the_line(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "training.jsonl"
    path.write_text('{"text": "a"}\n{"prompt": "a"}\n')
    with pytest.raises(InvalidArgument, match=r"^training rows, line 2: has none of the known"):
        load(path, CausalFormat(tokenizer, 256), 256)
