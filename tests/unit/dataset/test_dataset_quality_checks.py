import pytest
from luthier.dataset.v1.quality_pb2 import QualityCheck
from luthier_dataset.quality.checks import findings_in
from luthier_dataset.quality.findings import Finding
from luthier_dataset.recipes.recipe import Origin, Row, Shape, chat_row, pair_row, text_row

_ORIGIN = Origin("projects/p/files/f")
_PROSE = "The pump is switched off before anybody opens the lid and looks inside"


def _found(row: Row) -> list[int]:
    return [finding.check for finding in findings_in(row)]


def _answer(text: str) -> list[int]:
    return _found(chat_row("What is it?", text, _ORIGIN))


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_answer_is_found_in_every_shape(text: str) -> None:
    expected = [Finding(QualityCheck.EMPTY_ANSWER, "the answer is empty")]
    assert list(findings_in(chat_row("What?", text, _ORIGIN))) == expected
    assert list(findings_in(pair_row("What?", text, _ORIGIN))) == expected
    assert list(findings_in(text_row(text, _ORIGIN))) == expected


def test_a_call_of_a_tool_is_an_answer() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    row = Row(Shape.CHAT, {"messages": [{"role": "user", "content": "Go"}, call]}, (_ORIGIN,))
    assert _found(row) == []


@pytest.mark.parametrize(
    "text",
    [
        _PROSE,
        f"{_PROSE},",
        f"{_PROSE} (",
        f"{_PROSE}…",
        f"{_PROSE}...",
        f"All is well here.\n\n{_PROSE} and",
        "A text that was wrapped after eighty characters goes on in the\nnext line and stops",
        "Run this:\n```sh\nmake",
    ],
)
def test_an_answer_that_breaks_off_is_found(text: str) -> None:
    assert _answer(text) == [QualityCheck.TRUNCATED_ANSWER]


@pytest.mark.parametrize(
    "text",
    [
        f"{_PROSE}.", f"{_PROSE}!”", f"{_PROSE}:", f"{_PROSE} (see page 4).", "positive", "42",
        "Blue pump, model 7", "Yours\nAnna", f"- {_PROSE}", f"1. {_PROSE}", f"a | {_PROSE}",
        f"    x = {_PROSE}", f"# {_PROSE}", f"{_PROSE}\n\nKind regards\nAnna", "```sh\nmake\n```",
        "for (int i = 0; i < n; i++) { total += price of each item in the list }",
        "How The Pump Is Switched Off Before Anybody Opens The Lid And Looks",
        f"{_PROSE}, see https://pumps.example.org/lid", "泵" * 60, "ปั๊ม " * 20, f"{_PROSE} 12",
    ],
)  # fmt: skip
def test_labels_lists_code_and_whole_sentences_do_not_break_off(text: str) -> None:
    assert _answer(text) == []


def test_a_text_learned_whole_may_end_anywhere() -> None:
    assert _found(text_row(_PROSE, _ORIGIN)) == []


@pytest.mark.parametrize(
    "text",
    ["Die TÃ¼r ist zu.", "It\u0092s late.", "a\ufffdb", "a\x00b", "â€œQuotedâ€\x9d", "\x1b[0m"],
)
def test_damaged_text_is_found(text: str) -> None:
    assert _answer(text) == [QualityCheck.DAMAGED_TEXT]


@pytest.mark.parametrize(
    "text",
    [
        "Die Tür ist zu.", "«Été» \u2014 20 °C, 5 € ½", "Это насос.", "これはポンプです。",
        "مضخة", "😀 👍🏽",
        "Ångström, naïve, São Paulo, œuvre", "x² ≤ 4 → y", "tab\there\r\n", "Ελλάδα",
    ],
)  # fmt: skip
def test_sound_text_of_any_script_is_not_damaged(text: str) -> None:
    assert _answer(text) == []


def test_secrets_and_personal_data_are_masked() -> None:
    row = chat_row("Who?", "Write to anna@posteo.de, password: 'tr0ub4dor&3xyz'.", _ORIGIN)
    assert list(findings_in(row)) == [
        Finding(QualityCheck.SECRET, "Secret Keyword: tr0u…"),
        Finding(QualityCheck.PERSONAL_DATA, "e-mail: a…@posteo.de"),
    ]


def test_every_part_of_a_row_is_looked_at() -> None:
    worse = [{"role": "assistant", "content": "Call +49 30 901820."}]
    body = {
        "input": {"messages": [{"role": "user", "content": "Number?"}]},
        "preferred_output": [{"role": "assistant", "content": "I do not know."}],
        "non_preferred_output": worse,
    }
    assert _found(Row(Shape.PREFERENCE, body, (_ORIGIN,))) == [QualityCheck.PERSONAL_DATA]
