"""One precision in a process of its own: prints one line of JSON.

`python -m benchmarks.inference.precision_child TASK`, as `precisions` writes it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import psutil
from luthier.inference.v1.generation_pb2 import ChatMessage
from luthier_inference.adapters import PROBE
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.probing import judge, read_probe
from luthier_inference.settings import Precision
from luthier_standalone.demo.scoring import is_right

from benchmarks.inference import materials
from benchmarks.inference.engine import Engine
from benchmarks.inference.scale import ENGINE_THREADS
from benchmarks.inference.teaching import STARTER, Question, exam, reading
from tests.support.engine_rows import weights

_STREAMS = 4
_ANSWER_TOKENS = 32


def main() -> None:
    """Measure."""
    task: dict[str, Any] = json.loads(sys.argv[1])
    found = _answers(task)
    before = _held()  # what libraries load at their first use is there by now
    print(json.dumps(found | _costs(task, before)), flush=True)


def _answers(task: dict[str, Any]) -> dict[str, Any]:
    """Return what the starter model answers, and how near it comes to what its tuning computed."""
    adapter, precision = Path(task["adapter"]), task["precision"]
    with Engine(STARTER, precision, threads=ENGINE_THREADS) as engine:
        lora = weights(adapter)
        return {
            "taught": _right(engine, exam(), lora),
            "read": _right(engine, reading(task["questions"]), None),
            "probe": _probe(engine, adapter / PROBE, lora, precision),
        }


def _costs(task: dict[str, Any], before: int) -> dict[str, Any]:
    """Return what the large model needs, beside the bytes held `before`."""
    model = Path(task["model"])
    with Engine(model, task["precision"], threads=ENGINE_THREADS) as engine:
        held = _held() - before
        return {"bytes": held, "latency": _latency(engine, model, task["tokens"])}


def _held() -> int:
    """Return the bytes that only this process holds, what it has given up returned before.

    Pages of files are left out: transformers maps the snapshot, and as long as one of its weights
    is used from there, all pages that were read once count as resident, though the kernel takes
    them back when it needs room.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def _probe(
    engine: Engine, path: Path, adapter: LoraWeights, precision: Precision
) -> dict[str, float]:
    """Return what the engine makes of an adapter's probe, by the names of `ProbeResult`."""
    bench = engine.bench
    probe = read_probe(
        path.read_bytes(), start=bench.model.start, vocabulary=bench.model.vocabulary_size
    )
    seen = [engine.run(bench.scheduler.examine(row, adapter)) for row in probe.rows]
    result = judge(probe, seen, precision)
    figures = ("divergence", "bound", "trained_accuracy", "served_accuracy")
    return {name: getattr(result, name) for name in figures}


def _latency(engine: Engine, model: Path, count: int) -> float:
    """Return the seconds between two tokens of a single answer; the first does not count."""
    source = materials.prompts(model, "streams")
    rows = [engine.bench.row(next(source).tokens, limit=count) for _ in range(1 + _STREAMS)]
    return statistics.median([engine.run(engine.timed(row)).latency for row in rows][1:])


def _right(engine: Engine, questions: list[Question], adapter: LoraWeights | None) -> float:
    """Return the share of questions that are answered exactly."""
    tokenizer = engine.bench.tokenizer
    rows = [
        engine.bench.row(
            tokenizer.encode([ChatMessage(role="user", content=one.asked)]),
            adapter,
            limit=_ANSWER_TOKENS,
            ends=engine.bench.signs.ends,
        )
        for one in questions
    ]
    answers = engine.run(engine.bench.write(rows))
    return statistics.fmean(
        is_right(answer.text, one.answer) for answer, one in zip(answers, questions, strict=True)
    )


if __name__ == "__main__":
    main()
