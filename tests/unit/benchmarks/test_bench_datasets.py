"""The corpora of the benchmark are the same everywhere, and its results can be read."""

import hashlib
import io
import json
import subprocess
import sys
import time
from random import Random
from subprocess import DEVNULL, PIPE

import pypdfium2
import pytest
from luthier_dataset.rows import RowChecker
from rich.console import Console

from benchmarks.datasets.corpora import (
    chat_rows,
    documents,
    handbook,
    near_duplicates,
    prose,
    short_rows,
    with_edits,
)
from benchmarks.datasets.measuring import Measurement, Outcome, Race, race
from benchmarks.datasets.memory import MemoryWatch
from benchmarks.datasets.report import Results


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def test_corpora_are_the_same_on_every_machine() -> None:
    assert (
        prose(Random(0), 12)
        == "The ris mol also have cousplan the tutraclurwoum mendsainstur lutreanrun is the."
    )
    assert digest(*(data for _, data in documents(1, 200_000, 50_000))) == "109cc4e0825e9476"
    assert digest(*chat_rows(1, 20_000)) == "8408204d59774191"
    assert digest(*(text.encode() for text in near_duplicates(1, 50).texts)) == "e9f08197cf122a98"
    assert handbook(1, 2) == handbook(1, 2)


def test_seeds_make_different_corpora() -> None:
    assert list(documents(1, 1000)) != list(documents(2, 1000))
    assert near_duplicates(1, 3) != near_duplicates(2, 3)


def test_documents_come_to_the_size_asked_for() -> None:
    found = dict(documents(1, 300_000, 60_000))
    assert 300_000 <= sum(map(len, found.values())) < 305_000
    assert {name.rpartition(".")[2] for name in found} == {"md", "txt", "jsonl"}
    for name, data in found.items():
        if name.endswith("jsonl"):
            assert all(json.loads(line).keys() == {"title", "text"} for line in data.splitlines())


def test_copies_are_edited_copies_of_their_originals() -> None:
    planted = near_duplicates(1, 200)
    copies = [(n, original) for n, original in enumerate(planted.originals) if n != original]
    assert 25 < len(copies) < 75
    for number, original in copies:
        assert planted.originals[original] == original
        pairs = zip(
            planted.texts[number].split(" "), planted.texts[original].split(" "), strict=True
        )
        assert 0 < sum(one != other for one, other in pairs) <= 8


def test_edits_replace_so_many_words() -> None:
    text = " ".join("x" * 10 for _ in range(50))
    edited = with_edits(Random(1), text, 7).split(" ")
    assert len(edited) == 50
    assert sum(word != "x" * 10 for word in edited) == 7


def test_rows_are_sound() -> None:
    checker = RowChecker()
    for line in chat_rows(2, 50_000):
        checker.feed(line)
    assert checker.finish() > 10
    files = dict(short_rows(2, 50_000, 20_000))
    assert 50_000 <= sum(map(len, files.values())) < 52_000
    for data in files.values():
        checker = RowChecker()
        checker.feed(data)
        assert 230 < len(data) / checker.finish() < 310


def test_a_handbook_has_its_pages() -> None:
    with pypdfium2.PdfDocument(handbook(1, 12)) as document:
        assert len(document) == 12
        assert "Page 12" in document[11].get_textpage().get_text_bounded()


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    turns = []

    def work(name: str) -> float:
        turns.append(name)
        return 3.0

    found = race("docs", {"a": lambda: work("a"), "b": lambda: work("b")}, rounds=2)
    assert turns == ["a", "b"] * 3
    assert [len(speeds) for speeds in found.speeds.values()] == [2, 2]


def test_a_ratio_is_that_of_medians() -> None:
    found = Race("docs", {"ours": [10, 100_000, 1250], "theirs": [5, 6, 0.1]})
    outcome = found.outcome("Search", "ours", "theirs", 251)
    assert outcome.measured == pytest.approx(250)
    assert (outcome.ours, outcome.theirs) == ("1,250 docs/s", "theirs 5 docs/s")
    assert not outcome.met


def test_results_render() -> None:
    part = Measurement(
        [
            Outcome("Search", "30 docs/s", "peer 5 docs/s", 6.0, 5),
            Outcome("Memory", "700 MB RSS", "600 MB PSS", 700, 600, unit=" MB", at_most=True),
        ],
        ["A note."],
        {"speeds": {"ours": [1.5]}},
    )
    results = Results({"cores": "2"}, {"near": part}, 61.0)
    markdown = results.markdown()
    assert "| Search | 30 docs/s | peer 5 docs/s | 6.00x | ≥ 5x | yes |" in markdown
    assert "| Memory | 700 MB RSS | 600 MB PSS | 700.00 MB | ≤ 600 MB | no |" in markdown
    assert "- A note." in markdown
    assert "| cores | 2 |" in markdown
    stored = json.loads(results.json())
    assert [one["met"] for one in stored["parts"]["near"]["outcomes"]] == [True, False]
    assert stored["parts"]["near"]["speeds"] == {"ours": [1.5]}
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(results.table())
    assert "6.00x" in console.export_text()


def test_memory_of_children_counts() -> None:
    child = "held = bytearray(60_000_000); print(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    # Both end when the input does.
    with (
        subprocess.Popen(
            [sys.executable, "-c", parent], stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        ) as process,
        MemoryWatch(process.pid) as watch,
    ):
        assert process.stdout is not None
        watch.stage = "Holding"
        process.stdout.readline()
        deadline = time.monotonic() + 20
        while watch.peak.pss < 60 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert 60 < watch.peak.rss < 150
    assert 60 < watch.peak.pss <= watch.peak.rss
    assert watch.peak.stage == "Holding"
    assert len(watch.peak.processes) == 2
