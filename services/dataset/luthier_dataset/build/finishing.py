"""The end of a build, in a worker: all rows judged together, statistics, report, artifacts."""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf.json_format import MessageToJson
from luthier.dataset.v1.dataset_pb2 import DatasetStatistics, TokenBin
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule
from luthier_common.errors import FailedPrecondition

from luthier_dataset.build.artifacts import SourceTable, write_artifacts
from luthier_dataset.build.jobs import Finish, Finished, Setting, UnitMade
from luthier_dataset.build.selection import BALANCED, Selection, name_of, select
from luthier_dataset.build.stored import Keys, SignatureFile, StoredRow, read_rows
from luthier_dataset.build.workspace import KEYS, SIGNATURES, Workspace, finished
from luthier_dataset.quality.findings import Finding
from luthier_dataset.quality.language import MOST_CHARACTERS, language_of
from luthier_dataset.quality.near import clusters
from luthier_dataset.quality.report import MOST_LABELS, Tally, report
from luthier_dataset.quality.splits import are_labels
from luthier_dataset.recipes.recipe import Origin, Row, Shape, prompt_and_answer

_REMARKS = {
    "malformed_row": QualityCheck.MALFORMED_ROW,
    "damaged_text": QualityCheck.DAMAGED_TEXT,
    "guessed_encoding": QualityCheck.DAMAGED_TEXT,
    "skipped_member": QualityCheck.SKIPPED_PART,
    "skipped_part": QualityCheck.SKIPPED_PART,
    "unreadable_document": QualityCheck.UNREADABLE_DOCUMENT,
}
_COMPARED: dict[int, str] = {
    QualityCheck.CONFLICTING_ANSWERS: "another row answers the same prompt differently",
    QualityCheck.EXACT_DUPLICATE: "an earlier row is the same",
    QualityCheck.NEAR_DUPLICATE: "an earlier row is nearly the same",
    QualityCheck.LABEL_IMBALANCE: "its label has ten times the rows of the rarest without it",
}
"""Details of what is found by comparing: no content, which may hold secrets."""
_LANGUAGE_SAMPLE = 2000
"""Rows whose language is looked at, evenly spread."""


def finish_build(setting: Setting, task: Finish) -> Finished:
    """Judge the rows of all units and write the artifacts."""
    return _Finishing(setting, task).run()


class _Finishing:
    def __init__(self, setting: Setting, task: Finish) -> None:
        self._setting = setting
        self._task = task
        self._place = Workspace(Path(setting.workspace))
        self._units = [self._place.unit(*unit) for unit in task.units]
        self._names = {source.file: source.display_name for source in setting.sources}
        made = [finished(unit, UnitMade) for unit in self._units]
        self._made = [unit for unit in made if unit is not None]
        if len(self._made) < len(made):
            raise RuntimeError("a unit is not done")

    def run(self) -> Finished:
        keys = Keys(self._joined(KEYS))
        selection = self._selected(keys)
        tally = self._remarked()
        for unit in self._made:
            tally.merge(unit.tally)
        if self._setting.balances and len(tally.rows_by_label) > MOST_LABELS:
            message = f"the output has more than {MOST_LABELS} labels, the most to be balanced"
            raise FailedPrecondition(message, reason="TOO_MANY_LABELS")
        if not self._setting.balances and not are_labels(list(tally.rows_by_label.values())):
            tally.rows_by_label.clear()
        blocked = self._blocked(tally, selection)
        statistics = _statistics(keys, selection, self._made)
        unread = self._task.remarks.get("unreadable_document", 0)
        statistics.documents = len(self._setting.sources) - unread
        if not blocked and not selection.kept.any():
            blocked, reason = _no_rows(statistics), "NO_ROWS"
        else:
            reason = "QUALITY_GATE" if blocked else ""
        digest = self._write(selection, tally, statistics, blocked=bool(blocked))
        sources = [(source.file, source.display_name) for source in self._setting.sources]
        notes = self._notes(selection, statistics)
        findings = report(tally, self._task.actions, sources, notes)
        # JSON, sorted: a serialised message orders its maps anew in each process.
        told = MessageToJson(findings, preserving_proto_field_name=True, sort_keys=True)
        return Finished(statistics.SerializeToString(), told.encode(), digest, blocked, reason)

    def _selected(self, keys: Keys) -> Selection:
        with SignatureFile(self._joined(SIGNATURES)) as signatures:
            roots = clusters(signatures)
        return select(
            keys,
            roots,
            self._task.actions,
            share=self._task.validation_share,
            seed=self._setting.seed,
            balances=self._setting.balances,
        )

    def _joined(self, suffix: str) -> Path:
        """Put the files of all units behind one another."""
        path = self._place.folder / f"all{suffix}"
        with path.open("wb") as joined:
            for unit in self._units:
                with unit.with_suffix(suffix).open("rb") as file:
                    shutil.copyfileobj(file, joined)
        return path

    def _remarked(self) -> Tally:
        """What readers remarked: all counted, some shown."""
        tally = Tally()
        left = Counter(self._task.remarks)
        for source, remark in self._task.examples:
            origin = Origin(self._setting.sources[source].file, (), remark.place)
            tally.note(Finding(_REMARKS[remark.code], remark.detail), origin)
            left[remark.code] -= 1
        for code, count in left.items():
            check = int(_REMARKS[code])
            tally.counts[check] = tally.counts.get(check, 0) + count
        return tally

    def _blocked(self, tally: Tally, selection: Selection) -> str:
        """Say why the gate lets nothing through; empty if it does."""
        counts = Counter(tally.counts)
        counts.update({check: int(mask.sum()) for check, mask in selection.found.items()})
        parts = []
        for check, action in sorted(self._task.actions.items()):
            if action == QualityRule.BLOCK and counts[check]:
                shown = [
                    f"{self._names[one.source_file]} {one.place}: {one.detail}"
                    for one in tally.examples.get(check, [])[:1]
                ]
                parts.append(f"{counts[check]} with {name_of(check)}" + "".join(map(_first, shown)))
        return (
            "the quality rules let no dataset out of these rows: " + "; ".join(parts)
            if parts
            else ""
        )

    def _write(
        self,
        selection: Selection,
        tally: Tally,
        statistics: DatasetStatistics,
        *,
        blocked: bool,
    ) -> str:
        """Write the artifacts and return their digest; count on the way what only rows tell.

        Of a build that is blocked, only that is done.
        """
        table = SourceTable([(source.file, source.sha256) for source in self._setting.sources])
        step = -(-len(selection.kept) // _LANGUAGE_SAMPLE) or 1
        sample: list[str] = []
        # Not counted in the message: a map of protobuf keeps the memory of every assignment.
        by_recipe, by_shape = Counter[str](), Counter[str]()

        def rows() -> Iterator[tuple[StoredRow, bool, Sequence[int]]]:
            everything = (row for unit in self._units for row in read_rows(unit))
            for number, row in enumerate(everything):
                compared = [check for check, mask in selection.found.items() if mask[number]]
                for check in compared:
                    tally.note(Finding(check, _COMPARED[check]), row.origins[0])
                if number % step == 0:
                    sample.append(_text(row)[:MOST_CHARACTERS])
                if selection.kept[number]:
                    by_recipe[row.recipe] += 1
                    by_shape[row.shape] += 1
                    yield row, bool(selection.validation[number]), (*row.findings, *compared)

        digest = ""
        if blocked:
            deque(rows(), maxlen=0)
        else:
            digest = write_artifacts(self._place.out, rows(), table)
        statistics.rows_by_recipe.update(by_recipe)
        statistics.rows_by_shape.update(by_shape)
        # Not before: neither what knows languages nor what writes Parquet is small.
        pa.default_memory_pool().release_unused()
        for text in sample:
            tally.note_language(language_of(text))
        return digest

    def _notes(self, selection: Selection, statistics: DatasetStatistics) -> list[str]:
        notes = []
        if self._task.validation_share and not selection.validation.any():
            notes.append(
                "No rows are held out for validation: every document or conversation, with all "
                "that nearly repeats it, is more than the share that was asked for."
            )
        if balanced := statistics.dropped_by_reason.get(BALANCED):
            notes.append(f"{balanced} rows were left out to give every label as many rows.")
        return notes


def _statistics(keys: Keys, selection: Selection, made: Sequence[UnitMade]) -> DatasetStatistics:
    dropped = Counter(selection.dropped)
    for unit in made:
        dropped.update(unit.dropped)
    tokens = keys.column("tokens", selection.kept)
    return DatasetStatistics(
        rows=len(tokens),
        tokens=int(tokens.sum()),
        learned_tokens=int(keys.column("learned", selection.kept).sum()),
        max_row_tokens=int(tokens.max(initial=0)),
        dropped_by_reason=dropped,
        validation_rows=int(selection.validation.sum()),
        token_histogram=_histogram(tokens),
    )


def _histogram(tokens: npt.NDArray[np.int32]) -> list[TokenBin]:
    """Bins that double, from 16 tokens to the longest row."""
    bins, least = [], 0
    most = 16
    while least < tokens.max(initial=0):
        rows = int(np.count_nonzero((tokens > least) & (tokens <= most)))
        bins.append(TokenBin(tokens=most, rows=rows))
        least, most = most, 2 * most
    return bins


def _no_rows(statistics: DatasetStatistics) -> str:
    dropped = sorted(statistics.dropped_by_reason.items())
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped)
    return "the documents gave no rows" + (f"; dropped: {reasons}" if reasons else "")


def _first(example: str) -> str:
    return f" (the first: {example})"


def _text(row: StoredRow) -> str:
    body = msgspec.json.decode(row.line)
    return "\n".join(prompt_and_answer(Row(Shape(row.shape), body, row.origins)))
