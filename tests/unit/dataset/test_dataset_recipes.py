import asyncio
from collections.abc import Callable

import pytest
from luthier.dataset.v1.dataset_pb2 import HeadingsRecipe, QuestionsRecipe, Recipe
from luthier_common.errors import FailedPrecondition, InvalidArgument
from luthier_dataset.documents import Document
from luthier_dataset.readers.section import Section
from luthier_dataset.recipes import headings, questions
from luthier_dataset.recipes.questions import QuestionPrompts, QuestionsMaker
from luthier_dataset.recipes.recipe import CONFLICTING, DUPLICATE, Reply, Tools
from luthier_dataset.sentences import split_sentences


class Script:
    """A model that answers from a function and notes what goes on."""

    def __init__(self, answer: Callable[[str], str | Reply]) -> None:
        self._answer = answer
        self.asked: list[str] = []
        self.most_at_once = 0
        self._now = 0

    async def ask(self, prompt: str) -> Reply:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        self.asked.append(prompt)
        # Later prompts are answered sooner, so that order has to be made, not inherited.
        for _ in range(50 - len(self.asked) % 50):
            await asyncio.sleep(0)
        self._now -= 1
        answer = self._answer(prompt)
        return answer if isinstance(answer, Reply) else Reply(answer, complete=True)


class Steps:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    async def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))


def words(text: str) -> int:
    return len(text.split())


def document(
    *texts: str, path: tuple[str, ...] = ("Handbook", "Leave"), file: str = "f"
) -> Document:
    sections = [Section(path, text, tuple(split_sentences(text))) for text in texts]
    return Document(file, "The title", tuple(sections))


async def head(most: int, *documents: Document) -> tuple[list[tuple[str, str]], dict[str, int]]:
    recipe = Recipe(headings=HeadingsRecipe(max_section_tokens=most))
    tools = Tools(words, Script(lambda prompt: ""), Steps())
    harvest = await headings.make_rows(recipe, documents, tools)
    return [(row.prompt, row.answer) for row in harvest.rows], dict(harvest.dropped)


async def test_a_heading_path_asks_for_its_section() -> None:
    rows, _ = await head(0, document("Staff get 24 days."), document("Hello.", path=()))
    assert rows == [("Handbook > Leave", "Staff get 24 days."), ("The title", "Hello.")]


async def test_a_long_section_is_split_between_sentences_and_keeps_its_path() -> None:
    rows, _ = await head(6, document("One two three. Four five six. Seven eight.\nNine ten."))
    assert rows == [
        ("Handbook > Leave (1/2)", "One two three. Four five six."),
        ("Handbook > Leave (2/2)", "Seven eight.\nNine ten."),
    ]


async def test_a_sentence_longer_than_a_part_is_split_between_words() -> None:
    rows, _ = await head(2, document("one two three four five"))
    assert [answer for _, answer in rows] == ["one two", "three four", "five"]


async def test_sections_under_equal_paths_never_contradict_each_other() -> None:
    rows, dropped = await head(0, document("A.", "B."), document("C.", "A."))
    assert rows == [
        ("Handbook > Leave (1/3)", "A."),
        ("Handbook > Leave (2/3)", "B."),
        ("Handbook > Leave (3/3)", "C."),
    ]
    assert dropped == {DUPLICATE: 1}


async def ask(
    script: Script, *documents: Document, per_statement: int = 0, styles: int = 2
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    prompts = QuestionPrompts(styles=styles)
    recipe = Recipe(questions=QuestionsRecipe(questions_per_statement=per_statement))
    harvest = await QuestionsMaker(prompts).make_rows(
        recipe, documents, Tools(words, script, Steps())
    )
    return [(row.prompt, row.answer) for row in harvest.rows], dict(harvest.dropped)


def about_numbers(prompt: str) -> str:
    """Write `How many <noun>, in style <n>?` and answer with the number of the statement."""
    if prompt.startswith("Write question "):
        return f"How many {prompt.split()[-1].strip('.')} in style {prompt.split()[2]}?"
    context = prompt.partition("\n")[0]
    return next(word for word in context.split() if word.isdigit())


async def test_every_statement_is_asked_about_in_every_style_in_order() -> None:
    script = Script(about_numbers)
    facts = [f"Fact says there are {n + 100} thing{n}." for n in range(30)]
    rows, dropped = await ask(script, document(*facts))
    assert rows == [
        (f"How many thing{n} in style {style}?", str(n + 100))
        for n in range(30)
        for style in (1, 2)
    ]
    assert dropped == {}
    assert 8 < script.most_at_once <= questions.CONCURRENCY


async def test_the_starters_prompts_are_the_default() -> None:
    script = Script(about_numbers)
    await ask(script, document("Staff of Acme get 24 days."), styles=6, per_statement=1)
    assert script.asked == [
        "Write question 1 about: Staff of Acme get 24 days.",
        "Context: Staff of Acme get 24 days.\nQuestion: How many days in style 1?",
    ]


async def test_prompts_take_statements_with_braces_as_they_are() -> None:
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


FACT = "Staff of Acme get 24 days."


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("How many days.", "24", questions.NOT_A_QUESTION),
        (Reply("How many?", complete=False), "24", questions.NOT_A_QUESTION),
        ("How many days?", " ", questions.EMPTY_ANSWER),
        ("How many days?", Reply("24", complete=False), questions.UNFINISHED_ANSWER),
        ("How many days?", "25", questions.NOT_IN_STATEMENT),
        ("Is it 24 days?", "24", questions.IN_QUESTION),
    ],
)
async def test_an_inconsistent_pair_is_dropped_and_counted(
    question: str | Reply, answer: str | Reply, reason: str
) -> None:
    script = Script(lambda prompt: question if prompt.startswith("Write") else answer)
    rows, dropped = await ask(script, document(FACT), styles=1)
    assert rows == []
    assert dropped == {reason: 1}


async def test_a_prompt_that_the_model_refuses_is_counted() -> None:
    def refuse(prompt: str) -> str:
        raise InvalidArgument("too long", reason="TOO_LONG")

    assert await ask(Script(refuse), document(FACT)) == ([], {questions.PROMPT_REFUSED: 2})


async def test_any_other_failure_ends_the_recipe() -> None:
    def fail(prompt: str) -> str:
        raise FailedPrecondition("gone", reason="GONE")

    with pytest.raises(FailedPrecondition, match="gone"):
        await ask(Script(fail), document(*[FACT] * 100))


async def test_equal_questions_are_kept_once_and_contradictions_not_at_all() -> None:
    def model(prompt: str) -> str:
        if prompt.startswith("Write"):
            return "HOW long?" if prompt.startswith("Write question 2") else "How long?"
        return next(word for word in prompt.split() if word.isdigit())

    one = document("Leave for staff is 24 days.")
    assert await ask(Script(model), one) == ([("How long?", "24")], {DUPLICATE: 1})
    two = document("Leave for guests is 25 days.")
    assert await ask(Script(model), one, two) == ([], {CONFLICTING: 4})


@pytest.mark.parametrize("scrap", ["See below.", "Who is to be asked then?", "The rules are as:"])
async def test_what_states_nothing_is_not_asked_about(scrap: str) -> None:
    script = Script(about_numbers)
    assert await ask(script, document(scrap)) == ([], {})
    assert script.asked == []


async def test_progress_counts_up_to_the_end() -> None:
    steps = Steps()
    maker = QuestionsMaker(QuestionPrompts(styles=2))
    tools = Tools(words, Script(about_numbers), steps)
    recipe = Recipe(questions=QuestionsRecipe())
    await maker.make_rows(recipe, [document("There are 7 sheep here.")], tools)
    assert steps.seen == [(0, 2), (1, 2), (2, 2)]
