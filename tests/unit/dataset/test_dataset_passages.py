import pytest
from luthier.dataset.v1.recipe_pb2 import Chunking
from luthier_dataset.readers.items import (
    Block,
    BlockKind,
    CodeFile,
    Item,
    Message,
    Place,
    Record,
    Remark,
    Section,
)
from luthier_dataset.recipes.passages import (
    Part,
    check_chunking,
    lines_of,
    passages,
    record_text,
)

from tests.support.scripted_tools import document, section, starter, words


def cut(chunking: Chunking, *items: Item) -> list[Part]:
    return list(passages(document(*items), chunking, words()))


def told(chunking: Chunking, *items: Item) -> list[tuple[str, tuple[str, ...]]]:
    return [(part.text, part.heading_path) for part in cut(chunking, *items)]


def test_sections_in_a_row_under_one_path_are_one_text() -> None:
    items: list[Item] = [
        section("A."),
        Remark("guessed_encoding", "x"),
        section("- B."),
        section("C.", path=()),
    ]
    assert told(Chunking(), *items) == [("A.\n- B.", ("Handbook", "Leave")), ("C.", ())]


def test_members_of_an_archive_are_texts_of_their_own() -> None:
    one, other = Place(member="a.md"), Place(member="b.md")
    items = [section("A.", path=("H",), place=one), section("B.", path=("H",), place=other)]
    assert [(part.text, part.place.member) for part in cut(Chunking(), *items)] == [
        ("A.", "a.md"),
        ("B.", "b.md"),
    ]


def test_records_messages_and_source_files_are_text_too() -> None:
    items: list[Item] = [
        Record({"name": "Ann", "age": 7, "tags": ["ä"], "gone": None, "no": ""}, ("Staff",)),
        Record({"name": "Bob"}, ("Staff",)),
        Record({"name": None}),
        Message("ann", "Hi\n\nall", thread="news"),
        Message("bob", " "),
        CodeFile("src/a.py", "python", "x = 1\n\ny = 2\n"),
    ]
    assert told(Chunking(), *items) == [
        ('name: Ann\nage: 7\ntags: ["ä"]', ("Staff",)),
        ("name: Bob", ("Staff",)),
        ("Hi\nall", ("news",)),
        ("x = 1\n\ny = 2\n", ("src/a.py",)),
    ]


def test_statements_are_sentences_items_and_rows_but_not_code() -> None:
    place = Place(line=3, start=0, end=19)
    blocks = (
        Block(BlockKind.PARAGRAPH, "Größe. Alles gut.", place),
        Block(BlockKind.BULLET, "An item."),
        Block(BlockKind.TABLE_ROW, "a. B | c"),
        Block(BlockKind.VERBATIM, "code. Code."),
    )
    parts = cut(Chunking(boundary=Chunking.STATEMENT), Section(("H",), blocks))
    assert [part.text for part in parts] == ["Größe.", "Alles gut.", "An item.", "a. B | c"]
    data = "Größe. Alles gut.".encode()
    assert [data[part.place.start : part.place.end].decode() for part in parts[:2]] == [
        "Größe.",
        "Alles gut.",
    ]


def test_fixed_chunks_are_exact_and_stay_under_their_heading() -> None:
    chunking = Chunking(boundary=Chunking.FIXED, tokens=20, overlap_tokens=5)
    line = "Staff of Acme get twenty four days of leave in each year of service."
    found = list(passages(document(section(line), section("B.", path=())), chunking, starter()))
    assert [part.heading_path for part in found][-1] == ()
    assert starter().count(found[0].text) == 20
    assert found[1].text[:5] in found[0].text


def test_semantic_passages_join_small_sections() -> None:
    chunking = Chunking(boundary=Chunking.SEMANTIC, tokens=64)
    items = [section("A b.", path=("H", "One")), section("C d e f g.", path=("H", "Two"))]
    assert told(chunking, *items) == [("One\nA b.\nTwo\nC d e f g.", ("H",))]


def test_lines_of_code_have_their_own_lines_and_bytes() -> None:
    text = "größe = 1\n\nb = 2"
    block = Block(BlockKind.VERBATIM, text, Place(line=5, last_line=7, start=30, end=48))
    data = b"#" * 30 + text.encode()
    found = list(lines_of(block))
    assert [line for line, _ in found] == ["größe = 1", "", "b = 2"]
    assert [data[at.start : at.end].decode() for _, at in found] == ["größe = 1", "", "b = 2"]
    assert [at.line for _, at in found] == [5, 6, 7]


def test_a_record_keeps_the_order_of_its_columns() -> None:
    assert record_text(Record({"b": True, "a": 1.5, "c": {"d": "é"}})) == (
        'b: true\na: 1.5\nc: {"d": "é"}'
    )


@pytest.mark.parametrize(
    "chunking",
    [
        Chunking(boundary=Chunking.SECTION, overlap_tokens=1),
        Chunking(overlap_tokens=1),
        Chunking(boundary=Chunking.FIXED, tokens=8, overlap_tokens=8),
        Chunking(boundary=Chunking.FIXED, overlap_tokens=256),
    ],
)
def test_an_overlap_that_cannot_be_is_refused(chunking: Chunking) -> None:
    with pytest.raises(ValueError, match=r"^chunking\.overlap_tokens: "):
        check_chunking(chunking, "chunking")
    check_chunking(Chunking(boundary=Chunking.FIXED, overlap_tokens=255), "chunking")
