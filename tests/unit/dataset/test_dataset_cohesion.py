from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.cohesion import CohesiveChunk, semantic_chunks
from luthier_dataset.readers.items import NOWHERE, Block, BlockKind, Place

from tests.support.scripted_tools import section, starter, words

LEAVE = [
    "Every employee gets 24 days of annual leave.",
    "Annual leave is requested from the manager of the employee.",
    "A manager may refuse leave when too many employees are on leave.",
    "Unused annual leave may be carried over until March.",
    "Employees who leave the company are paid for unused annual leave.",
]
SERVERS = [
    "The servers stand in two rooms with their own cooling.",
    "Cooling of the server rooms is checked every night.",
    "When cooling fails, the servers shut down on their own.",
    "Only administrators enter the server rooms.",
    "Each server room has a spare cooling unit.",
]


def cut(*sections: tuple[tuple[str, ...], list[str]], most: int, least: int) -> list[CohesiveChunk]:
    found = ((path, section(*lines, path=path).blocks) for path, lines in sections)
    return list(semantic_chunks(found, words(), most, least))


def test_a_text_is_cut_where_its_subject_changes() -> None:
    one, other = cut((("Rules",), [" ".join(LEAVE + SERVERS)]), most=200, least=30)
    assert one.text == " ".join(LEAVE)
    assert other.text == " ".join(SERVERS)
    assert one.heading_path == ("Rules",)


def test_a_text_about_one_subject_stays_whole_if_it_may() -> None:
    (chunk,) = cut((("Rules",), LEAVE[:2]), most=200, least=5)
    assert chunk.text == "\n".join(LEAVE[:2])


def test_headings_end_a_chunk_however_alike_the_sections_are() -> None:
    chunks = cut((("H", "A"), LEAVE[:2]), (("H", "B"), LEAVE[2:]), most=200, least=15)
    assert [chunk.heading_path for chunk in chunks] == [("H", "A"), ("H", "B")]
    assert chunks[0].text == "\n".join(LEAVE[:2])


def test_small_sections_of_one_parent_are_joined_with_their_headings() -> None:
    chunks = cut(
        (("H", "A"), ["One two."]),
        (("H", "B"), ["Three four."]),
        (("I", "C"), ["Five six."]),
        most=50,
        least=8,
    )
    assert [(chunk.text, chunk.heading_path) for chunk in chunks] == [
        ("A\nOne two.\nB\nThree four.", ("H",)),
        ("C\nFive six.", ("I", "C")),
    ]


def test_text_above_the_first_heading_is_joined_with_nothing_below() -> None:
    chunks = cut(((), ["One two."]), (("H",), ["Three four."]), most=50, least=8)
    assert [chunk.text for chunk in chunks] == ["One two.", "H\nThree four."]


def test_records_under_one_path_are_joined_without_a_heading_each() -> None:
    chunks = cut((("T",), ["a: 1"]), (("T",), ["a: 2"]), most=50, least=8)
    assert [chunk.text for chunk in chunks] == ["T\na: 1\na: 2"]


def test_a_sentence_that_is_too_long_is_cut_between_words() -> None:
    chunks = cut(((), ["one two three four five"]), most=2, least=1)
    assert [chunk.text for chunk in chunks] == ["one two", "three four", "five"]


def test_each_chunk_knows_its_bytes() -> None:
    text = " ".join(["Größe: " + LEAVE[0], *LEAVE[1:], *SERVERS])
    block = Block(BlockKind.PARAGRAPH, text, Place(start=7, end=7 + len(text.encode())))
    chunks = list(semantic_chunks([(("H",), [block])], starter(), 150, 40))
    data = b"-" * 7 + text.encode()
    assert len(chunks) > 1
    for chunk in chunks:
        assert data[chunk.place.start : chunk.place.end].decode() == chunk.text


def test_a_long_text_is_cut_window_by_window() -> None:
    lines = [f"{sentence} Number {n}." for n in range(120) for sentence in LEAVE]
    chunks = cut((("H",), lines), most=100, least=20)
    assert " ".join(chunk.text for chunk in chunks).split() == " ".join(lines).split()
    assert all(20 <= words().count(chunk.text) <= 100 for chunk in chunks)


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.sampled_from(LEAVE + SERVERS), min_size=1), min_size=1, max_size=4),
    st.integers(1, 20),
    st.integers(0, 40),
)
def test_lengths_hold_and_nothing_is_lost(texts: list[list[str]], least: int, more: int) -> None:
    most = 2 * least + more
    sections = [((f"H{number}",), lines) for number, lines in enumerate(texts)]
    found = ((path, section(*lines, path=path).blocks) for path, lines in sections)
    chunks = list(semantic_chunks(found, words(), most, least))
    headings = {path[0] for path, _ in sections}
    kept = [word for chunk in chunks for word in chunk.text.split() if word not in headings]
    assert kept == [word for lines in texts for line in lines for word in line.split()]
    for chunk in chunks:
        assert words().count(chunk.text) <= most
        assert chunk.place == NOWHERE


def test_no_chunk_of_a_long_text_is_short() -> None:
    sizes = [words().count(chunk.text) for chunk in cut((("H",), LEAVE * 8), most=60, least=15)]
    assert len(sizes) > 5
    assert min(sizes) >= 15
