"""Counts what the checks find and says it in a report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from luthier.dataset.v1.quality_pb2 import (
    QualityCheck,
    QualityExample,
    QualityFinding,
    QualityReport,
    QualityRule,
)

from luthier_dataset.quality.findings import Finding
from luthier_dataset.readers.items import Place
from luthier_dataset.recipes.recipe import Origin

_Key = TypeVar("_Key", str, int)

_EXAMPLES = 5
"""Examples kept of each check: the first ones."""
_LABELS_SHOWN = 50
MOST_LABELS = 1000
_LANGUAGE = re.compile("[a-z]{2}")
_DETAIL_SHOWN = 200

_DEFAULTS: Mapping[QualityCheck, QualityRule.Action] = {
    QualityCheck.MALFORMED_ROW: QualityRule.REPORT,
    QualityCheck.EMPTY_ANSWER: QualityRule.DROP,
    QualityCheck.TRUNCATED_ANSWER: QualityRule.REPORT,
    QualityCheck.EXACT_DUPLICATE: QualityRule.DROP,
    QualityCheck.NEAR_DUPLICATE: QualityRule.REPORT,
    QualityCheck.CONFLICTING_ANSWERS: QualityRule.DROP,
    QualityCheck.OVER_LONG: QualityRule.DROP,
    QualityCheck.DAMAGED_TEXT: QualityRule.REPORT,
    QualityCheck.SECRET: QualityRule.REPORT,
    QualityCheck.PERSONAL_DATA: QualityRule.REPORT,
    QualityCheck.SKIPPED_PART: QualityRule.REPORT,
    QualityCheck.UNREADABLE_DOCUMENT: QualityRule.REPORT,
    QualityCheck.LABEL_IMBALANCE: QualityRule.REPORT,
    QualityCheck.UNEXPECTED_LANGUAGE: QualityRule.REPORT,
}
"""What is done where no rule says otherwise, as quality.proto has it."""

_DONE = {
    QualityRule.REPORT: "reported",
    QualityRule.DROP: "left out",
    QualityRule.BLOCK: "blocks the build",
}


class Example(msgspec.Struct, frozen=True, array_like=True):
    """One finding, with where it is."""

    source_file: str
    place: str
    detail: str


class Tally(msgspec.Struct):
    """What was found in some rows; those of several parts are merged in the order of the parts."""

    rows: int = 0
    counts: dict[int, int] = {}
    """Findings by `QualityCheck`; a row counts once for each check."""
    examples: dict[int, list[Example]] = {}
    rows_by_language: dict[str, int] = {}
    rows_by_label: dict[str, int] = {}
    """Of more labels than MOST_LABELS, some are not counted."""

    def add(self, findings: Iterable[Finding], origin: Origin, label: str = "") -> None:
        """Count a row and its findings."""
        self.rows += 1
        if label and (label in self.rows_by_label or len(self.rows_by_label) <= MOST_LABELS):
            self.rows_by_label[label] = self.rows_by_label.get(label, 0) + 1
        seen = set()
        for finding in findings:
            if finding.check not in seen:
                seen.add(finding.check)
                self.note(finding, origin)

    def note(self, finding: Finding, origin: Origin) -> None:
        """Count a finding, without counting a row."""
        self.counts[finding.check] = self.counts.get(finding.check, 0) + 1
        examples = self.examples.setdefault(finding.check, [])
        if len(examples) < _EXAMPLES:
            examples.append(Example(origin.file, place_text(origin.place), finding.detail))

    def note_language(self, language: str) -> None:
        """Count the language of a row; an empty one, which is not known, is not counted."""
        if language:
            self.rows_by_language[language] = self.rows_by_language.get(language, 0) + 1

    def merge(self, later: Tally) -> None:
        """Add what was found in the rows after these."""
        self.rows += later.rows
        _add_up(self.counts, later.counts)
        _add_up(self.rows_by_language, later.rows_by_language)
        if len(self.rows_by_label) <= MOST_LABELS:
            _add_up(self.rows_by_label, later.rows_by_label)
        for check, more in later.examples.items():
            examples = self.examples.setdefault(check, [])
            examples += more[: _EXAMPLES - len(examples)]


def actions(rules: Iterable[QualityRule]) -> dict[int, int]:
    """Return what is done about each check; ValueError for a rule that says nothing clear."""
    chosen: dict[int, int] = {}
    for number, rule in enumerate(rules):
        field = f"quality_rules[{number}]"
        if rule.check not in _DEFAULTS:
            raise ValueError(f"{field}.check: names no check")
        if rule.action not in _DONE:
            raise ValueError(f"{field}.action: names no action")
        if rule.check in chosen:
            name = QualityCheck.Name(rule.check)
            raise ValueError(f"{field}.check: {name} has a rule already")
        _check_languages(rule, field)
        chosen[rule.check] = rule.action
    return {int(check): chosen.get(check, action) for check, action in _DEFAULTS.items()}


def languages(rules: Iterable[QualityRule]) -> tuple[str, ...]:
    """Return the languages that rows are expected in; none if no rule names any."""
    return tuple(language for rule in rules for language in rule.languages)


def _check_languages(rule: QualityRule, field: str) -> None:
    if (rule.check == QualityCheck.UNEXPECTED_LANGUAGE) != bool(rule.languages):
        raise ValueError(f"{field}.languages: belong to UNEXPECTED_LANGUAGE, which needs them")
    for language in rule.languages:
        if not _LANGUAGE.fullmatch(language):
            raise ValueError(f"{field}.languages: {language!r} is no code of ISO 639-1, such as en")


def report(
    tally: Tally,
    actions: Mapping[int, int],
    sources: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
) -> QualityReport:
    """Return the report, the Markdown for people included.

    `sources`: resource name and display name of each. The report names documents by number and
    display name, so that equal builds have equal reports.
    """
    numbers = {file: number for number, (file, _) in enumerate(sources)}
    made = QualityReport(
        findings=[
            QualityFinding(
                check=check,
                action=QualityRule.Action.Name(QualityRule.Action.ValueType(actions[check])),
                count=tally.counts.get(check, 0),
                examples=[
                    QualityExample(
                        source=numbers[one.source_file],
                        display_name=sources[numbers[one.source_file]][1],
                        place=one.place,
                        detail=one.detail,
                    )
                    for one in tally.examples.get(check, [])
                ],
            )
            for check in _DEFAULTS
        ],
        rows_by_language=tally.rows_by_language,
        rows_by_label=tally.rows_by_label,
        rows=tally.rows,
        notes=notes,
    )
    made.text = _markdown(made)
    return made


def place_text(place: Place) -> str:
    """Return a place for people: `handbook.pdf, pages 3 to 4`, `line 17`; empty if none."""
    parts = [
        place.member,
        _numbers("page", place.page, place.last_page),
        _numbers("line", place.line, place.last_line),
    ]
    return ", ".join(part for part in parts if part)


def _markdown(made: QualityReport) -> str:
    lines = [
        "# Quality report", "", f"Rows looked at: {made.rows}", "",
        "| check | found | what is done |", "| --- | ---: | --- |",
    ]  # fmt: skip
    lines += [
        f"| {_title(finding.check)} | {finding.count} | {_DONE[finding.action]} |"
        for finding in made.findings
    ]
    for finding in made.findings:
        if finding.examples:
            lines += ["", f"## {_title(finding.check)}", "", *map(_example, finding.examples)]
            if more := finding.count - len(finding.examples):
                lines.append(f"- … and {more} more")
    lines += _counts("Languages", made.rows_by_language, made.rows)
    lines += _counts("Labels", made.rows_by_label, made.rows)
    if made.notes:
        lines += ["", "## Notes", "", *(f"- {_plain(note)}" for note in made.notes)]
    return "\n".join(lines) + "\n"


def _example(example: QualityExample) -> str:
    where = " ".join(filter(None, [_plain(example.display_name), _plain(example.place)]))
    return f"- {where}: {_plain(example.detail)}"


def _counts(title: str, counts: Mapping[str, int], rows: int) -> list[str]:
    """A table, the most frequent first."""
    if not counts:
        return []
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    whole = sum(counts.values())
    note = f" (of {whole} of {rows} rows)" if whole < rows else ""
    lines = ["", f"## {title}{note}", "", "| | rows | share |", "| --- | ---: | ---: |"]
    lines += [
        f"| {_plain(name)} | {count} | {count / whole:.1%} |"
        for name, count in ranked[:_LABELS_SHOWN]
    ]
    if (more := len(ranked) - _LABELS_SHOWN) > 0:
        lines.append(f"| {more} others | | |")
    return lines


def _title(check: QualityCheck) -> str:
    return QualityCheck.Name(check).replace("_", " ").capitalize()


def _plain(text: str) -> str:
    """A foreign text as one line that Markdown shows as it is."""
    line = " ".join(text.split())
    line = line if len(line) <= _DETAIL_SHOWN else line[: _DETAIL_SHOWN - 1] + "…"
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in line)


def _numbers(unit: str, first: int, last: int) -> str:
    if not first:
        return ""
    return f"{unit}s {first} to {last}" if last > first else f"{unit} {first}"


def _add_up(counts: dict[_Key, int], more: Mapping[_Key, int]) -> None:
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count
