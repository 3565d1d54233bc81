import msgspec
import pytest
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule
from luthier_dataset.quality.findings import Finding
from luthier_dataset.quality.report import Tally, actions, place_text, report
from luthier_dataset.readers.items import Place
from luthier_dataset.recipes.recipe import Origin

SOURCES = [("projects/p/files/e", "pay.md"), ("projects/p/files/f", "leave.md")]


def _origin(line: int) -> Origin:
    return Origin("projects/p/files/f", place=Place(line=line))


def test_every_check_has_the_action_that_the_api_says_unless_a_rule_says_otherwise() -> None:
    dropped = {"EMPTY_ANSWER", "EXACT_DUPLICATE", "CONFLICTING_ANSWERS", "OVER_LONG"}
    chosen = actions([])
    assert list(chosen) == [check for check in QualityCheck.values() if check]
    assert {
        QualityCheck.Name(check) for check in chosen if chosen[check] == QualityRule.DROP
    } == dropped
    block = QualityRule(check=QualityCheck.SECRET, action=QualityRule.BLOCK)
    assert actions([block]) == {**chosen, QualityCheck.SECRET: QualityRule.BLOCK}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([QualityRule(action="DROP")], r"quality_rules\[0\].check: names no check"),
        ([QualityRule(check=99, action="DROP")], r"\[0\].check: names no check"),  # type: ignore[arg-type]
        ([QualityRule(check="SECRET")], r"\[0\].action: names no action"),
        (
            [QualityRule(check="SECRET", action="DROP")] * 2,
            r"\[1\].check: SECRET has a rule already",
        ),
        ([QualityRule(check="UNEXPECTED_LANGUAGE", action="DROP")], "which needs them"),
        (
            [QualityRule(check="SECRET", action="DROP", languages=["en"])],
            "languages: belong to UNEXPECTED_LANGUAGE",
        ),
        (
            [QualityRule(check="UNEXPECTED_LANGUAGE", action="DROP", languages=["english"])],
            "'english' is no code of ISO 639-1",
        ),
    ],
)
def test_rules_that_say_nothing_clear_are_refused(rules: list[QualityRule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        actions(rules)


def test_a_row_counts_once_for_each_check_and_five_examples_are_kept() -> None:
    tally = Tally()
    for line in range(1, 8):
        twice = [Finding(QualityCheck.SECRET, f"{line}"), Finding(QualityCheck.SECRET, "more")]
        tally.add(twice, _origin(line), label="good")
    tally.add([], _origin(8))
    assert (tally.rows, tally.counts, tally.rows_by_label) == (
        8,
        {QualityCheck.SECRET: 7},
        {"good": 7},
    )
    examples = tally.examples[QualityCheck.SECRET]
    assert [(one.place, one.detail) for one in examples] == [
        (f"line {line}", f"{line}") for line in range(1, 6)
    ]


def test_labels_beyond_a_thousand_are_not_held() -> None:
    tally, other = Tally(), Tally()
    for number in range(3000):
        tally.add([], _origin(1), f"a{number}")
        other.add([], _origin(1), f"b{number}")
    assert len(tally.rows_by_label) == 1001
    tally.add([], _origin(1), "a7")
    assert tally.rows_by_label["a7"] == 2
    tally.merge(other)
    assert len(tally.rows_by_label) == 1001


def test_parts_merge_to_what_one_tally_of_all_would_be() -> None:
    whole, parts = Tally(), [Tally(), Tally(), Tally()]
    for line in range(1, 13):
        for tally in (whole, parts[(line - 1) // 4]):
            found = [Finding(check, f"{line}") for check in (4, 7) if line % check == 0]
            tally.add(found, _origin(line), label=f"l{line % 3}")
            tally.note_language("en" if line % 2 else "")
    merged = Tally()
    for part in parts:
        merged.merge(msgspec.json.decode(msgspec.json.encode(part), type=Tally))
    assert merged == whole


def test_the_report_says_everything_in_numbers_and_for_people() -> None:
    tally = Tally()
    for line in range(1, 8):
        tally.add([Finding(QualityCheck.PERSONAL_DATA, "e-mail: a…@b.de")], _origin(line), "bad")
    tally.add([], _origin(9), "good")
    for line in (12, 13, 14):
        tally.note(Finding(QualityCheck.MALFORMED_ROW, "no `messages`\nin | it"), _origin(line))
    tally.note_language("en")
    made = report(tally, actions([]), SOURCES, ["There is no validation split."])
    assert made.rows == 8
    assert [finding.check for finding in made.findings] == list(range(1, 15))
    assert {f.check: f.count for f in made.findings if f.count} == {
        QualityCheck.PERSONAL_DATA: 7, QualityCheck.MALFORMED_ROW: 3,
    }  # fmt: skip
    example = made.findings[0].examples[0]
    # Names of resources are no part of what is stored.
    assert (example.source, example.source_file, example.display_name) == (1, "", "leave.md")
    assert dict(made.rows_by_label) == {"bad": 7, "good": 1}
    lines = made.text.splitlines()
    assert lines[0] == "# Quality report"
    assert "| Personal data | 7 | reported |" in lines
    assert "| Over long | 0 | left out |" in lines
    assert "- leave.md line 1: e-mail: a…@b.de" in lines
    assert "- … and 2 more" in lines
    assert "- leave.md line 12: no \\`messages\\` in \\| it" in lines
    assert "## Languages (of 1 of 8 rows)" in lines
    assert "| bad | 7 | 87.5% |" in lines
    assert lines[-1] == "- There is no validation split."


def test_only_the_most_frequent_labels_are_shown() -> None:
    tally = Tally()
    for number in range(60):
        tally.add([], _origin(1), f"label{number:02}")
    made = report(tally, actions([]), SOURCES)
    assert len(made.rows_by_label) == 60
    assert "| label49 | 1 | 1.7% |\n| 10 others | | |\n" in made.text
    assert "label50" not in made.text


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place(), ""),
        (Place(page=3), "page 3"),
        (Place(page=3, last_page=3), "page 3"),
        (Place(page=3, last_page=4), "pages 3 to 4"),
        (Place(member="src/a.py", line=2, last_line=9), "src/a.py, lines 2 to 9"),
    ],
)
def test_places_read_as_people_say_them(place: Place, text: str) -> None:
    assert place_text(place) == text
