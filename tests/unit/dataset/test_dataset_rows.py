import json

import pytest
from luthier_common.errors import InvalidArgument
from luthier_dataset.rows import MAX_LINE_BYTES, RowChecker, format_row

USER = {"role": "user", "content": "Who?"}
ASSISTANT = {"role": "assistant", "content": "Odran."}
GOOD = json.dumps({"messages": [USER, ASSISTANT]}).encode()


def line(*messages: object, **keys: object) -> bytes:
    return json.dumps({"messages": list(messages), **keys}).encode()


def check(data: bytes, piece: int = 7) -> int:
    checker = RowChecker()
    for start in range(0, len(data), piece):
        checker.feed(data[start : start + piece])
    return checker.finish()


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        GOOD + b"\n",
        GOOD + b"\r\n",
        GOOD + b"\n\n  \n",
        b"\xef\xbb\xbf" + GOOD,
        line({"role": "system", "content": ""}, USER, ASSISTANT, USER, ASSISTANT),
        line(USER, ASSISTANT, id=7),
        line({"role": "user", "content": "\u2028\u0085 not a line end"}, ASSISTANT),
    ],
)
@pytest.mark.parametrize("piece", [1, 1000])
def test_sound_rows_pass_however_the_bytes_are_cut(data: bytes, piece: int) -> None:
    assert check(data, piece) == 1


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"{'messages': []}", "is not valid JSON (Expecting property name"),
        (b'{"messages": [' + b"[" * 100_000, "is not valid JSON"),
        (b'{"n": ' + b"1" * 5_000 + b"}", "is not valid JSON"),
        (b'{"messages": "\xff"}', "is not UTF-8 text (byte 15 of the line)"),
        (b"[]", "is not a JSON object"),
        (b"{}", "has no messages"),
        (line(), "has no messages"),
        (line("hello"), "message 1 is not a JSON object"),
        (line(USER, {"role": "robot", "content": "x"}), 'message 2 has the unknown role "robot"'),
        (line({"content": "x"}), "message 1 has the unknown role null"),
        (line({"role": ["user"], "content": "x"}), "message 1 has the unknown role"),
        (line(USER, {"role": "assistant", "content": None}), "content of message 2 is not a strin"),
        (line(USER, {"role": "assistant", "content": ["x"]}), "content of message 2 is not a stri"),
        (line({"role": "user", "content": "\ud800"}, ASSISTANT), "message 1 is not valid Unicode"),
        (line(USER), "has no assistant message"),
        (line(ASSISTANT, USER), "the last message is not the assistant's"),
        (line(ASSISTANT), "has no user message"),
        (line(USER, {"role": "assistant", "content": " "}), "the last message is empty"),
        (line(USER, ASSISTANT, tools=[]), 'the row has the key "tools"'),
        (line(USER, ASSISTANT | {"weight": 0}), "no answer to learn: every weight is 0"),
        (line(USER, ASSISTANT | {"weight": 0.5}), "message 2 has a weight that is not"),
        (line(USER | {"weight": 1}, ASSISTANT), "message 1 has a weight that is not"),
        (b"x" * (MAX_LINE_BYTES + 1), f"is longer than {MAX_LINE_BYTES} bytes"),
        (b"", "is empty"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(bad: bytes, why: str) -> None:
    data = (GOOD + b"\n") * 16 + bad + b"\n" + GOOD
    with pytest.raises(InvalidArgument) as caught:
        check(data, 100_000)
    assert caught.value.message.startswith("line 17: ")
    assert why in caught.value.message
    assert caught.value.field == "file"
    assert caught.value.metadata["line"] == "17"


def test_an_endless_line_is_refused_before_it_ends() -> None:
    checker = RowChecker()
    checker.feed(b"x" * MAX_LINE_BYTES)
    with pytest.raises(InvalidArgument, match="line 1: is longer"):
        checker.feed(b"x")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="no rows"):
        check(data)


def test_a_formatted_row_passes_the_check() -> None:
    row = format_row(
        [
            {"role": "user", "content": "Größe?\n„Zeile“"},
            {"role": "assistant", "content": "12 \u2028 m"},
        ]
    )
    assert check(row) == 1
    assert row.count(b"\n") == 1


def test_an_answer_of_weight_0_is_fine_beside_one_that_is_learned() -> None:
    read_only, learned = ASSISTANT | {"weight": 0}, ASSISTANT | {"weight": 1}
    assert check(line(USER, read_only, USER, learned)) == 1
