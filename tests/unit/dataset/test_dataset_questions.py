from collections.abc import Callable

import pytest
from luthier.dataset.v1.recipe_pb2 import Chunking, Judge, QuestionsRecipe, Recipe
from luthier_dataset.readers.items import Place, Section
from luthier_dataset.recipes import questions
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.recipes.recipe import Ask, Reply, prompt_and_answer

from tests.support.scripted_tools import Answer, ScriptedTools, document, run, section

FACT = "Staff of Acme get 24 days."
PASSAGE = QuestionsRecipe.PASSAGE


def ask(
    answer: Answer, *items: Section, config: QuestionsRecipe | None = None, styles: int = 2
) -> tuple[list[tuple[str, str]], ScriptedTools]:
    tools = ScriptedTools(answer)
    kind = questions.kind(QuestionPrompts(styles=styles))
    recipe = Recipe(questions=config or QuestionsRecipe())
    rows = run(kind, recipe, document(*items), tools)
    return [prompt_and_answer(row) for row in rows], tools


def about_numbers(asked: Ask) -> str:
    """Write `How many <noun> in style <n>?` and answer with the number of the statement."""
    prompt = asked.prompt
    if prompt.startswith("Write question "):
        return f"How many {prompt.split()[-1].strip('.')} in style {prompt.split()[2]}?"
    context = prompt.partition("\n")[0]
    return next(word for word in context.split() if word.isdigit())


def test_every_statement_is_asked_about_in_every_style_in_order() -> None:
    facts = [f"Fact says there are {n + 100} thing{n}." for n in range(30)]
    rows, tools = ask(about_numbers, section(*facts))
    assert rows == [
        (f"How many thing{n} in style {style}?", str(n + 100))
        for n in range(30)
        for style in (1, 2)
    ]
    assert tools.dropped == {}


def test_all_questions_of_a_stage_are_asked_before_the_next() -> None:
    _, tools = ask(about_numbers, section(FACT, "There are 3 offices there."))
    assert [asked.prompt.split()[0] for asked in tools.asked] == ["Write"] * 4 + ["Context:"] * 4


def test_the_starters_prompts_are_the_default() -> None:
    config = QuestionsRecipe(questions_per_statement=1)
    _, tools = ask(about_numbers, section(FACT), config=config, styles=6)
    assert tools.asked == [
        Ask("Write question 1 about: Staff of Acme get 24 days.", "", 64),
        Ask("Context: Staff of Acme get 24 days.\nQuestion: How many days in style 1?", "", 64),
    ]


def test_rows_appear_as_their_replies_do() -> None:
    rows, tools = ask(
        lambda asked: None if "offices" in asked.prompt else about_numbers(asked),
        section(FACT, "There are 3 offices there."),
        styles=1,
    )
    assert rows == [("How many days in style 1?", "24")]
    assert tools.dropped == {}


def test_a_dataset_has_its_own_templates_model_and_length() -> None:
    config = QuestionsRecipe(
        questions_per_statement=3,
        write_template="Ask no. {style}: {statement} {x}",
        read_template="{question} {statement}",
        model="projects/p/baseModels/m",
        max_reply_tokens=9,
    )
    rows, tools = ask(
        lambda asked: "24" if "?" in asked.prompt else f"Q{asked.prompt[8]}?",
        section(FACT),
        config=config,
    )
    assert rows == [("Q1?", "24"), ("Q2?", "24"), ("Q3?", "24")]
    assert tools.asked[0] == Ask(f"Ask no. 1: {FACT} {{x}}", "projects/p/baseModels/m", 9)
    assert tools.asked[3].prompt == f"Q1? {FACT}"


def test_a_row_knows_its_place() -> None:
    place = Place(page=2, line=4, last_line=4, start=10, end=10 + len(f"{FACT} See below."))
    kind = questions.kind(QuestionPrompts(styles=1))
    one = document(section(f"{FACT} See below.", place=place))
    (row,) = run(kind, Recipe(questions=QuestionsRecipe()), one, ScriptedTools(about_numbers))
    (origin,) = row.origins
    assert origin.file == "projects/p/files/f"
    assert origin.heading_path == ("Handbook", "Leave")
    assert (origin.place.page, origin.place.start, origin.place.end) == (2, 10, 10 + len(FACT))


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("How many days.", "24", questions.NOT_A_QUESTION),
        (Reply("How many?", complete=False), "24", questions.NOT_A_QUESTION),
        ("How many days?", " ", questions.EMPTY_ANSWER),
        ("How many days?", Reply("24", complete=False), questions.UNFINISHED_ANSWER),
        ("How many days?", "25", questions.NOT_IN_STATEMENT),
        ("Is it 24 days?", "24", questions.IN_QUESTION),
        (Reply("", refused="too long"), "24", questions.PROMPT_REFUSED),
        ("How many days?", Reply("", refused="too long"), questions.PROMPT_REFUSED),
    ],
)
def test_an_inconsistent_pair_is_dropped_and_counted(
    question: str | Reply, answer: str | Reply, reason: str
) -> None:
    def model(asked: Ask) -> str | Reply:
        return question if asked.prompt.startswith("Write") else answer

    rows, tools = ask(model, section(FACT), styles=1)
    assert rows == []
    assert tools.dropped == {reason: 1}


def fixed(question: str, answer: str, verdict: str | Reply = "Yes") -> Callable[[Ask], str | Reply]:
    def model(asked: Ask) -> str | Reply:
        if asked.prompt.startswith("Judge"):
            return verdict
        return question if asked.prompt.startswith("Write") else answer

    return model


def test_free_answers_are_kept_where_they_are_wanted() -> None:
    config = QuestionsRecipe(allow_free_answers=True)
    rows, _ = ask(fixed("How long?", "Twenty-four"), section(FACT), config=config, styles=1)
    assert rows == [("How long?", "Twenty-four")]


def test_the_passage_can_be_the_answer_and_is_not_read_then() -> None:
    config = QuestionsRecipe(answer=PASSAGE, chunking=Chunking(boundary=Chunking.SECTION))
    rows, tools = ask(
        fixed("How long?", "24"), section(FACT, "See below."), config=config, styles=1
    )
    assert rows == [("How long?", f"{FACT}\nSee below.")]
    assert len(tools.asked) == 1


JUDGE = Judge(template="Judge {statement}|{question}|{answer}", model="projects/p/baseModels/j")


@pytest.mark.parametrize(
    ("verdict", "accept", "reason"),
    [
        ("Yes, it is.", "", None),
        (" YES", "", None),
        ("No.", "", questions.JUDGE_REFUSED),
        ("", "", questions.JUDGE_REFUSED),
        ("Good", "good", None),
        ("yes", "good", questions.JUDGE_REFUSED),
        (Reply("", refused="too long"), "", questions.PROMPT_REFUSED),
    ],
)
def test_a_judge_has_the_last_word(verdict: str | Reply, accept: str, reason: str | None) -> None:
    judge = Judge(template=JUDGE.template, model=JUDGE.model, accept=accept)
    rows, tools = ask(
        fixed("How long?", "24", verdict),
        section(FACT),
        config=QuestionsRecipe(judge=judge),
        styles=1,
    )
    assert rows == ([] if reason else [("How long?", "24")])
    assert tools.dropped == ({reason: 1} if reason else {})
    assert tools.asked[-1] == Ask(f"Judge {FACT}|How long?|24", "projects/p/baseModels/j", 64)


@pytest.mark.parametrize("scrap", ["See below.", "Who is to be asked then?", "The rules are as:"])
def test_what_states_nothing_is_not_asked_about(scrap: str) -> None:
    rows, tools = ask(about_numbers, section(scrap))
    assert (rows, tools.asked) == ([], [])


def test_prompts_take_statements_with_braces_as_they_are() -> None:
    prompts = QuestionPrompts(write="{statement}{x}{style}", read="{question}|{statement}")
    assert prompts.write_prompt(3, "a {style} b") == "a {style} b{x}3"
    assert prompts.read_prompt("s {question}", "q {statement}") == "q {statement}|s {question}"


@pytest.mark.parametrize(
    "fields",
    [
        {"write": "Ask about {statement}"},
        {"write": "Ask in style {style}"},
        {"read": "{question}"},
        {"read": "{statement}"},
        {"styles": 0},
    ],
)
def test_prompts_that_lack_a_part_are_refused(fields: dict[str, str | int]) -> None:
    with pytest.raises(ValueError, match="question prompts need"):
        QuestionPrompts(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (QuestionsRecipe(write_template="{statement}"), r"write_template: must hold \{style\}"),
        (QuestionsRecipe(write_template="{style}"), r"write_template: must hold \{statement\}"),
        (QuestionsRecipe(read_template="x"), r"read_template: must hold \{statement\}, \{question"),
        (QuestionsRecipe(judge=Judge()), r"judge\.template: must be set"),
        (QuestionsRecipe(judge=Judge(template="{answer}")), r"judge\.template: must hold"),
        (QuestionsRecipe(chunking=Chunking(overlap_tokens=1)), r"chunking\.overlap_tokens: only"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config: QuestionsRecipe, message: str) -> None:
    kind = questions.kind(QuestionPrompts())
    with pytest.raises(ValueError, match=f"^{message}"):
        kind.check(Recipe(questions=config))


def test_one_question_needs_no_style() -> None:
    config = QuestionsRecipe(write_template="Write about {statement}", questions_per_statement=1)
    rows, _ = ask(fixed("How long?", "24"), section(FACT), config=config)
    assert rows == [("How long?", "24")]
