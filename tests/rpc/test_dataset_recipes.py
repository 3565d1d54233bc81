"""Every recipe through the service: files in, a READY dataset out, and its rows."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from luthier.dataset.v1.dataset_pb2 import DatasetRow
from luthier.dataset.v1.recipe_pb2 import (
    Chunking,
    CodeMetadataRecipe,
    CodeRawRecipe,
    CodeSummaryRecipe,
    ContextRecipe,
    ConversationsRecipe,
    HeadingsRecipe,
    Judge,
    KeywordsRecipe,
    PairsRecipe,
    QuestionsRecipe,
    RawRecipe,
    Recipe,
    RowsRecipe,
    SemanticRecipe,
)
from luthier_common.errors import Internal, InvalidArgument, PlatformError, Unavailable
from luthier_dataset.readers.code.languages import LANGUAGES
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.recipes.registry import registry

from tests.support.dataset_builds import (
    CONTEXT,
    CUT,
    Built,
    DatasetBuilds,
    dataset_builds,
    encode,
)
from tests.support.real_code import CODE, Function
from tests.support.real_documents import zip_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def builds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DatasetBuilds]:
    async with dataset_builds(tmp_path_factory.mktemp("service")) as running:
        yield running


def talk(row: DatasetRow) -> tuple[str, ...]:
    return tuple(message.content for message in row.messages)


def count(text: str) -> int:
    return len(encode(text))


def chat(*texts: str) -> dict[str, Any]:
    """The line of a talk, the user first."""
    roles = ("user", "assistant")
    return {
        "messages": [
            {"role": roles[number % 2], "content": text} for number, text in enumerate(texts)
        ]
    }


def json_lines(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def failing(answer: Callable[[str], str], *errors: PlatformError) -> Callable[[str], str]:
    """Raise these errors, one a call, before the first answer."""
    left = list(errors)

    def answers(prompt: str) -> str:
        if left:
            raise left.pop()
        return answer(prompt)

    return answers


# Questions: a model writes them, answers them, and judges the pairs.

FACTS = ("yard", "lift", "safe", "door", "roof", "desk", "hall")
RULES = (
    "# Rules\n\n## Numbers\n\n"
    + "".join(f"The {fact} has {n} marks on it.\n\n" for n, fact in enumerate(FACTS, start=10))
    + "See below. Is that so?\n"
)


def write_and_read(prompt: str) -> str:
    """Style 1 goes well; of style 2 each pair fails in a way of its own."""
    fact = next(fact for fact in FACTS if fact in prompt)
    number = str(10 + FACTS.index(fact))
    if prompt.startswith("Judge"):
        return "No, too easy." if "roof" in prompt and "Which" in prompt else " YES."
    if prompt.startswith("Write question 1"):
        return f" How many has the {fact}?\n"
    if prompt.startswith("Write question 2"):
        if fact == "desk":
            raise InvalidArgument("the prompt is too long", reason="PROMPT_TOO_LONG")
        questions = {"yard": "No question.", "door": f"Has the {fact} {number}, or Which?"}
        return questions.get(fact, f"Which number has the {fact}?")
    assert prompt.startswith("Context: The ")
    if "How many" in prompt:
        return f" {number} "
    return {"lift": " ", "safe": "thirteen", "hall": f"{number}{CUT}"}.get(fact, number)


async def test_questions_are_written_answered_judged_and_counted(builds: DatasetBuilds) -> None:
    transient = (
        *(Unavailable("loading", reason="LOADING") for _ in range(3)),
        Internal("a hiccup", reason="INTERNAL"),
    )
    judge = Judge(template="Judge: {statement} {question} {answer}", accept="yes")
    questions = QuestionsRecipe(questions_per_statement=2, max_reply_tokens=20, judge=judge)
    answer = failing(write_and_read, *transient)
    made = await builds.build(
        {"rules.md": RULES}, Recipe(questions=questions), answer=answer, cut=2
    )
    assert [(*talk(row), made.source(row)) for row in made.rows] == [
        (f"How many has the {fact}?", str(n), f"The {fact} has {n} marks on it.")
        for n, fact in enumerate(FACTS, start=10)
    ]
    assert {tuple(row.origins[0].heading_path) for row in made.rows} == {("Rules", "Numbers")}
    assert [row.origins[0].place.line for row in made.rows] == [
        5 + 2 * n for n in range(len(FACTS))
    ]
    assert made.dropped == {
        **dict.fromkeys(("not_a_question", "empty_answer", "answer_not_in_statement"), 1),
        **dict.fromkeys(("answer_in_question", "judge_refused", "prompt_refused"), 1),
        "unfinished_answer": 1,
    }
    # Nothing is lost: two tasks for each statement; `See below.` and the question state nothing.
    assert len(made.rows) + sum(made.dropped.values()) == 2 * len(FACTS)
    written, read = 2 * len(FACTS), 2 * len(FACTS) - 2
    judged = read - 4
    assert made.dataset.statistics.model_calls == written + read + judged
    assert len(made.asked) == written + read + judged + len(transient) + 2
    assert {request.sampling.max_tokens for request in made.asked} == {20}


# Context: a question, what a search finds for it, the answer.

CORPUS = {
    "Refunds": "Refunds of purchases are paid within 52 days.",
    "Returns": "Returns of purchases need the receipt of the shop.",
    "Leave": "Everyone in the shop gets 24 days of leave.",
    "Travel": "Travel to a shop is booked by the desk.",
}
GUIDE = "# Guide\n\n" + "".join(f"## {title}\n\n{text}\n\n" for title, text in CORPUS.items())


def passages_of(row: DatasetRow) -> tuple[list[str], str]:
    """The passages and the question of a prompt."""
    context, _, question = row.messages[0].content.partition("\nQuestion: ")
    return context.removeprefix("Context: ").split("\n\n"), question


async def test_context_rows_hold_the_passage_among_others(builds: DatasetBuilds) -> None:
    asked_about = {
        "Refunds": ("How soon are refunds of purchases paid?", "52 days"),
        "Returns": ("What do returns of purchases need?", "the receipt"),
        "Leave": ("How many days of leave in the shop?", "24 days"),
        "Travel": ("Who books travel to a shop?", "the desk"),
    }

    def answer(prompt: str) -> str:
        title = next(title for title, text in CORPUS.items() if text in prompt)
        return asked_about[title][0 if prompt.startswith("Write") else 1]

    questions = QuestionsRecipe(questions_per_statement=1)
    recipe = Recipe(context=ContextRecipe(questions=questions, passages=2))
    made = await builds.build({"guide.md": GUIDE}, recipe, answer=answer)
    assert [(passages_of(row)[1], row.messages[1].content) for row in made.rows] == list(
        asked_about.values()
    )
    spots = []
    for row, (title, text) in zip(made.rows, CORPUS.items(), strict=True):
        found = passages_of(row)[0]
        assert (list(row.origins[0].heading_path), made.source(row)) == (["Guide", title], text)
        assert len(row.origins[1:]) == 1
        assert sorted(found) == sorted([text, *map(made.source, row.origins[1:])])
        spots.append(found.index(text))
    # By the seed, not by how well it fits.
    assert sorted(set(spots)) == [0, 1]
    beside = {row.origins[0].heading_path[-1]: row.origins[1].heading_path[-1] for row in made.rows}
    assert (beside["Refunds"], beside["Returns"]) == ("Returns", "Refunds")


async def test_context_rows_of_questions_and_answers_that_are_given(builds: DatasetBuilds) -> None:
    table = "ask,reply\nWhen are refunds paid?,In 52 days.\nXyzzy?,Nothing.\n,No question.\n"
    fields = ContextRecipe(passages=1, question_field="ask", answer_field="reply")
    made = await builds.build({"guide.md": GUIDE, "ask.csv": table}, Recipe(context=fields))
    (row,) = made.rows
    assert talk(row) == (
        f"Context: {CORPUS['Refunds']}\nQuestion: When are refunds paid?",
        "In 52 days.",
    )
    assert (made.source(row), row.origins[0].place.line) == (
        "When are refunds paid?,In 52 days.",
        2,
    )
    assert [made.source(origin) for origin in row.origins[1:]] == [CORPUS["Refunds"]]
    assert made.dropped == {"no_passages": 1}
    assert not made.asked


# Code: an archive with a function in each language.

LONG = "def long() -> None:\n" + "".join(f"    print({n})\n" for n in range(60))
CODE_BASE = {
    **{f"src/{name}": function.text for name, function in CODE.items()},
    "src/zoo.py": LONG,
    "README.md": "# Small things\n",
}


def language_of(path: str) -> str:
    return LANGUAGES[Path(path).suffix].name


def summarize(prompt: str) -> str:
    """Name what is shown; code of three languages goes wrong."""
    asked, _, code = prompt.partition(":\n")
    _, language, name = asked.split(" ")
    assert name.rpartition(".")[2] in code
    if language == "rust":
        raise InvalidArgument("the prompt is too long", reason="PROMPT_TOO_LONG")
    return {"c": "  ", "go": f"It opens{CUT}"}.get(language, f" About {name}. ")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def code(builds: DatasetBuilds) -> Built:
    summary = CodeSummaryRecipe(
        template="Summarize {language} {name}:\n{code}",
        direction=CodeSummaryRecipe.BOTH,
        max_unit_tokens=100,
    )
    return await builds.build(
        {"code.zip": zip_of(CODE_BASE)},
        Recipe(code_metadata=CodeMetadataRecipe(max_unit_tokens=100)),
        Recipe(code_summary=summary),
        answer=failing(summarize, Unavailable("loading", reason="LOADING")),
        cut=1,
    )


UNITS = len(CODE) + 3
"""Beside the functions two classes, and one function that is too long."""


def functions(rows: Iterable[DatasetRow]) -> dict[str, DatasetRow]:
    """The row of the last unit of each file."""
    return {row.origins[0].place.member.removeprefix("src/"): row for row in rows}


def check_code(answer: str, row: DatasetRow, function: Function) -> None:
    """The code of a row is the unit as it stands in the file, moved to the left."""
    assert function.signature in answer
    assert not answer.startswith(" ")
    place = row.origins[0].place
    stands = function.text.encode()[place.start_byte : place.end_byte].decode()
    assert [line.strip() for line in answer.split("\n")] == [
        line.strip() for line in stands.split("\n")
    ]
    assert place.last_line - place.line == answer.count("\n")


async def test_code_metadata_of_functions_in_every_language(code: Built) -> None:
    assert {language_of(name) for name in CODE} == {one.name for one in LANGUAGES.values()}
    rows = code.of("code_metadata")
    found = functions(rows)
    assert list(found) == sorted(CODE)
    for name, function in CODE.items():
        prompt, answer = talk(found[name])
        assert prompt == (
            f"Language: {language_of(name)}\nFile: src/{name}\nName: {function.name}\n"
            f"Signature: {function.signature}\nDocumentation: {function.doc}"
        )
        check_code(answer, found[name], function)
    assert len(rows) == UNITS - 1


async def test_code_summaries_are_written_by_a_model_and_counted(code: Built) -> None:
    rows = code.of("code_summary")
    to_code, to_summary = rows[::2], rows[1::2]
    assert [talk(row) for row in to_summary] == [talk(row)[::-1] for row in to_code]
    found = functions(to_code)
    assert list(found) == [n for n in sorted(CODE) if language_of(n) not in ("c", "go", "rust")]
    for name, row in found.items():
        summary, answer = talk(row)
        assert summary == f"About {CODE[name].name}."
        check_code(answer, row, CODE[name])
    lost = {"empty_summary": 1, "unfinished_summary": 1, "prompt_refused": 1}
    # The long function counts once for each recipe.
    assert code.dropped == {**lost, "unit_too_long": 2}
    assert len(to_code) == len(to_summary) == UNITS - 1 - len(lost)
    assert code.dataset.statistics.model_calls == UNITS - 1
    assert len(code.asked) == UNITS - 1 + 2


# Texts that are learned whole.


def essay(*subjects: str, sentences: int) -> list[str]:
    """Paragraphs of one line, one for each subject."""
    return [
        " ".join(
            f"The {subject} number {n} of the {subject}s in hall {n * 7 % 90} was made by hand."
            for n in range(sentences)
        )
        for subject in subjects
    ]


CLOCK, VIOLIN = essay("clock", "violin", sentences=12)
ESSAY = f"# Museum\n\n## Clocks\n\n{CLOCK}\n\n## Violins\n\n{VIOLIN}\n"


def texts(rows: Iterable[DatasetRow]) -> list[str]:
    return [json.loads(row.line)["text"] for row in rows]


CLOCKS = (
    "The clock in the hall strikes each hour. This clock needs winding, as each old clock does. "
    "A clock that strikes late is wound by the keeper. The keeper winds each clock on Monday."
)
CHEESE = (
    "Cheese ripens in the cellar. Salt keeps the cheese in the cellar. "
    "Ripe cheese smells of milk and salt. Milk for the cheese comes in May."
)
HOUSE = f"# House\n\n{CLOCKS} {CHEESE}\n\n# Garden\n\nRoses grow by the wall.\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chunks(builds: DatasetBuilds) -> Built:
    return await builds.build(
        {"museum.md": ESSAY, "house.md": HOUSE},
        Recipe(raw=RawRecipe(chunk_tokens=40, overlap_tokens=10)),
        Recipe(semantic=SemanticRecipe(max_tokens=200, min_tokens=40)),
    )


async def test_raw_chunks_have_exactly_so_many_tokens_and_overlap(chunks: Built) -> None:
    museum = chunks.of("raw", "museum.md")
    for title, whole in (("Clocks", CLOCK), ("Violins", VIOLIN)):
        rows = [row for row in museum if list(row.origins[0].heading_path) == ["Museum", title]]
        assert [chunks.source(row) for row in rows] == texts(rows)
        *full, last = texts(rows)
        assert len(full) > 5
        assert {count(text) for text in full} == {40}
        assert 10 < count(last) <= 40
        assert (whole.startswith(full[0]), whole.endswith(last)) == (True, True)
        for before, after in pairwise(rows):
            (text,) = texts([before])
            start = encode(text).offsets[-10][0]
            # The text is ASCII: its characters are its bytes.
            assert start == (after.origins[0].place.start_byte - before.origins[0].place.start_byte)
    assert {tuple(row.origins[0].heading_path)[-1] for row in museum} == {"Clocks", "Violins"}
    assert [row.token_count for row in museum] == [count(text) for text in texts(museum)]


async def test_semantic_chunks_end_where_the_subject_changes(chunks: Built) -> None:
    rows = chunks.of("semantic", "house.md")
    assert texts(rows) == [CLOCKS, CHEESE, "Garden\nRoses grow by the wall."]
    assert [chunks.source(row) for row in rows] == [CLOCKS, CHEESE, "Roses grow by the wall."]
    assert [tuple(row.origins[0].heading_path) for row in rows] == [
        ("House",),
        ("House",),
        ("Garden",),
    ]


async def test_packed_text_and_code_fill_the_context(builds: DatasetBuilds) -> None:
    code = {f"src/{n:02d}_{name}": one.text for n in range(3) for name, one in CODE.items()}
    archive = zip_of(dict(reversed(code.items())))
    recipes = (Recipe(raw=RawRecipe(pack=True)), Recipe(code_raw=CodeRawRecipe()))
    made = await builds.build({"museum.md": ESSAY, "code.zip": archive}, *recipes)
    prose = made.of("raw", "museum.md")
    assert "".join(texts(prose)) == f"Museum\nClocks\n{CLOCK}\nViolins\n{VIOLIN}"
    whole = texts(made.of("code_raw"))
    assert "".join(whole) == "\n".join(
        f"=== {path} ===\n{text}" for path, text in sorted(code.items())
    )
    for packed in (texts(prose), whole):
        assert len(packed) > 1
        assert {count(text) for text in packed[:-1]} == {CONTEXT}
        assert count(packed[-1]) <= CONTEXT
    # A chunk of code names each file that went into it, with its place, in order.
    members: list[str] = []
    for text, row in zip(whole, made.of("code_raw", "code.zip"), strict=True):
        places = [origin.place for origin in row.origins]
        for place in places:
            part = code[place.member].encode()[place.start_byte : place.end_byte].decode()
            assert part.strip()
            assert part in text
        assert {place.member for place in places} >= {
            path for path in code if f"=== {path} ===\n{code[path]}" in text
        }
        members += [place.member for place in places]
    assert members == sorted(members)
    assert set(members) == set(code)


async def test_keywords_and_headings_ask_for_sections(builds: DatasetBuilds) -> None:
    wages = [f"Wages of group {n} are paid on day {n + 10} of each month." for n in range(8)]
    data = (
        "# Pay\n\n## Overtime\n\nOvertime pay needs written consent.\n\n"
        f"## Wages\n\n{' '.join(wages)}\n"
    )
    keywords = KeywordsRecipe(
        template="Write about: {keywords}",
        most_keywords=2,
        chunking=Chunking(boundary=Chunking.SECTION, tokens=1000),
    )
    headings = HeadingsRecipe(max_section_tokens=count(" ".join(wages[:4])))
    made = await builds.build(
        {"pay.md": data}, Recipe(keywords=keywords), Recipe(headings=headings)
    )
    by_keywords, by_headings = made.of("keywords"), made.of("headings")
    assert [talk(row) for row in by_keywords] == [
        (
            "Write about: Overtime pay needs written consent",
            "Overtime pay needs written consent.",
        ),
        ("Write about: Wages, group", " ".join(wages)),
    ]
    prompts, answers = zip(*map(talk, by_headings), strict=True)
    parts = len(by_headings) - 1
    assert parts > 1
    assert list(prompts) == [
        "Pay > Overtime",
        *(f"Pay > Wages ({n}/{parts})" for n in range(1, parts + 1)),
    ]
    assert " ".join(answers[1:]) == " ".join(wages)
    assert [made.source(row) for row in by_headings] == list(answers)
    assert {tuple(row.origins[0].heading_path) for row in by_headings[1:]} == {("Pay", "Wages")}
    assert all(count(answer) <= headings.max_section_tokens for answer in answers)


# Logs, tables and rows.


async def test_conversations_of_four_to_six_exchanges_are_cut_by_pauses(
    builds: DatasetBuilds,
) -> None:
    def log(day: int, exchanges: int) -> list[str]:
        return [
            f"2024-01-{day:02d}T09:{2 * n + half:02d}:00Z,{who},{said} {day}.{n}"
            for n in range(exchanges)
            for half, (who, said) in enumerate((("Bob", "Why"), ("Ann", "Because")))
        ]

    # 9 exchanges are cut evenly; of 7, no second piece of 4 is left; three are too few.
    logs = [log(1, 4), log(2, 3), log(3, 9), log(4, 7)]
    table = "\n".join(["time,sender,text", *(line for one in logs for line in one), ""])
    recipe = ConversationsRecipe(gap_seconds=1800, system="Answer like Ann.")
    made = await builds.build({"log.csv": table}, Recipe(conversations=recipe))
    assert [(len(row.messages) - 1) // 2 for row in made.rows] == [4, 5, 4, 6]
    assert made.dropped == {"short_conversation": 2}
    for row, (day, first) in zip(made.rows, [(1, 0), (3, 0), (3, 5), (4, 0)], strict=True):
        exchanges = range(first, first + (len(row.messages) - 1) // 2)
        system, *said = talk(row)
        assert system == "Answer like Ann."
        assert said == [f"{word} {day}.{n}" for n in exchanges for word in ("Why", "Because")]
        roles = [message.role for message in row.messages]
        assert roles == ["system", *["user", "assistant"] * len(exchanges)]
        lines = made.source(row).split("\n")
        assert lines == logs[day - 1][2 * first : 2 * (first + len(exchanges))]


async def test_pairs_fill_a_template_and_balance_labels(builds: DatasetBuilds) -> None:
    lines = [f"Parcel {n} came late,post,{'bad' if n < 9 else 'good'}" for n in range(12)]
    table = "\n".join(["text,by,label", *lines, "No label,post,", ""])
    pairs = PairsRecipe(
        input_field="text",
        output_field="label",
        template="By {by}: {text}. Good or bad?",
        system="Judge.",
        balance_labels=True,
    )
    made = await builds.build({"parcels.csv": table}, Recipe(pairs=pairs))
    assert Counter(row.messages[-1].content for row in made.rows) == {"bad": 3, "good": 3}
    assert made.dropped == {"label_balance": 6, "empty_answer": 1}
    for row in made.rows:
        text, by, label = made.source(row).split(",")
        assert talk(row) == ("Judge.", f"By {by}: {text}. Good or bad?", label)


TOOL = {
    "type": "function",
    "function": {"name": "find", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"no": 7}'}}
WITH_TOOLS = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is order 7?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "content": "in Lund", "tool_call_id": "c1"},
        {"role": "assistant", "content": "In Lund."},
    ],
    "tools": [TOOL],
}
PAIRS = {
    "openai.jsonl": ({"prompt": "One?", "completion": "Two."}, ("One?", "Two.")),
    "alpaca.jsonl": (
        {"instruction": "Translate.", "input": "Hus", "output": "House"},
        ("Translate.\n\nHus", "House"),
    ),
    "expected.jsonl": ({"text": "2 + 2", "expected": "4"}, ("2 + 2", "4")),
    "summary.jsonl": (
        {"dialogue": "A: Hi!\nB: Hello.", "summary": "They greet."},
        ("A: Hi!\nB: Hello.", "They greet."),
    ),
}
"""Rows that have an input and an output, and what these are."""


async def test_rows_in_every_format_of_a_chat_are_taken(builds: DatasetBuilds) -> None:
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "Who?"},
            {"from": "gpt", "value": "Me."},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "So."},
        ]
    }
    bad = {"messages": [{"role": "user", "content": "Nobody answers."}]}
    files = {
        "chat.jsonl": json_lines(WITH_TOOLS, bad),
        "sharegpt.jsonl": json_lines(sharegpt, {"conversations": [{"from": "cat", "value": "?"}]}),
        "strange.jsonl": json_lines({"this": "is no row"}),
        **{name: json_lines(row) for name, (row, _) in PAIRS.items()},
    }
    made = await builds.build(files, Recipe(rows=RowsRecipe()))
    assert made.lines == [
        WITH_TOOLS,
        chat("Who?", "Me.", "Why?", "So."),
        *(chat(*pair) for _, pair in PAIRS.values()),
    ]
    assert made.dropped == {"no_answer": 1, "unknown_role": 1, "unknown_row_format": 1}
    # The call has weight 0: it is read, not learned.
    answers = ("In Lund.", "Me.", "So.", *(answer for _, (_, answer) in PAIRS.values()))
    learned = sum(count(f"{answer}<|end|>") for answer in answers)
    assert made.dataset.statistics.learned_tokens == learned
    lines = [made.data[made.names[row.origins[0].source_file]].decode() for row in made.rows]
    assert [made.source(row) for row in made.rows] == [line.split("\n")[0] for line in lines]


async def test_rows_and_pairs_for_sequence_to_sequence_models(builds: DatasetBuilds) -> None:
    files = {
        **{name: json_lines(row) for name, (row, _) in PAIRS.items()},
        "words.tsv": "swedish\tenglish\nkatt\tcat\n",
    }
    words = PairsRecipe(input_field="swedish", output_field="english", sequence_to_sequence=True)
    recipes = (Recipe(rows=RowsRecipe(sequence_to_sequence=True)), Recipe(pairs=words))
    made = await builds.build(files, *recipes)
    assert made.lines == [
        {"prompt": prompt, "completion": completion}
        for prompt, completion in (*(pair for _, pair in PAIRS.values()), ("katt", "cat"))
    ]
    assert dict(made.dataset.statistics.rows_by_shape) == {"pair": 5}
    assert made.dropped == {"unknown_row_format": 1, "missing_field": len(PAIRS)}
    assert [made.source(row) for row in made.of("pairs")] == ["katt\tcat"]


async def test_rows_that_are_texts(builds: DatasetBuilds) -> None:
    files = {"texts.jsonl": json_lines({"text": "One."}, {"text": " "}, {"text": "Two.", "n": 2})}
    made = await builds.build(files, Recipe(rows=RowsRecipe()))
    assert made.lines == [{"text": "One."}, {"text": "Two."}]
    assert made.dropped == {"empty_answer": 1}
    assert [row.origins[0].place.line for row in made.rows] == [1, 3]
    assert made.dataset.statistics.learned_tokens == made.dataset.statistics.tokens


async def test_rows_that_are_preferences(builds: DatasetBuilds) -> None:
    def preference(better: str, worse: str) -> dict[str, Any]:
        return {
            "input": {"messages": [{"role": "user", "content": "May I smoke?"}]},
            "preferred_output": [{"role": "assistant", "content": better}],
            "non_preferred_output": [{"role": "assistant", "content": worse}],
        }

    rows = (preference("Outside only.", "No idea."), preference("Yes.", "Yes."))
    made = await builds.build({"dpo.jsonl": json_lines(*rows)}, Recipe(rows=RowsRecipe()))
    assert made.lines == [rows[0]]
    assert dict(made.dataset.statistics.rows_by_shape) == {"preference": 1}
    assert made.dropped == {"no_preference": 1}


async def test_every_recipe_is_tested_by_this_module() -> None:
    source = Path(__file__).read_text()
    assert [name for name in registry(QuestionPrompts()) if f"Recipe({name}=" not in source] == []
