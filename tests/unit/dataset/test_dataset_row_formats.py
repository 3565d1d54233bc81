import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest
from luthier.dataset.v1.recipe_pb2 import Recipe, RowsRecipe
from luthier_dataset.readers.items import Item, Place, Record, Remark
from luthier_dataset.recipes.recipe import Document, Origin, Row, Tools
from luthier_dataset.recipes.rows import KIND
from luthier_dataset.rows import check_row

USER = {"role": "user", "content": "Who?"}
ASSISTANT = {"role": "assistant", "content": "Odran."}
TOOL = {"type": "function", "function": {"name": "find"}}
PREFERENCE = {
    "input": {"messages": [USER]},
    "preferred_output": [ASSISTANT],
    "non_preferred_output": [ASSISTANT | {"content": "Nobody."}],
}


class Drops:
    """The one tool that this recipe uses."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()

    def malformed(self, reason: str, detail: str, origin: Origin) -> None:
        assert detail
        assert origin.file
        self.dropped[reason] += 1


def made(*records: dict[str, Any], pairs: bool = False) -> tuple[list[Row], Counter[str]]:
    def items() -> Iterator[Item]:
        for line, fields in enumerate(records, start=1):
            yield Record(fields, ("sheet",), Place(line=line, start=100 * line))
            yield Remark("malformed_row", "is no row")

    document = Document("files/f1", "rows", "d1", items)
    config = Recipe(rows=RowsRecipe(sequence_to_sequence=pairs))
    drops = Drops()
    rows = list(KIND.make_rows(config, document, cast(Tools, drops)))
    for row in rows:
        assert str(check_row(row.body)) == str(row.shape)
    return rows, drops.dropped


def chat(prompt: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def test_a_row_knows_its_record_and_stands_alone_in_a_split() -> None:
    rows, dropped = made({"text": "one"}, {"text": "two"})
    assert rows[1] == Row(
        "text",  # type: ignore[arg-type]
        {"text": "two"},
        (Origin("files/f1", ("sheet",), Place(line=2, start=200)),),
        "d1::0:2:200",
    )
    assert rows[0].group != rows[1].group
    assert not dropped


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"messages": [USER, ASSISTANT], "id": 7}, {"messages": [USER, ASSISTANT]}),
        (
            {
                "messages": [USER | {"weight": None, "name": None}, ASSISTANT | {"weight": 1}],
                "tools": [TOOL],
                "parallel_tool_calls": None,
            },
            {"messages": [USER, ASSISTANT | {"weight": 1}], "tools": [TOOL]},
        ),
        (
            {"messages": json.dumps([USER, ASSISTANT]), "tools": "", "parallel_tool_calls": "true"},
            {"messages": [USER, ASSISTANT], "parallel_tool_calls": True},
        ),
        (PREFERENCE, PREFERENCE),
        ({key: json.dumps(value) for key, value in PREFERENCE.items()}, PREFERENCE),
        (
            {
                "system": "Be short.",
                "conversations": [
                    {"from": "human", "value": "Who?"},
                    {"from": "gpt", "value": "Odran."},
                    {"from": "user", "value": "Where?"},
                    {"from": "assistant", "value": "At the gate."},
                ],
            },
            {
                "messages": [
                    {"role": "system", "content": "Be short."},
                    USER,
                    ASSISTANT,
                    {"role": "user", "content": "Where?"},
                    {"role": "assistant", "content": "At the gate."},
                ]
            },
        ),
        (
            {"instruction": "Add.", "input": "1 2", "output": "3", "text": "### Instruction: …"},
            chat("Add.\n\n1 2", "3"),
        ),
        ({"instruction": "Count.", "input": "", "output": "1"}, chat("Count.", "1")),
        ({"instruction": "Count.", "output": 1}, chat("Count.", "1")),
        ({"prompt": "Who?", "completion": "Odran."}, chat("Who?", "Odran.")),
        ({"text": "i is", "expected": "I am"}, chat("i is", "I am")),
        ({"dialogue": "A: Hi.", "summary": "A greets."}, chat("A: Hi.", "A greets.")),
        ({"text": "A text.", "source": "x"}, {"text": "A text."}),
    ],
)
def test_each_format_is_recognised_by_its_fields(
    fields: dict[str, Any], body: dict[str, Any]
) -> None:
    rows, dropped = made(fields)
    assert [row.body for row in rows] == [body]
    assert not dropped


def test_input_and_output_become_pairs_where_that_is_asked_for() -> None:
    rows, _ = made(
        {"prompt": "a", "completion": "b"},
        {"text": "c", "expected": "d"},
        {"dialogue": "e", "summary": "f"},
        {"instruction": "g", "input": "h", "output": "i"},
        pairs=True,
    )
    assert [row.shape for row in rows] == ["pair"] * 4
    assert [tuple(row.body.values()) for row in rows] == [
        ("a", "b"), ("c", "d"), ("e", "f"), ("g\n\nh", "i"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"question": "Who?"}, "unknown_row_format"),
        ({"prompt": "Who?"}, "unknown_row_format"),
        ({}, "unknown_row_format"),
        ({"messages": []}, "no_messages"),
        ({"messages": None}, "no_messages"),
        ({"messages": "Who?"}, "no_messages"),
        ({"messages": ["Who?"]}, "bad_message"),
        ({"messages": [USER]}, "no_answer"),
        ({"messages": [USER, ASSISTANT | {"weight": 2}]}, "bad_weight"),
        ({"messages": [USER, ASSISTANT], "tools": "["}, "bad_tools"),
        ({"messages": [USER, ASSISTANT], "functions": [{}]}, "unsupported_key"),
        ({"conversations": [{"from": "human", "value": "Who?"}]}, "no_answer"),
        ({"conversations": [{"from": "robot", "value": "Who?"}]}, "unknown_role"),
        ({"conversations": ["Who?"]}, "bad_message"),
        ({"conversations": {}}, "no_messages"),
        ({"instruction": "", "input": None, "output": "x"}, "empty_prompt"),
        ({"instruction": "Add.", "output": None}, "empty_answer"),
        ({"text": "x", "expected": " "}, "empty_answer"),
        ({"text": None}, "bad_content"),
        ({**PREFERENCE, "input": "Who?"}, "no_prompt"),
        ({**PREFERENCE, "non_preferred_output": [ASSISTANT]}, "no_preference"),
    ],
)
def test_a_bad_record_is_dropped_by_the_name_of_the_rule(
    fields: dict[str, Any], reason: str
) -> None:
    rows, dropped = made({"text": "good"}, fields, {"text": "better"})
    assert [row.body["text"] for row in rows] == ["good", "better"]
    assert dropped == {reason: 1}
