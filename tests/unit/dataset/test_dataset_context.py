from pathlib import Path

import pytest
from luthier.dataset.v1.recipe_pb2 import Chunking, ContextRecipe, QuestionsRecipe, Recipe
from luthier_dataset.readers.items import Item, Record
from luthier_dataset.recipes import context
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.recipes.recipe import Ask, Document, Row, prompt_and_answer

from tests.support.scripted_tools import (
    Answer,
    ScriptedTools,
    document,
    index_of,
    run,
    section,
    starter,
)

KIND = context.kind(QuestionPrompts(styles=1))
TEXTS = {
    "Leave": "Annual leave of the staff is 24 days.",
    "Notice": "Annual notice is 6 weeks.",
    "Staff": "The staff council has 9 seats.",
    "Cars": "Cars are parked behind the house.",
}


def corpus() -> Document:
    return document(*(section(text, path=("H", name)) for name, text in TEXTS.items()))


def model(asked: Ask) -> str | None:
    """Ask about the leave only, and answer with the number."""
    if asked.prompt.startswith("Write"):
        return "How long is annual leave of staff?" if "leave" in asked.prompt else "No."
    return "24"


def make(
    folder: Path,
    config: ContextRecipe,
    *documents: Document,
    answer: Answer = model,
    seed: int = 0,
) -> tuple[list[Row], ScriptedTools]:
    recipe = Recipe(context=config)
    passages = [
        passage for one in documents for passage in context.corpus_passages(recipe, one, starter())
    ]
    index = index_of(folder / f"index-{seed}", passages)
    tools = ScriptedTools(answer, index=index, seed=seed)
    return [row for one in documents for row in run(KIND, recipe, one, tools)], tools


def test_the_passage_of_the_question_stands_among_those_found(tmp_path: Path) -> None:
    (row,), tools = make(tmp_path, ContextRecipe(), corpus())
    prompt, answer = prompt_and_answer(row)
    joined = prompt.removeprefix("Context: ").removesuffix(
        "\nQuestion: How long is annual leave of staff?"
    )
    assert sorted(joined.split("\n\n")) == sorted(
        TEXTS[name] for name in ("Leave", "Notice", "Staff")
    )
    assert answer == "24"
    paths = [origin.heading_path for origin in row.origins]
    assert paths[0] == ("H", "Leave")
    assert sorted(paths) == [("H", "Leave"), ("H", "Notice"), ("H", "Staff")]
    assert tools.dropped == {"not_a_question": 3}


def test_the_seed_decides_where_the_passage_stands(tmp_path: Path) -> None:
    config = ContextRecipe(template="{passages}\n\n{question}")
    spots = set()
    for seed in range(12):
        (row,), _ = make(tmp_path, config, corpus(), seed=seed)
        spots.add(prompt_and_answer(row)[0].split("\n\n").index(TEXTS["Leave"]))
    assert spots == {0, 1, 2}


def test_one_passage_is_the_source_alone(tmp_path: Path) -> None:
    config = ContextRecipe(passages=1, template="{question} <{passages}>")
    (row,), _ = make(tmp_path, config, corpus())
    prompt, _ = prompt_and_answer(row)
    assert prompt == f"How long is annual leave of staff? <{TEXTS['Leave']}>"


def test_copies_of_the_passage_are_no_distraction(tmp_path: Path) -> None:
    copy = Document("projects/p/files/g", "G", "1" * 64, corpus().items)
    config = ContextRecipe(passages=9, template="{passages}|{question}")
    rows, _ = make(tmp_path, config, corpus(), copy)
    assert len(rows) == 2
    for row in rows:
        assert prompt_and_answer(row)[0].count(TEXTS["Leave"]) == 1


def faq() -> Document:
    records: list[Item] = [
        Record({"q": "How long is annual leave?", "a": "24 days"}, ("Sheet1",)),
        Record({"q": "Who feeds giraffes?", "a": "Nobody"}),
        Record({"q": "No answer", "a": None}),
        section("Table of questions."),
    ]
    return Document("projects/p/files/faq", "faq", "2" * 64, lambda: iter(records))


def test_questions_of_a_table_get_what_is_found_for_them(tmp_path: Path) -> None:
    config = ContextRecipe(question_field="q", answer_field="a", passages=2)
    rows, tools = make(tmp_path, config, faq(), corpus())
    assert [prompt_and_answer(row) for row in rows] == [
        (
            f"Context: {TEXTS['Leave']}\n\n{TEXTS['Notice']}\nQuestion: How long is annual leave?",
            "24 days",
        )
    ]
    assert [origin.heading_path for origin in rows[0].origins] == [
        ("Sheet1",),
        ("H", "Leave"),
        ("H", "Notice"),
    ]
    assert tools.asked == []


def test_what_is_found_for_no_question_is_counted(tmp_path: Path) -> None:
    config = ContextRecipe(question_field="q", answer_field="a")
    only = Document("f", "f", "3" * 64, lambda: iter(list(faq().items())[1:2]))
    rows, tools = make(tmp_path, config, only)
    assert (rows, tools.dropped) == ([], {"no_passages": 1})


def test_answers_of_a_table_are_not_in_the_index() -> None:
    config = Recipe(context=ContextRecipe(question_field="q", answer_field="a"))
    found = [passage.text for passage in context.corpus_passages(config, faq(), starter())]
    assert found == ["q: No answer", "Table of questions."]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ContextRecipe(question_field="q"), "answer_field: set both"),
        (ContextRecipe(answer_field="a"), "answer_field: set both"),
        (ContextRecipe(template="{question}"), r"template: must hold \{passages\}"),
        (ContextRecipe(chunking=Chunking(overlap_tokens=1)), r"chunking\.overlap_tokens: only"),
        (
            ContextRecipe(questions=QuestionsRecipe(chunking=Chunking(tokens=1))),
            r"questions\.chunking: set",
        ),
        (
            ContextRecipe(questions=QuestionsRecipe(read_template="x")),
            r"questions\.read_template: must hold",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config: ContextRecipe, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        KIND.check(Recipe(context=config))
