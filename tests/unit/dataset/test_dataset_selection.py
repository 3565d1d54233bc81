from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule
from luthier_dataset.build.selection import Selection, select
from luthier_dataset.build.stored import (
    Keys,
    RowWriter,
    SignatureFile,
    StoredRow,
    read_rows,
    row_keys,
)
from luthier_dataset.build.workspace import KEYS, SIGNATURES
from luthier_dataset.quality.near import clusters
from luthier_dataset.quality.report import actions
from luthier_dataset.recipes.recipe import Origin, Row, chat_row, prompt_and_answer
from luthier_dataset.rows import format_row

HERE = Origin("projects/acme/files/file-a")
LONG = "Everyone at Acme gets twenty four days of leave a year and may carry over five of them"
check = QualityCheck


def write(path: Path, rows: Sequence[Row], *, one_answer: bool = False, tokens: int = 9) -> None:
    with RowWriter(path) as writer:
        for row in rows:
            line = format_row(row.body).decode().rstrip("\n")
            findings = (int(check.SECRET),) if "password" in line else ()
            stored = StoredRow(line, "chat", "r", row.origins, tokens, 3, findings, row.label)
            group = row.group or "whole"
            keys = row_keys(row, stored, 0, one_answer=one_answer, group=group)
            writer.write(stored, keys, "\n".join(prompt_and_answer(row)))


def selected(
    path: Path,
    *rules: QualityRule,
    share: float = 0.0,
    seed: int = 1,
    balances: bool = False,
) -> Selection:
    keys = Keys(path.with_suffix(KEYS))
    with SignatureFile(path.with_suffix(SIGNATURES)) as signatures:
        roots = clusters(signatures)
    return select(keys, roots, actions(rules), share=share, seed=seed, balances=balances)


def rule(what: QualityCheck, action: QualityRule.Action) -> QualityRule:
    return QualityRule(check=what, action=action)


def test_rows_come_back_as_they_were_stored(tmp_path: Path) -> None:
    path = tmp_path / "unit"
    write(path, [chat_row("Who?", "Ä🙂", HERE), chat_row("What?", "b", HERE, label="x")])
    first, second = read_rows(path)
    assert first.line == '{"messages": [{"role": "user", "content": "Who?"}, ' + (
        '{"role": "assistant", "content": "Ä🙂"}]}'
    )
    assert (first.origins, first.label, second.label) == ((HERE,), "", "x")
    keys = Keys(path.with_suffix(KEYS))
    assert keys.column("tokens").tolist() == [9, 9]
    labelled = keys.column("label") != 0
    assert labelled.tolist() == [False, True]
    assert keys.column("tokens", labelled).tolist() == [9]
    assert keys.column("digest", ~labelled).shape == (1, 2)


def test_equal_rows_are_kept_once_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "unit", [chat_row("Who?", answer, HERE) for answer in ("a", "b", "a", "a")])
    selection = selected(tmp_path / "unit")
    assert selection.kept.tolist() == [True, True, False, False]
    assert dict(selection.dropped) == {"exact_duplicate": 2}


def test_where_a_prompt_has_one_answer_contradictions_go_and_case_does_not_matter(
    tmp_path: Path,
) -> None:
    pairs = [("Who?", "Ann"), ("who", "ann."), ("When?", "May"), ("when", "June"), ("Where", "x")]
    rows = [chat_row(prompt, answer, HERE) for prompt, answer in pairs]
    write(tmp_path / "unit", rows, one_answer=True)
    selection = selected(tmp_path / "unit")
    assert selection.kept.tolist() == [True, False, False, False, True]
    assert dict(selection.dropped) == {"conflicting_answers": 2, "exact_duplicate": 1}


def test_near_duplicates_are_told_of_and_left_out_only_if_asked(tmp_path: Path) -> None:
    rows = [chat_row("Leave", LONG, HERE), chat_row("Leave", LONG + ".", HERE)]
    rows.append(chat_row("Other", "Something else altogether is said in this row here", HERE))
    write(tmp_path / "unit", rows)
    reported = selected(tmp_path / "unit")
    assert reported.kept.all()
    assert reported.found[check.NEAR_DUPLICATE].tolist() == [False, True, False]
    dropped = selected(tmp_path / "unit", rule(check.NEAR_DUPLICATE, QualityRule.DROP))
    assert dropped.kept.tolist() == [True, False, True]


def test_findings_of_single_rows_drop_where_the_rule_says_so(tmp_path: Path) -> None:
    write(tmp_path / "unit", [chat_row("a", "password", HERE), chat_row("b", "c", HERE)])
    assert selected(tmp_path / "unit").kept.all()
    selection = selected(tmp_path / "unit", rule(check.SECRET, QualityRule.DROP))
    assert selection.kept.tolist() == [False, True]
    assert dict(selection.dropped) == {"secret": 1}


@pytest.mark.parametrize("seed", range(5))
def test_a_split_parts_neither_a_group_nor_near_duplicates(tmp_path: Path, seed: int) -> None:
    rows = [
        chat_row(f"Question {number}?", f"{number} alone is the answer number {number}", HERE,
                 group=f"document {number // 4}")
        for number in range(80)
    ]  # fmt: skip
    # The last document repeats a row of the first.
    rows.append(chat_row("Leave", LONG, HERE, group="document 0"))
    rows.append(chat_row("Leave", LONG + ".", HERE, group="document 19"))
    write(tmp_path / "unit", rows)
    held_out = selected(tmp_path / "unit", share=0.3, seed=seed).validation
    assert 0 < held_out.sum() <= 0.3 * len(rows)
    by_document = {row.group: held_out[place] for place, row in enumerate(rows)}
    assert all(by_document[row.group] == held_out[place] for place, row in enumerate(rows))
    assert by_document["document 0"] == by_document["document 19"]


def test_the_seed_chooses_what_is_held_out(tmp_path: Path) -> None:
    rows = [chat_row(f"{n}?", f"{n}", HERE, group=str(n)) for n in range(50)]
    write(tmp_path / "unit", rows)
    splits = [selected(tmp_path / "unit", share=0.2, seed=seed).validation for seed in (1, 1, 2)]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


def test_labels_are_balanced_down_to_the_rarest(tmp_path: Path) -> None:
    labels = ["yes"] * 30 + ["no"] * 5
    rows = [chat_row(f"{n}?", label, HERE, label=label) for n, label in enumerate(labels)]
    write(tmp_path / "unit", rows)
    assert selected(tmp_path / "unit").kept.all()
    selection = selected(tmp_path / "unit", balances=True)
    kept = [label for label, keep in zip(labels, selection.kept, strict=True) if keep]
    assert sorted(kept) == ["no"] * 5 + ["yes"] * 5
    assert selection.dropped["label_balance"] == 25


def test_no_rows_are_no_accident(tmp_path: Path) -> None:
    write(tmp_path / "unit", [])
    selection = selected(tmp_path / "unit", share=0.1)
    assert len(selection.kept) == 0
