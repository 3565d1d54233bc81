import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier.dataset.v1.recipe_pb2 import ConversationsRecipe, Recipe
from luthier_dataset.readers.items import Message, Place, Record
from luthier_dataset.recipes import conversations
from luthier_dataset.recipes.conversations import KIND, NAME
from luthier_dataset.recipes.recipe import Origin, Row

from tests.support.scripted_tools import ScriptedTools, document, run


def config(**fields: Any) -> Recipe:
    return Recipe(conversations=ConversationsRecipe(**fields))


def talk(*messages: str, start: float = 0.0, thread: str = "", step: float = 60) -> list[Message]:
    """Messages written `sender: text`, a minute apart."""
    made = []
    for number, message in enumerate(messages):
        sender, _, text = message.partition(": ")
        place = Place(line=number + 1, last_line=number + 1, start=number * 10, end=number * 10 + 9)
        made.append(Message(sender, text, start + number * step, thread, place))
    return made


def exchanges(count: int, *, start: float = 0.0, thread: str = "") -> list[Message]:
    lines = [line for n in range(count) for line in (f"a: q{n}", f"b: r{n}")]
    return talk(*lines, start=start, thread=thread)


def turns(row: Row) -> list[str]:
    letter = {"system": "S", "user": "U", "assistant": "A"}
    return [f"{letter[one['role']]} {one['content']}" for one in row.body["messages"]]


def made(items: list[Any], **fields: Any) -> tuple[list[Row], dict[str, int]]:
    tools = ScriptedTools()
    rows = run(KIND, config(**fields), document(*items), tools)
    return rows, dict(tools.dropped)


def test_a_conversation_is_one_row() -> None:
    items = talk(
        "Bot: Welcome.",
        "Ann: Hello,",
        "Ann: anybody?",
        "Bot: Yes.",
        "Ann: Leave?",
        "Bot: 24 days.",
        "Bot: A year.",
        "Ann: Thanks.",
    )
    [row], dropped = made(items, assistants=["Bot"], min_exchanges=2, system="Be kind.")
    assert turns(row) == [
        "S Be kind.",
        "U Hello,\nanybody?",
        "A Yes.",
        "U Leave?",
        "A 24 days.\nA year.",
    ]
    place = Place(line=2, last_line=7, start=10, end=69)
    assert row.origins == (Origin("projects/p/files/f", (), place),)
    assert row.group == "0" * 64 + ":1"
    assert dropped == {}
    assert NAME == "conversations"


def test_without_names_who_answers_first_is_the_assistant_of_each_conversation() -> None:
    items = talk("a: Hi", "b: Ho", "a: Hu", "b: Hm")
    items += talk("b: Well?", "a: Good.", "b: Well!", "a: Bad.", start=90_000)
    rows, _ = made(items, min_exchanges=2)
    assert [turns(row) for row in rows] == [
        ["U Hi", "A Ho", "U Hu", "A Hm"],
        ["U Well?", "A Good.", "U Well!", "A Bad."],
    ]
    assert [row.group[-2:] for row in rows] == [":1", ":2"]


def test_in_a_group_users_are_named() -> None:
    items = talk("Ann: One?", "Ann: Two?", "Bob: Three?", "Ann: Four?", "Bot: Five.", "Cy: Six")
    [row], _ = made(items, assistants=["Bot", "Other"], min_exchanges=1)
    assert turns(row) == ["U Ann: One?\nTwo?\nBob: Three?\nAnn: Four?", "A Five."]


@pytest.mark.parametrize(
    ("count", "sizes", "dropped"),
    [
        (3, [], 1),
        (4, [4], 0),
        (6, [6], 0),
        (7, [6], 1),
        (8, [4, 4], 0),
        (9, [5, 4], 0),
        (10, [5, 5], 0),
        (13, [5, 4, 4], 0),
    ],
)
def test_long_conversations_are_cut_and_short_ones_dropped(
    count: int, sizes: list[int], dropped: int
) -> None:
    rows, counted = made(exchanges(count))
    assert [len(row.body["messages"]) // 2 for row in rows] == sizes
    assert {row.group for row in rows} <= {"0" * 64 + ":1"}
    assert counted == ({"short_conversation": dropped} if dropped else {})


@settings(max_examples=50)
@given(count=st.integers(1, 40), least=st.integers(1, 7), more=st.integers(0, 5))
def test_pieces_are_even_and_hold_all_that_can_be_held(count: int, least: int, more: int) -> None:
    most = least + more
    rows, dropped = made(exchanges(count), min_exchanges=least, max_exchanges=most)
    sizes = [len(row.body["messages"]) // 2 for row in rows]
    assert all(least <= size <= most for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1
    numbers = range(count + 1)
    best = max(n for n in numbers for k in numbers if k * least <= n <= k * most)
    assert sum(sizes) == best
    assert dropped == ({"short_conversation": 1} if best < count else {})
    spoken = [turn for row in rows for turn in turns(row)]
    assert spoken == [f"{who}{n}" for n in range(best) for who in ("U q", "A r")]


def test_the_pieces_of_a_conversation_have_their_own_places() -> None:
    rows, _ = made(exchanges(10))
    places = [row.origins[0].place for row in rows]
    assert [(place.line, place.last_line) for place in places] == [(1, 10), (11, 20)]


def test_a_pause_longer_than_the_gap_ends_a_conversation() -> None:
    items = exchanges(4) + exchanges(4, start=420 + 100)
    assert len(made(items, gap_seconds=100, max_exchanges=8)[0]) == 1
    rows, _ = made(items, gap_seconds=99)
    assert [len(row.body["messages"]) for row in rows] == [8, 8]
    assert len(made(exchanges(4) + exchanges(4, start=420 + 3600), max_exchanges=8)[0]) == 1
    assert len(made(exchanges(4) + exchanges(4, start=420 + 3601), max_exchanges=8)[0]) == 2


def test_one_speaker_alone_is_no_conversation() -> None:
    rows, dropped = made(talk("a: One", "a: Two"), min_exchanges=1)
    assert (rows, dropped) == ([], {"short_conversation": 1})


def test_threads_may_be_interleaved() -> None:
    pairs = zip(exchanges(4, thread="x"), exchanges(4, thread="y", start=1), strict=True)
    rows, _ = made([message for pair in pairs for message in pair])
    assert [row.group[-2:] for row in rows] == [":1", ":2"]
    assert all(turns(row) == turns(rows[0]) for row in rows)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), step=st.floats(0.5, 100))
def test_within_a_gap_any_order_in_the_log_gives_the_order_of_time(seed: int, step: float) -> None:
    lines = [line for n in range(5) for line in (f"a: q{n}", f"b: r{n}")]
    items = talk(*lines, step=step)
    shuffled = random.Random(seed).sample(items, len(items))
    assert [row.body for row in made(shuffled)[0]] == [row.body for row in made(items)[0]]


def test_a_log_may_run_backwards() -> None:
    items = exchanges(4) + exchanges(5, start=90_000)
    rows, _ = made(items[::-1])
    assert [len(row.body["messages"]) for row in rows] == [10, 8]
    assert rows[0].body == made(exchanges(5))[0][0].body
    place = rows[0].origins[0].place
    assert (place.line, place.last_line) == (1, 10)


def test_a_message_older_than_the_open_conversation_begins_its_own() -> None:
    old = Message("a", "old", -90_000)
    rows, dropped = made([*exchanges(4), old, *exchanges(4, start=10_000)])
    assert len(rows) == 2
    assert dropped == {"short_conversation": 1}


def test_messages_without_a_time_keep_their_place() -> None:
    items = [Message(message.sender, message.text) for message in exchanges(5)]
    [row], _ = made(items)
    assert [turn[2:] for turn in turns(row)] == [item.text for item in items]
    mixed = exchanges(4)
    mixed[3] = Message("b", "r1")
    assert [turn[2:] for turn in turns(made(mixed)[0][0])] == [item.text for item in mixed]
    mixed[0] = Message("a", "q0")
    assert [turn[2:] for turn in turns(made(mixed)[0][0])] == [item.text for item in mixed]


def test_records_of_messages_are_taken_and_others_are_not() -> None:
    records: list[Any] = [Record({"a": 1, "b": "no message"})]
    for message in exchanges(4):
        fields = {"Author": message.sender, "ts": message.time, "body": message.text}
        records.append(Record(fields, ("Sheet",), message.place))
    [row], dropped = made(records)
    assert row == made(exchanges(4))[0][0]
    assert dropped == {}


def test_open_conversations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "_MOST_OPEN", 100)
    pulled = 0

    def log() -> Any:
        nonlocal pulled
        for message in exchanges(1000):
            pulled += 1
            yield message

    source = document()
    endless = type(source)(source.file, source.title, source.sha256, log)
    rows = iter(KIND.make_rows(config(), endless, ScriptedTools()))
    assert len(next(iter(rows)).body["messages"]) == 10
    assert pulled < 60
    for thread in ("x", "y"):
        assert [row.group[-2:] for row in made(exchanges(4, thread=thread))[0]] == [":1"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"gap_seconds": -1}, "gap_seconds: must not be negative"),
        ({"min_exchanges": -1}, "min_exchanges: must not be negative"),
        ({"max_exchanges": 3}, "max_exchanges: must not be less than min_exchanges"),
        ({"min_exchanges": 3, "max_exchanges": 2}, "max_exchanges: must not be less"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        KIND.check(config(**fields))
    KIND.check(config(min_exchanges=9))
