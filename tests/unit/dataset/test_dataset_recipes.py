import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from luthier.dataset.v1.recipe_pb2 import (
    Chunking,
    HeadingsRecipe,
    KeywordsRecipe,
    PairsRecipe,
    RawRecipe,
    Recipe,
    SemanticRecipe,
)
from luthier_dataset.readers.items import CodeFile, Item, Message, Place
from luthier_dataset.recipes import headings, keywords, raw, semantic
from luthier_dataset.recipes.keywords import find_keywords
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.recipes.recipe import Document, Kind, Row, Shape, prompt_and_answer
from luthier_dataset.recipes.registry import registry
from luthier_dataset.recipes.template import fill

from tests.support.scripted_tools import (
    ScriptedTools,
    document,
    run,
    section,
    starter,
    words,
)

FOX = "The quick brown fox jumps over the lazy dog again."
LEAVE = "Every employee gets twenty four days of annual leave."


def test_every_recipe_of_the_configuration_is_known() -> None:
    known = registry(QuestionPrompts())
    assert set(known) == {field.name for field in Recipe.DESCRIPTOR.fields}
    assert {name for name, kind in known.items() if kind.searches} == {"context"}


def test_recipes_say_what_shape_their_rows_have() -> None:
    known = registry(QuestionPrompts())
    shapes = {name: kind.shape(Recipe()) for name, kind in known.items()}
    texts = dict.fromkeys(("raw", "semantic", "code_raw"), Shape.TEXT)
    assert shapes == {**dict.fromkeys(known, Shape.CHAT), **texts, "rows": None}
    to_pairs = Recipe(pairs=PairsRecipe(sequence_to_sequence=True))
    assert known["pairs"].shape(to_pairs) is Shape.PAIR


def head(
    most: int, *items: Item, title: str = "The title"
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    tools = ScriptedTools(tokenizer=words())
    config = Recipe(headings=HeadingsRecipe(max_section_tokens=most))
    rows = run(headings.KIND, config, document(*items, title=title), tools)
    return [prompt_and_answer(row) for row in rows], dict(tools.dropped)


def test_a_heading_path_asks_for_its_section() -> None:
    rows, _ = head(0, section("Hello.", path=()), section("Staff get 24 days."))
    assert rows == [("The title", "Hello."), ("Handbook > Leave", "Staff get 24 days.")]


def test_a_long_section_is_split_between_sentences_and_keeps_its_path() -> None:
    rows, _ = head(6, section("One two three. Four five six. Seven eight.", "Nine ten."))
    assert rows == [
        ("Handbook > Leave (1/2)", "One two three. Four five six."),
        ("Handbook > Leave (2/2)", "Seven eight.\nNine ten."),
    ]


def test_sections_under_equal_paths_never_contradict_each_other() -> None:
    other = section("X.", path=("Handbook", "Pay"))
    rows, dropped = head(0, section("A."), other, section("B."), other, section("A."))
    assert rows == [
        ("Handbook > Leave (1/2)", "A."),
        ("Handbook > Leave (2/2)", "B."),
        ("Handbook > Pay", "X."),
    ]
    assert dropped == {"duplicate": 2}


def test_the_parts_of_a_long_document_wait_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [Place("a.md", 0, 0, line, line, 9 * line, 9 * line + 2) for line in (1, 2)]
    one = section("Größe\n\u2028 1.", place=places[0])
    items = [one, section("X.", path=("Handbook", "Pay")), section("B.", place=places[1])]
    config = Recipe(headings=HeadingsRecipe())
    held = make(headings.KIND, config, *items)
    assert [row.origins[0].place for row in held[:2]] == places
    monkeypatch.setattr(headings, "_HELD", 1)
    assert make(headings.KIND, config, *items) == held


def test_a_document_is_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def items() -> Iterator[Item]:
        return (section(f"{number:06d}" + "x" * 50_000) for number in range(24))

    monkeypatch.setattr(headings, "_HELD", 64 * 1024)
    source = Document("files/f", "t", "0" * 64, items)
    config = Recipe(headings=HeadingsRecipe(max_section_tokens=1))
    tools = ScriptedTools(tokenizer=words())
    tracemalloc.start()
    try:
        assert sum(1 for _ in headings.KIND.make_rows(config, source, tools)) == 24
        assert tracemalloc.get_traced_memory()[1] < 600_000  # Half of the text.
    finally:
        tracemalloc.stop()


def test_the_title_stands_before_several_top_headings() -> None:
    one, other = section("A.", path=("Scope",)), section("B.", path=("Terms", "Pay"))
    assert [prompt for prompt, _ in head(0, one, other, title="Policy")[0]] == [
        "Policy > Scope",
        "Policy > Terms > Pay",
    ]
    assert head(0, one, title="Policy")[0] == [("Scope", "A.")]


def make(
    kind: Kind, config: Recipe, *items: Item, tools: ScriptedTools | None = None
) -> Sequence[Row]:
    return run(kind, config, document(*items), tools or ScriptedTools())


def read(rows: Sequence[Row]) -> list[str]:
    assert {row.shape for row in rows} == {Shape.TEXT}
    return [row.body["text"] for row in rows]


def test_raw_chunks_of_a_section_are_exact() -> None:
    config = Recipe(raw=RawRecipe(chunk_tokens=16))
    rows = make(raw.KIND, config, section(FOX, "- " + LEAVE), section("End.", path=("H",)))
    *full, last, end = read(rows)
    assert {starter().count(text) for text in full} == {16}
    assert "".join([*full, last]) == f"{FOX}\n- {LEAVE}"
    assert end == "End."
    assert rows[-1].origins[0].heading_path == ("H",)
    assert rows[0].origins[0].file == "projects/p/files/f"


def test_packed_chunks_run_on_across_headings() -> None:
    config = Recipe(raw=RawRecipe(chunk_tokens=16, pack=True))
    items = [section(FOX), section(LEAVE, path=("Handbook", "Pay"))]
    rows = make(raw.KIND, config, *items)
    texts = read(rows)
    assert {starter().count(text) for text in texts[:-1]} == {16}
    assert "".join(texts) == f"Handbook\nLeave\n{FOX}\nPay\n{LEAVE}"
    assert rows[0].origins[0].heading_path == ("Handbook", "Leave")
    assert rows[-1].origins[0].heading_path == ("Handbook", "Pay")


def test_packed_chunks_fill_the_context_unless_told_otherwise() -> None:
    tools = ScriptedTools(context_tokens=20)
    config = Recipe(raw=RawRecipe(pack=True, overlap_tokens=500))
    rows = make(raw.KIND, config, section(FOX), tools=tools)
    assert starter().count(read(rows)[0]) == 20


def test_a_packed_chunk_names_every_member_it_holds() -> None:
    files = [
        CodeFile(f"{name}.py", "python", "x = 1\n", place=Place(f"{name}.py", start=0, end=6))
        for name in "ab"
    ]
    (row,) = make(raw.KIND, Recipe(raw=RawRecipe(pack=True)), *files)
    assert row.body["text"] == "a.py\nx = 1\n\nb.py\nx = 1\n"
    assert [origin.place.member for origin in row.origins] == ["a.py", "b.py"]


def test_semantic_rows_keep_to_their_lengths() -> None:
    config = Recipe(semantic=SemanticRecipe(max_tokens=24, min_tokens=4))
    items = [section(FOX, LEAVE, path=("H", "A")), section("Oh.", path=("H", "B"))]
    tools = ScriptedTools(tokenizer=words())
    rows = make(semantic.KIND, config, *items, tools=tools)
    assert read(rows) == [f"{FOX}\n{LEAVE}", "B\nOh."]
    assert rows[0].origins[0].heading_path == ("H", "A")


def test_keywords_ask_for_their_passage() -> None:
    tools = ScriptedTools()
    template = "Write about {keywords} {x}"
    config = Recipe(keywords=KeywordsRecipe(most_keywords=2, template=template))
    rows = make(keywords.KIND, config, section(LEAVE), Message("ann", "And so on?"), tools=tools)
    assert [prompt_and_answer(row) for row in rows] == [
        ("Write about employee gets twenty four days, annual leave {x}", LEAVE)
    ]
    assert tools.dropped == {"no_keywords": 1}


def test_words_of_long_candidates_rank_first() -> None:
    # The example of Rose et al. 2010, whose best keywords these are.
    text = (
        "Compatibility of systems of linear constraints over the set of natural numbers. Criteria "
        "of compatibility of a system of linear Diophantine equations, strict inequations, and "
        "nonstrict inequations are considered. Upper bounds for components of a minimal set of "
        "solutions and algorithms of construction of minimal generating sets of solutions for all "
        "types of systems are given."
    )
    assert find_keywords(text, 4) == [
        "linear Diophantine equations",
        "minimal generating sets",
        "linear constraints",
        "natural numbers",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "Der Antrag auf Urlaub wird von der Leitung geprüft.",
            ["Leitung geprüft", "Antrag", "Urlaub"],
        ),
        (
            "Le congé annuel est demandé par les salariés.",
            ["congé annuel", "demandé", "salariés"],
        ),
        (
            "Los empleados piden las vacaciones a la jefa.",
            ["empleados piden", "vacaciones", "jefa"],
        ),
        ("12 345, 6.7", []),
        ("of the and", []),
        ("Leave\nleave LEAVE-days leave", ["leave LEAVE-days leave", "Leave"]),
    ],
)
def test_stop_words_are_those_of_the_language(text: str, found: list[str]) -> None:
    assert find_keywords(text, 8) == found


@pytest.mark.parametrize(
    ("kind", "config", "field"),
    [
        (raw.KIND, Recipe(raw=RawRecipe(chunk_tokens=8, overlap_tokens=8)), "overlap_tokens"),
        (raw.KIND, Recipe(raw=RawRecipe(overlap_tokens=512)), "overlap_tokens"),
        (semantic.KIND, Recipe(semantic=SemanticRecipe(max_tokens=8, min_tokens=5)), "min_tokens"),
        (keywords.KIND, Recipe(keywords=KeywordsRecipe(template="no")), "template"),
        (
            keywords.KIND,
            Recipe(keywords=KeywordsRecipe(chunking=Chunking(overlap_tokens=1))),
            r"chunking\.overlap_tokens",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(kind: Kind, config: Recipe, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must|^{field}: only"):
        kind.check(config)


@pytest.mark.parametrize("values", [{"a": "{b}", "b": "x"}])
def test_templates_fill_in_once(values: dict[str, Any]) -> None:
    assert fill("{a} {b} {c} {", **values) == "{b} x {c} {"
