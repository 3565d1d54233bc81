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
from luthier_inference.engine.lora_bank import LoraWeights
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
    model, precision = Path(task["model"]), task["precision"]
    with Engine(STARTER, precision, threads=ENGINE_THREADS) as engine:
        adapter = weights(Path(task["adapter"]))
        taught = _right(engine, exam(), adapter)
        read = _right(engine, reading(task["questions"]), None)
    before = _resident()  # what libraries load at their first use is there by now
    with Engine(model, precision, threads=ENGINE_THREADS) as engine:
        held = _resident() - before
        latency = _latency(engine, model, task["tokens"])
    found = {"bytes": held, "latency": latency, "taught": taught, "read": read}
    print(json.dumps(found), flush=True)


def _resident() -> int:
    """Return the bytes that this process holds, what it has given up returned before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


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
