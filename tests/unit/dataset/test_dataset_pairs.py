from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from luthier.dataset.v1.recipe_pb2 import PairsRecipe, Recipe
from luthier_dataset.readers.items import Block, BlockKind, Item, Message, Place, Record, Section
from luthier_dataset.recipes.pairs import KIND
from luthier_dataset.recipes.recipe import Document, Origin, Row, chat_row

from tests.support.scripted_tools import ScriptedTools


def made(
    config: PairsRecipe, *records: dict[str, Any], tools: ScriptedTools | None = None
) -> tuple[list[Row], Counter[str]]:
    def items() -> Iterator[Item]:
        yield Message("Kim", "Hello.")
        yield Section((), (Block(BlockKind.PARAGRAPH, "Prose."),))
        for line, fields in enumerate(records, start=2):
            yield Record(fields, ("sheet",), Place(page=1, line=line))

    tools = tools or ScriptedTools()
    document = Document("files/f1", "table", "d1", items)
    return list(KIND.make_rows(Recipe(pairs=config), document, tools)), tools.dropped


def prompts(rows: list[Row]) -> list[str]:
    return [row.body["messages"][-2]["content"] for row in rows]


def test_columns_become_chats() -> None:
    config = PairsRecipe(input_field="text", output_field="expected text", system="Mend it.")
    rows, dropped = made(config, {"text": "i is", "expected text": "I am", "note": None})
    origin = Origin("files/f1", ("sheet",), Place(page=1, line=2))
    assert rows == [
        chat_row("i is", "I am", origin, system="Mend it.", group="d1::1:2:0", label="I am"),
    ]
    assert not dropped


def test_a_template_takes_any_column_and_leaves_other_braces() -> None:
    config = PairsRecipe(
        input_field="q",
        output_field="a",
        template='{q} ({part of speech}, {n}) {"json": 1} {} {q: x}',
    )
    rows, _ = made(config, {"q": "{a}", "a": "x", "part of speech": "noun", "n": 1.5})
    assert prompts(rows) == ['{a} (noun, 1.5) {"json": 1} {} {q: x}']


def test_values_that_are_no_text_are_written_as_json() -> None:
    config = PairsRecipe(input_field="q", output_field="a")
    rows, _ = made(config, {"q": 7, "a": False}, {"q": ["ä", 1], "a": {"k": None}})
    assert prompts(rows) == ["7", '["ä", 1]']
    assert [row.body["messages"][-1]["content"] for row in rows] == ["false", '{"k": null}']


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"a": "x", "c": "x"}, "missing_field", "there is no value for 'q'"),
        ({"q": None, "a": "x", "c": "x"}, "missing_field", "there is no value for 'q'"),
        ({"q": "x", "c": "x"}, "missing_field", "there is no value for 'a'"),
        ({"q": "x", "a": "x"}, "missing_field", "there is no value for 'c'"),
        ({"q": " ", "a": "x", "c": ""}, "empty_prompt", "'q' is empty, so nothing is asked"),
        ({"q": "x", "a": " ", "c": "x"}, "empty_answer", "'a' is empty, so nothing is learned"),
    ],
)
def test_a_record_without_both_sides_is_dropped_and_reported(
    fields: dict[str, Any], reason: str, detail: str
) -> None:
    config = PairsRecipe(input_field="q", output_field="a", template="{q}{c}")
    tools = ScriptedTools()
    rows, dropped = made(config, {"q": "Q", "a": "A", "c": "C"}, fields, tools=tools)
    assert prompts(rows) == ["QC"]
    assert dropped == {reason: 1}
    assert tools.found == [(detail, Origin("files/f1", ("sheet",), Place(page=1, line=3)))]


@pytest.mark.parametrize("sequence_to_sequence", [False, True])
def test_a_short_answer_is_a_label(sequence_to_sequence: bool) -> None:
    config = PairsRecipe(
        input_field="q",
        output_field="a",
        balance_labels=True,
        sequence_to_sequence=sequence_to_sequence,
    )
    rows, _ = made(config, {"q": "fine", "a": " good "}, {"q": "bah", "a": "bad"})
    assert [row.label for row in rows] == ["good", "bad"]
    long = {"q": "fine", "a": 14 * "good "}
    tools = ScriptedTools()
    rows, dropped = made(config, long, tools=tools)
    assert (rows, dropped) == ([], {"label_too_long": 1})
    assert tools.found[0][0] == "'a' is no label: it has more than 64 characters"
    config.balance_labels = False
    assert [row.label for row in made(config, {"q": "fine", "a": "good"}, long)[0]] == ["good", ""]


def test_pairs_for_sequence_to_sequence_models() -> None:
    config = PairsRecipe(
        input_field="q", output_field="a", template="mend: {q}", sequence_to_sequence=True
    )
    rows, _ = made(config, {"q": "i is", "a": "I am"}, {"q": "x", "a": "y"})
    assert rows[0].shape == "pair"
    assert rows[0].body == {"prompt": "mend: i is", "completion": "I am"}
    assert [row.group for row in rows] == ["d1::1:2:0", "d1::1:3:0"]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (PairsRecipe(output_field="a"), "input_field: is missing"),
        (PairsRecipe(input_field="q"), "output_field: is missing"),
        (PairsRecipe(input_field="q", output_field="q"), "output_field: is the column of the inp"),
        (PairsRecipe(input_field="q", output_field="a", template="Say."), "template: holds no co"),
        (
            PairsRecipe(input_field="q", output_field="a", system="x", sequence_to_sequence=True),
            "system: has no place",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config: PairsRecipe, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        KIND.check(Recipe(pairs=config))


def test_a_sound_configuration_is_taken() -> None:
    KIND.check(Recipe(pairs=PairsRecipe(input_field="q", output_field="a", template="Say {q}")))
