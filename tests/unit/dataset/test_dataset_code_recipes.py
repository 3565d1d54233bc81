import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from luthier.dataset.v1.recipe_pb2 import (
    CodeMetadataRecipe,
    CodeRawRecipe,
    CodeSummaryRecipe,
    Recipe,
)
from luthier_dataset.readers.archive import read_archive
from luthier_dataset.readers.code.syntax import Budget
from luthier_dataset.readers.items import CodeFile, Item, Place, Remark
from luthier_dataset.readers.source import code_file
from luthier_dataset.recipes import code_metadata, code_raw, code_summary
from luthier_dataset.recipes.recipe import Ask, Document, Reply, Row, Shape

from tests.support.hostile_archives import GOOD, Entry, zip_of
from tests.support.scripted_tools import ScriptedTools, document, run, section, starter

STACK = '''class Stack:
    """Items, last in first out."""

    def push(self, item: int) -> None:
        """Put an item on top."""
        # The list's end is the top.
        self.items.append(item)
'''
PUSH = '''def push(self, item: int) -> None:
    """Put an item on top."""
    # The list's end is the top.
    self.items.append(item)'''
BARE = "int add(int a, int b) { return a + b; }\n"


def items_of(name: str, text: str) -> Iterator[Item]:
    return code_file(text.encode(), name, Budget(10_000), member=name)


def code_base() -> Document:
    return document(
        section("Prose is no code."),
        *items_of("src/add.c", BARE),
        Remark("skipped_member", "x"),
        *items_of("src/stack.py", STACK),
        *items_of("README", "Read me.\n"),
    )


def messages(row: Row) -> tuple[str, str]:
    user, assistant = row.body["messages"]
    assert (row.shape, user["role"], assistant["role"]) == (Shape.CHAT, "user", "assistant")
    return user["content"], assistant["content"]


def summaries(
    config: CodeSummaryRecipe, tools: ScriptedTools, made: Document | None = None
) -> list[Row]:
    return run(code_summary.KIND, Recipe(code_summary=config), made or code_base(), tools)


def named(ask: Ask) -> str:
    """Names what a prompt shows, as a model would."""
    for part in ("class Stack", "def push", "int add"):
        if part in ask.prompt:
            return f" About {part}. "
    raise AssertionError(ask.prompt)


def test_each_unit_is_asked_about_as_it_stands() -> None:
    tools = ScriptedTools(named)
    rows = summaries(CodeSummaryRecipe(), tools)
    assert [ask.prompt for ask in tools.asked] == [
        f"Summarize this c code: {BARE.strip()}",
        f"Summarize this python code: {STACK.strip()}",
        f"Summarize this python code: {PUSH}",
    ]
    assert {(ask.model, ask.max_tokens) for ask in tools.asked} == {("", 128)}
    assert [messages(row) for row in rows] == [
        ("About int add.", BARE.strip()),
        ("About class Stack.", STACK.strip()),
        ("About def push.", PUSH),
    ]
    assert not tools.dropped


def test_rows_name_their_unit_and_their_file() -> None:
    row = summaries(CodeSummaryRecipe(), ScriptedTools(named))[2]
    (origin,) = row.origins
    assert (origin.file, origin.place) == (
        "projects/p/files/f",
        Place("src/stack.py", 0, 0, 4, 7, 50, 191),
    )
    assert STACK.encode()[50:191].decode().strip().startswith("def push")
    assert row.group == "0" * 64 + ":src/stack.py"


@pytest.mark.parametrize(
    ("direction", "pairs"),
    [
        (CodeSummaryRecipe.TO_CODE, [("About int add.", BARE.strip())]),
        (CodeSummaryRecipe.TO_SUMMARY, [(BARE.strip(), "About int add.")]),
        (
            CodeSummaryRecipe.BOTH,
            [("About int add.", BARE.strip()), (BARE.strip(), "About int add.")],
        ),
    ],
)
def test_either_side_can_be_the_prompt(
    direction: CodeSummaryRecipe.Direction, pairs: list[tuple[str, str]]
) -> None:
    config = CodeSummaryRecipe(direction=direction)
    rows = summaries(config, ScriptedTools(named), document(*items_of("a.c", BARE)))
    assert [messages(row) for row in rows] == pairs
    assert len({row.group for row in rows}) == 1


def test_model_template_and_lengths_are_configured() -> None:
    config = CodeSummaryRecipe(
        model="models/big",
        template="{name} in {language}, {other}:\n{code}",
        max_reply_tokens=9,
    )
    tools = ScriptedTools(named)
    summaries(config, tools)
    expected = Ask(f"Stack.push in python, {{other}}:\n{PUSH}", "models/big", 9)
    assert tools.asked[2] == expected


def test_replies_that_are_no_summary_are_dropped_and_counted() -> None:
    replies = {
        "class Stack": Reply("  \n"),
        "def push": Reply("It puts", complete=False),
        "int add": Reply("", refused="too long"),
    }

    def answer(ask: Ask) -> Reply:
        return next(reply for part, reply in replies.items() if part in ask.prompt)

    tools = ScriptedTools(answer)
    assert summaries(CodeSummaryRecipe(), tools) == []
    assert tools.dropped == {"empty_summary": 1, "unfinished_summary": 1, "prompt_refused": 1}


def test_units_that_are_too_long_are_not_asked_about() -> None:
    tools = ScriptedTools(named)
    most = starter().count(PUSH)
    rows = summaries(CodeSummaryRecipe(max_unit_tokens=most), tools)
    assert [messages(row)[1] for row in rows] == [BARE.strip(), PUSH]
    assert tools.dropped == {"unit_too_long": 1}


def test_rows_wait_for_their_replies_only() -> None:
    tools = ScriptedTools(lambda ask: named(ask) if "push" in ask.prompt else None)
    assert len(summaries(CodeSummaryRecipe(), tools)) == 2
    assert not tools.dropped


def test_a_template_needs_the_code() -> None:
    with pytest.raises(ValueError, match=r"template: must hold \{code\}"):
        code_summary.KIND.check(Recipe(code_summary=CodeSummaryRecipe(template="Summarize.")))
    kinds = (code_summary.KIND, code_metadata.KIND, code_raw.KIND)
    assert [kind.by_item for kind in kinds] == [True, True, False]


def test_what_is_said_about_a_unit_asks_for_it() -> None:
    tools = ScriptedTools()
    rows = run(code_metadata.KIND, Recipe(code_metadata=CodeMetadataRecipe()), code_base(), tools)
    assert [messages(row) for row in rows] == [
        (
            "Language: c\nFile: src/add.c\nName: add\nSignature: int add(int a, int b)",
            BARE.strip(),
        ),
        (
            "Language: python\nFile: src/stack.py\nName: Stack\nSignature: class Stack\n"
            "Documentation: Items, last in first out.",
            STACK.strip(),
        ),
        (
            "Language: python\nFile: src/stack.py\nName: Stack.push\n"
            "Signature: def push(self, item: int) -> None\n"
            "Documentation: Put an item on top.\n"
            "Comments: The list's end is the top.",
            PUSH,
        ),
    ]
    assert [row.group for row in rows] == [
        "0" * 64 + ":" + path for path in ("src/add.c", "src/stack.py", "src/stack.py")
    ]
    assert rows[2].origins[0].place.start == 50
    config = Recipe(code_metadata=CodeMetadataRecipe(max_unit_tokens=1))
    assert run(code_metadata.KIND, config, code_base(), tools) == []
    assert tools.dropped == {"unit_too_long": 3}


def raw(made: Document, tools: ScriptedTools, tokens: int = 0) -> list[Row]:
    return run(code_raw.KIND, Recipe(code_raw=CodeRawRecipe(chunk_tokens=tokens)), made, tools)


def test_files_stand_one_behind_another_each_under_its_path() -> None:
    (row,) = raw(code_base(), ScriptedTools())
    assert row.body == {
        "text": f"=== src/add.c ===\n{BARE}\n=== src/stack.py ===\n{STACK}\n"
        "=== README ===\nRead me.\n"
    }
    assert row.shape == Shape.TEXT
    assert [(one.place.member, one.place.start, one.place.end) for one in row.origins] == [
        ("src/add.c", 0, len(BARE) - 1),
        ("src/stack.py", 0, len(STACK) - 1),
        ("README", 0, 8),
    ]


def test_chunks_have_exactly_so_many_tokens_and_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(1)
    names = [f"{part}/m{number}.py" for part in ("b", "a") for number in range(6)]
    sources = {
        name: "".join(
            f"def f{line}(x):\n    # {chance.choice(['größer', 'less'])}\n    return x * {line}\n\n"
            for line in range(chance.randrange(5, 15))
        ).encode()
        for name in names
    }
    path = tmp_path / "base.zip"
    path.write_bytes(zip_of([Entry(name.encode(), data) for name, data in sources.items()]))
    made = Document("f", "base", "0", lambda: iter(read_archive(path)))
    tools = ScriptedTools(context_tokens=96)
    rows = raw(made, tools)
    texts = [row.body["text"] for row in rows]
    counts = [starter().count(text) for text in texts]
    assert len(rows) > 10
    # At a few cuts no character gives the exact number.
    assert max(counts) == 96
    assert min(counts[:-1]) >= 95
    assert counts[:-1].count(96) >= 0.9 * len(counts)
    files = [item for item in made.items() if isinstance(item, CodeFile)]
    assert [file.path for file in files] == sorted([*names, "src/good.py"])
    assert "".join(texts) == "\n".join(f"=== {file.path} ===\n{file.text}" for file in files)
    for row in rows:
        for origin in row.origins:
            data = sources.get(origin.place.member, GOOD[1])
            part = data[origin.place.start : origin.place.end].decode()
            assert part.strip("\n") in row.body["text"]
    shorter = [starter().count(row.body["text"]) for row in raw(made, tools, tokens=50)]
    assert max(shorter) == 50


def test_a_code_base_without_text_makes_no_row() -> None:
    assert raw(document(*items_of("a.py", " \n\n")), ScriptedTools()) == []
