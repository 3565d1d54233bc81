"""Validation of a training file, against `datasets.load_dataset` plus the rules in Python."""

from __future__ import annotations

import os
import shutil
from itertools import count
from pathlib import Path

from luthier_dataset.rows import RowChecker, check_row

from benchmarks.datasets.corpora import MEGABYTE, chat_rows
from benchmarks.datasets.measuring import Measurement, Scale, race

_PIECE = 1024 * 1024


def measure(scale: Scale, folder: Path) -> Measurement:
    """Check the same file of conversations."""
    # Before the import: it would look for servers of its own.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    import datasets  # noqa: PLC0415

    datasets.disable_progress_bars()
    path = folder / "rows.jsonl"
    with path.open("wb") as file:
        file.writelines(chat_rows(1, scale.rows_bytes))
    size = path.stat().st_size / MEGABYTE
    caches = (folder / f"cache-{number}" for number in count())
    rows = {}

    def ours() -> float:
        checker = RowChecker()
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                checker.feed(piece)
        rows["Luthier"] = checker.finish()
        return size

    def theirs() -> float:
        cache = next(caches)
        loaded = datasets.load_dataset(
            "json", data_files=str(path), split="train", cache_dir=str(cache)
        )
        rows["datasets"] = sum(1 for row in loaded if check_row(row))
        shutil.rmtree(cache)
        return size

    found = race("MB", {"Luthier": ours, "datasets + Python": theirs}, scale.rounds)
    assert rows["Luthier"] == rows["datasets"]
    return Measurement(
        [found.outcome("JSONL validation", "Luthier", "datasets + Python", 3)],
        [
            f"JSONL validation: {rows['Luthier']:,} conversations, {size:.0f} MB. The Python "
            "check is the platform's own, rule by rule, on the rows that datasets gives."
        ],
        found.details(),
    )
