"""Every reader, on a real document of its kind: uploaded, built and asked for its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio
from luthier.dataset.v1.dataset_pb2 import DatasetRow, RowPlace
from luthier.dataset.v1.quality_pb2 import QualityCheck
from luthier.dataset.v1.recipe_pb2 import (
    CodeMetadataRecipe,
    ConversationsRecipe,
    HeadingsRecipe,
    PairsRecipe,
    Recipe,
)
from luthier_dataset.readers.kinds import Kind, kind_of

from tests.support import real_documents as real
from tests.support.dataset_builds import Built, dataset_builds
from tests.support.real_documents import RealDocument

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROSE = (
    *(real.pdf(), real.word(), real.slides(), real.page(), real.markdown(), real.restructured()),
    *(real.text(), real.email()),
)
TABLES = (
    *(real.sheet(), real.comma_separated(), real.tab_separated(), real.parquet()),
    *(real.json_lines(), real.json_table()),
)
CHATS = (real.slack(), real.whatsapp(), real.mail_box())
CODE = (real.zip_archive(), real.tar_archive(), real.source())
GROUPS: Mapping[str, tuple[Sequence[RealDocument], Recipe]] = {
    "prose": (PROSE, Recipe(headings=HeadingsRecipe())),
    "tables": (TABLES, Recipe(pairs=PairsRecipe(input_field="question", output_field="answer"))),
    "chats": (CHATS, Recipe(conversations=ConversationsRecipe(min_exchanges=2))),
    "code": (CODE, Recipe(code_metadata=CodeMetadataRecipe())),
}
DOCUMENTS = {document.name: document for group, _ in GROUPS.values() for document in group}


@dataclass(frozen=True)
class Made:
    """A row as it should be."""

    texts: tuple[str, ...]
    """Of its messages: the user's and the assistant's in turn."""
    source: str = ""
    """What stands at the bytes it comes from; empty if its reader tells no bytes."""
    path: tuple[str, ...] = ()
    pages: tuple[int, int] = (0, 0)
    lines: tuple[int, int] = (0, 0)
    member: str = ""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Built]:
    async with dataset_builds(tmp_path_factory.mktemp("service")) as builds:
        return {
            group: await builds.build({one.name: one.data for one in documents}, recipe)
            for group, (documents, recipe) in GROUPS.items()
        }


def as_made(row: DatasetRow, document: RealDocument) -> Made:
    place: RowPlace = row.origins[0].place
    assert len(row.origins) == 1
    return Made(
        tuple(message.content for message in row.messages),
        document.text[place.start_byte : place.end_byte].decode(),
        tuple(row.origins[0].heading_path),
        (place.page, place.last_page),
        (place.line, place.last_line),
        place.member,
    )


def prose(
    path: str,
    answer: str,
    source: str = "",
    *,
    pages: tuple[int, int] = (0, 0),
    lines: tuple[int, int] = (0, 0),
) -> Made:
    """A row by headings; its source is its answer without the marks of bullets, if not given."""
    bare = "\n".join(line.removeprefix("- ") for line in answer.split("\n"))
    return Made((path, answer), source or bare, tuple(path.split(" > ")), pages, lines)


def metadata(**lines: str) -> str:
    """The prompt of the `code_metadata` recipe."""
    return "\n".join(f"{name.capitalize()}: {value}" for name, value in lines.items())


EMAIL = real.email()
BOX = real.mail_box()
SLACK = real.slack().text.decode()
OPEN = (
    "/** Opens the d\u00f6or. */\nexport function open(code: string): boolean {\n"
    "  // One code for all.\n  return code === 'x';\n}"
)
TILL = "/** Counts money. */\nclass Till {\n    int sum;\n}"
FREE = "// Free tells whether a place is free.\nfunc Free() bool {}"

EXPECTED: Mapping[str, Sequence[Made]] = {
    "handbook.pdf": [
        prose(
            "Acme Handbook > Leave > Annual leave",
            "Everyone at Acme gets 24 days of leave in each year, and asks for them early.\n"
            "- Ask in writing.\n- Ask in time.",
            pages=(1, 1),
        ),
        prose(
            "Acme Handbook > Leave > Sick leave",
            "Call your head before nine in the morning.",
            pages=(1, 1),
        ),
        prose(
            "Acme Handbook > Travel",
            "Trains are booked by the front desk.\nClass | Limit\nSecond | 200 kilometres",
            pages=(2, 3),
        ),
    ],
    "rules.docx": [
        prose(
            "Rules of the house > Keys > Lost keys",
            "Tell the front desk at once.\n- A new key costs 30 crowns.",
            lines=(4, 5),
        ),
        prose("Rules of the house > Bicycles", "Where | How many\nYard | 40", lines=(7, 9)),
    ],
    "plans.pptx": [
        prose("Plans for spring", "The board of Acme", pages=(1, 1)),
        prose(
            "Plans for spring > New shops",
            "- Lund opens in May\n- Ghent opens in June\nBoth hire now.\nSay whom to ask.",
            pages=(2, 2),
        ),
    ],
    "shop.html": [
        prose("Shop > Opening hours", "We open at nine & close at five.\n- Closed on Sundays"),
        prose("Shop > Parking", "Place | Price\nYard | 2 \u20ac"),
    ],
    "deploy.md": [
        prose(
            "Deploying > Before",
            "Tell the caf\u00e9 first, then wait.\n- Take a copy.",
            "Tell the *caf\u00e9* first,\nthen `wait`.\n\n- Take a copy.",
            lines=(5, 8),
        ),
        prose("Deploying > After", "make check", "```\nmake check\n```", lines=(12, 14)),
    ],
    "printer.rst": [
        prose(
            "Printer > Paper",
            "Use the upper tray.\n- A4 only",
            "Use the *upper* tray.\n\n- A4 only",
            lines=(7, 9),
        ),
        prose("Printer > Ink", "It lasts for 900 pages.", lines=(14, 14)),
    ],
    "notes.txt": [
        Made(
            ("notes", "The lift stops at ten.\nThe na\u00efve way is down."),
            "The lift stops\nat ten.\n\nThe na\u00efve way\r\nis down.",
            lines=(1, 5),
        )
    ],
    "chair.eml": [
        Made(
            ("Broken chair", "Put it in the yard.\nWe fetch it on Friday."),
            EMAIL.data.decode(),
            ("Broken chair",),
            lines=(1, EMAIL.data.count(b"\n")),
        )
    ],
    "desk.xlsx": [
        Made(
            ("When are refunds paid?", "Within 52 days."),
            path=("Front desk",),
            pages=(1, 1),
            lines=(2, 2),
        ),
        Made(("How many floors?", "7"), path=("Floors",), pages=(2, 2), lines=(3, 3)),
    ],
    "desk.csv": [
        Made(
            ("Where is the safe?", "On floor 2;\nask Bob."),
            'Where is the safe?;"On floor 2;\nask Bob."',
            lines=(2, 3),
        )
    ],
    "desk.tsv": [
        Made(("Who has the van?", "Ann has it."), "Who has the van?\tAnn has it.", lines=(2, 2))
    ],
    "desk.parquet": [
        Made(("Who signs for travel?", "The head of the house."), lines=(1, 1)),
        Made(("How long is a stay?", "Five nights at most."), lines=(3, 3)),
    ],
    "desk.jsonl": [
        Made(
            ("Caf\u00e9?", "Next door."),
            '{"question": "Caf\u00e9?", "answer": "Next door."}',
            lines=(2, 2),
        )
    ],
    "desk.json": [
        Made(
            ("Is there tea?", "Yes, in the hall."),
            '{\n    "question": "Is there tea?",\n    "answer": "Yes, in the hall."\n   }',
            ("hall", "tea"),
            lines=(4, 7),
        )
    ],
    "2024-01-05.json": [
        Made(
            (
                *("Where do I get a badge?", "At the front desk."),
                *("When is it open & who is there?", "Ann, from nine."),
            ),
            # From the second message, the first that is one, to the end of the last.
            SLACK[SLACK.index("{", SLACK.index("}")) : SLACK.rindex("}") + 1],
            lines=(9, 44),
        )
    ],
    "chat.txt": [
        Made(
            (
                *("Is the yard free?", "It is.\nUntil ten."),
                *("May I park there?", "Yes, \u2026 by the wall."),
            ),
            "\n".join(real.whatsapp().text.decode().split("\n")[1:7]),
            lines=(2, 7),
        )
    ],
    "keys.mbox": [
        Made(
            (
                *("May I have a key?", "Which door?"),
                *("The yard.\n\nFrom now on, please.", "It is at the desk."),
            ),
            BOX.data.split(b"\n", 1)[1].decode(),
            lines=(2, BOX.data.count(b"\n")),
        )
    ],
    "till.zip": [
        Made(
            (
                metadata(
                    language="java",
                    file="shop/Till.java",
                    name="Till",
                    signature="class Till",
                    documentation="Counts money.",
                ),
                TILL,
            ),
            TILL,
            lines=(1, 4),
            member="shop/Till.java",
        )
    ],
    "yard.tar.gz": [
        Made(
            (
                metadata(
                    language="go",
                    file="yard/free.go",
                    name="Free",
                    signature="func Free() bool",
                    documentation="Free tells whether a place is free.",
                ),
                FREE,
            ),
            FREE,
            lines=(3, 4),
            member="yard/free.go",
        )
    ],
    "door.ts": [
        Made(
            (
                metadata(
                    language="typescript",
                    file="door.ts",
                    name="open",
                    signature="export function open(code: string): boolean",
                    documentation="Opens the d\u00f6or.",
                    comments="One code for all.",
                ),
                OPEN,
            ),
            OPEN,
            lines=(1, 5),
        )
    ],
}


async def test_there_is_a_document_of_every_kind() -> None:
    assert {kind_of(name) for name in DOCUMENTS} == set(Kind)


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_document_becomes_these_rows(built: Mapping[str, Built], name: str) -> None:
    found = [
        as_made(row, DOCUMENTS[name])
        for one in built.values()
        for row in one.rows
        if one.names[row.origins[0].source_file] == name
    ]
    assert found == EXPECTED[name]


@pytest.mark.parametrize("group", GROUPS)
async def test_the_minted_file_holds_the_same_rows(built: Mapping[str, Built], group: str) -> None:
    one = built[group]
    documents, recipe = GROUPS[group]
    for line, row in zip(one.lines, one.rows, strict=True):
        messages = [{"role": said.role, "content": said.content} for said in row.messages]
        assert line == {"messages": messages}
        roles = [said.role for said in row.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert row.recipe == recipe.WhichOneof("recipe")
    # Rows come in the order of the sources, and no document is without any.
    assert list(dict.fromkeys(one.names[row.origins[0].source_file] for row in one.rows)) == [
        document.name for document in documents
    ]
    assert one.dataset.statistics.documents == len(documents)


def examples(one: Built, check: QualityCheck) -> list[tuple[str, str]]:
    """What was found, each with the document's own name."""
    finding = next(finding for finding in one.report.findings if finding.check == check)
    assert finding.count == len(finding.examples)
    return sorted((one.names[example.source_file], example.detail) for example in finding.examples)


async def test_what_a_reader_leaves_out_stands_in_the_report(built: Mapping[str, Built]) -> None:
    skipped = QualityCheck.SKIPPED_PART
    assert examples(built["prose"], skipped) == [
        ("chair.eml", "attachments are left out: list.pdf")
    ]
    assert examples(built["tables"], QualityCheck.MALFORMED_ROW) == [
        ("desk.jsonl", "line 1 is not valid JSON (Expecting value, column 13)"),
        ("desk.parquet", "there is no value for 'answer'"),
    ]
    assert [name for name, _ in examples(built["chats"], skipped)] == [
        "2024-01-05.json",
        "chat.txt",
    ]
    assert examples(built["code"], skipped) == [
        ("till.zip", "files left out because others or a machine made them (1): target (1)"),
        ("yard.tar.gz", "yard/link.go is left out: it is a link"),
    ]
    # The last message of the chat came a day later, and nobody answered.
    assert {group: one.dropped for group, one in built.items()} == {
        "prose": {},
        "tables": {"missing_field": 1},
        "chats": {"short_conversation": 1},
        "code": {},
    }
