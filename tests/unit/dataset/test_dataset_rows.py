import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from luthier_common.errors import InvalidArgument
from luthier_dataset.plain_rows import is_plain
from luthier_dataset.rows import (
    MAX_LINE_BYTES,
    BadRow,
    RowChecker,
    Shape,
    check_row,
    format_row,
    parse_line,
)

USER = {"role": "user", "content": "Who?"}
ASSISTANT = {"role": "assistant", "content": "Odran."}
GOOD = json.dumps({"messages": [USER, ASSISTANT]}).encode()
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
CALLING = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "Odran"}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
PREFERENCE: dict[str, Any] = {
    "input": {"messages": [USER]},
    "preferred_output": [ASSISTANT],
    "non_preferred_output": [ASSISTANT | {"content": "Nobody."}],
}


def line(*messages: object, **keys: object) -> bytes:
    return json.dumps({"messages": list(messages), **keys}).encode()


def preference(**changes: object) -> bytes:
    return json.dumps(PREFERENCE | changes).encode()


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
        (line(USER, ASSISTANT, functions=[]), 'the row has the key "functions"'),
        (line(USER, ASSISTANT | {"function_call": {}}), 'message 2 has the key "function_call"'),
        (line(USER, ASSISTANT, tools={}), "the tools are not a list"),
        (line(USER, ASSISTANT, tools=[{"type": "custom"}]), "tool 1 is not a function"),
        (line(USER, ASSISTANT, tools=[TOOL, 7]), "tool 2 is not a function"),
        (
            line(USER, ASSISTANT, tools=[{"type": "function", "function": {}}]),
            "the name of tool 1 is not a string",
        ),
        (
            line(
                USER,
                ASSISTANT,
                tools=[{"type": "function", "function": {"name": "f", "parameters": []}}],
            ),
            "the parameters of tool 1 are not a JSON object",
        ),
        (
            line(
                USER,
                ASSISTANT,
                tools=[{"type": "function", "function": {"name": "f", "parameters": {"m": 1e999}}}],
            ),
            "the tools hold a number or text that JSON has not",
        ),
        (line(USER, ASSISTANT, parallel_tool_calls=1), "parallel_tool_calls is neither true nor f"),
        (line(USER | {"tool_calls": []}, ASSISTANT), "message 1 has tool_calls but is not the ass"),
        (line(USER, ASSISTANT | {"tool_calls": {}}), "the tool_calls of message 2 are not a list"),
        (line(USER, {"role": "assistant", "tool_calls": []}), "content of message 2 is not a str"),
        (
            line(USER, {"role": "assistant", "tool_calls": [{"type": "function"}]}),
            "message 2 has a tool call that is not of a function",
        ),
        (
            line(USER, {"role": "assistant", "tool_calls": [CALL | {"id": 7}]}),
            "the id of a tool call of message 2 is not a string",
        ),
        (line(USER, RESULT, ASSISTANT), "message 2 answers no tool call right before it"),
        (line(USER, CALLING, RESULT, RESULT, ASSISTANT), "message 4 answers no tool call right b"),
        (line(USER, CALLING, USER, ASSISTANT), "message 3 comes before every tool call is answ"),
        (
            line(USER, CALLING, {"role": "tool", "content": "x"}, ASSISTANT),
            "the tool_call_id of message 3 is not a string",
        ),
        (line(USER, CALLING, RESULT), "the last message is not the assistant's"),
        (b'{"text": "Odran."}', "is a text row in a file of chat rows"),
        (b'{"prompt": "Who?", "completion": "Odran."}', "is a pair row in a file of chat rows"),
        (preference(), "is a preference row in a file of chat rows"),
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


def test_an_answer_of_weight_0_is_fine_beside_one_that_is_learned() -> None:
    read_only, learned = ASSISTANT | {"weight": 0}, ASSISTANT | {"weight": 1}
    assert check(line(USER, read_only, USER, learned)) == 1


@pytest.mark.parametrize(
    "row",
    [
        line(USER, CALLING, RESULT, ASSISTANT, tools=[TOOL], parallel_tool_calls=False),
        line(USER, CALLING, tools=[TOOL]),
        line(USER, CALLING | {"content": None, "weight": 1}, tools=None, parallel_tool_calls=None),
        line({"role": "developer", "content": "Be short."}, USER | {"name": "kim"}, ASSISTANT),
        line(
            USER,
            {"role": "assistant", "content": "", "tool_calls": [CALL, CALL | {"id": "c2"}]},
            RESULT | {"tool_call_id": "c2"},
            RESULT,
            ASSISTANT,
        ),
        line(USER, ASSISTANT, tools=[]),
    ],
)
def test_chats_may_call_tools(row: bytes) -> None:
    assert check(row) == 1


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (GOOD, Shape.CHAT),
        (b'{"text": "Odran minds the gate."}', Shape.TEXT),
        (b'{"prompt": "Who?", "completion": "Odran."}', Shape.PAIR),
        (b'{"prompt": "", "completion": "Odran."}', Shape.PAIR),
        (preference(), Shape.PREFERENCE),
        (preference(input={"messages": [USER, CALLING, RESULT], "tools": [TOOL]}), "preference"),
    ],
)
def test_the_first_row_decides_the_shape_of_the_file(row: bytes, shape: Shape) -> None:
    checker = RowChecker()
    assert checker.shape is None
    checker.feed(row + b"\n" + row)
    assert checker.finish() == 2
    assert checker.shape == shape
    other = b'{"text": "x"}' if shape != Shape.TEXT else GOOD
    with pytest.raises(InvalidArgument, match=f"line 3: is a .* row in a file of {shape} rows"):
        check(row + b"\n" + row + b"\n" + other)


@pytest.mark.parametrize(
    ("bad", "rule", "why"),
    [
        (b'{"text": " "}', "empty_answer", "the text is empty"),
        (b'{"text": 7}', "bad_content", "the text is not a string"),
        (b'{"prompt": "x"}', "unknown_row_format", "has no messages (nor text"),
        (b'{"completion": "x"}', "bad_content", "the prompt is not a string"),
        (b'{"prompt": "x", "completion": ""}', "empty_answer", "the completion is empty"),
        (b'{"text": "\\udc00"}', "bad_content", "the text is not valid Unicode"),
        (preference(input=[]), "no_prompt", "the input is not a JSON object"),
        (preference(input={}), "no_messages", "has no messages of the input"),
        (
            preference(input={"messages": [{"role": "robot"}]}),
            "unknown_role",
            "message 1 of the input has the unknown role",
        ),
        (
            preference(input={"messages": [{"role": "system", "content": "x"}]}),
            "no_prompt",
            "the input has no user message",
        ),
        (
            preference(input={"messages": [USER, ASSISTANT]}),
            "no_prompt",
            "the last message of the input is the assistant's",
        ),
        (preference(preferred_output=ASSISTANT), "no_answer", "preferred_output is not a list of"),
        (preference(non_preferred_output=[]), "no_answer", "non_preferred_output is not a list of"),
        (preference(preferred_output=[USER]), "no_answer", "preferred_output is not the assistant"),
        (
            preference(preferred_output=[ASSISTANT | {"content": ""}]),
            "empty_answer",
            "the message of preferred_output is empty",
        ),
        (preference(non_preferred_output=[ASSISTANT]), "no_preference", "both outputs are the sa"),
    ],
)
def test_a_bad_row_of_another_shape_is_refused_by_its_rule(bad: bytes, rule: str, why: str) -> None:
    with pytest.raises(BadRow) as caught:
        check_row(parse_line(bad))
    assert caught.value.rule == rule
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("body", "formatted"),
    [
        (
            {
                "id": 7,
                "messages": [
                    {"content": "Größe?\n„Zeile“", "role": "user"},
                    {"role": "assistant", "content": "12 \u2028 m", "name": None},
                ],
            },
            '{"messages": [{"role": "user", "content": "Größe?\\n„Zeile“"}, '
            '{"role": "assistant", "content": "12 \u2028 m"}]}\n',
        ),
        (
            {
                "parallel_tool_calls": False,
                "tools": [TOOL],
                "messages": [USER, {"weight": 0, "content": None, **CALLING}, RESULT, ASSISTANT],
            },
            '{"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", '
            '"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", '
            '"arguments": "{}"}}], "weight": 0}, {"role": "tool", "content": "Odran", '
            '"tool_call_id": "c1"}, {"role": "assistant", "content": "Odran."}], "tools": '
            '[{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}'
            '}], "parallel_tool_calls": false}\n',
        ),
        ({"n": 1, "text": "x"}, '{"text": "x"}\n'),
        ({"completion": "y", "prompt": "x"}, '{"prompt": "x", "completion": "y"}\n'),
        (
            {key: PREFERENCE[key] for key in reversed(PREFERENCE)},
            '{"input": {"messages": [{"role": "user", "content": "Who?"}]}, "preferred_output": '
            '[{"role": "assistant", "content": "Odran."}], "non_preferred_output": '
            '[{"role": "assistant", "content": "Nobody."}]}\n',
        ),
    ],
)
def test_a_formatted_row_is_canonical_and_sound(body: dict[str, Any], formatted: str) -> None:
    assert format_row(body) == formatted.encode()
    assert format_row(json.loads(formatted)) == formatted.encode()
    assert check(formatted.encode()) == 1


_texts = st.sampled_from(["", " ", "x", "Größe", "\ud800", "\u0000", "\U0001f600", None, 7, ["x"]])
_messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "robot", 1]),
        "content": _texts,
    },
    optional={
        "weight": st.sampled_from([0, 1, 1.0, True, 2, None, "1"]),
        "name": st.sampled_from(["kim", 7]),
        "tool_calls": st.sampled_from([[], [CALL], None]),
        "tool_call_id": st.just("c1"),
    },
)
_talks = st.lists(st.one_of(st.sampled_from([USER, ASSISTANT]), _messages), max_size=4)
_rows = st.one_of(
    st.fixed_dictionaries({"messages": _talks}, optional={"tools": st.just([TOOL])}),
    st.fixed_dictionaries({"text": _texts}),
    st.fixed_dictionaries({"prompt": _texts, "completion": _texts}),
    st.fixed_dictionaries(
        {
            "input": st.fixed_dictionaries({"messages": _talks}),
            "preferred_output": _talks,
            "non_preferred_output": _talks,
        },
        optional={"id": st.just(1)},
    ),
)
_NOISE = st.tuples(
    st.integers(0, 400),
    st.integers(0, 3),
    st.sampled_from([b"", b"\xff", b"\x01", b'"', b"{", b"0"]),
)


@settings(max_examples=50)
@given(st.lists(_rows, min_size=20, max_size=20), st.booleans(), st.one_of(st.none(), _NOISE))
@example([{"messages": [USER, ASSISTANT]}, json.loads(preference())], True, None)
def test_the_fast_check_takes_nothing_that_the_rules_refuse(
    rows: list[dict[str, Any]], ascii_only: bool, noise: tuple[int, int, bytes] | None
) -> None:
    for row in rows:
        text = json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        if noise:
            start, size, put = noise
            text = text[:start] + put + text[start + size :]
        taken = [shape for shape in Shape if is_plain(text, shape)]
        assert taken in ([], [_shape(text)])


def _shape(text: bytes) -> Shape | None:
    try:
        return check_row(parse_line(text))
    except BadRow:
        return None


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        line({"role": "system", "content": ""}, USER | {"name": "kim"}, ASSISTANT | {"weight": 1}),
        preference(),
        b'{"text": "x"}',
        b' {"completion": "y", "prompt": ""}\r',
    ],
)
def test_plain_rows_take_the_fast_path(row: bytes) -> None:
    assert [shape for shape in Shape if is_plain(row, shape)] == [check_row(parse_line(row))]


@pytest.mark.parametrize(
    "row",
    [
        GOOD.replace(b'"role"', b'"role": "user", "role"'),
        GOOD[:-1] + b', "n": ' + b"1" * 5_000 + b"}",
        GOOD[:-1] + b', "n": ' + b"[" * 100_000 + b"}",
        GOOD[:-1] + b', "n": "\xff"}',
        GOOD + b"{}",
        GOOD.replace(b"Who", b"\xed\xa0\x80"),
    ],
)
def test_what_parsers_disagree_about_is_left_to_the_rules(row: bytes) -> None:
    assert not is_plain(row, Shape.CHAT)
