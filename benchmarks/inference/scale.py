"""How much is measured."""

from __future__ import annotations

import os
from dataclasses import dataclass

ADAPTERS = 8
"""That answer at the same time, on as many connections."""
RANK = 16
PROMPT_TOKENS = 90
CORES = len(os.sched_getaffinity(0))
ENGINE_THREADS = max(1, CORES // 2)
"""What an engine process gives torch (`luthier_inference.engine.loading`)."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    model: str
    """A name of `materials.settings`."""
    gpu_model: str
    rounds: int
    new_tokens: int
    """Of an answer."""
    stream_tokens: int
    """Of the answer of a single stream."""
    requests: int
    """One after the other on each connection, in a round."""
    cold_adapters: int
    """Each asked once of an engine that has never seen it, after one that does not count."""
    crowd: int
    """Adapters that share eight slots."""
    crowd_requests: int
    loading_tokens: int
    """Of the answers that go on while adapters are loaded."""
    epochs: int
    """Of the run that teaches the starter model the demo's facts; 0: as many as `auto` takes."""
    read_questions: int


FULL = Scale(
    model="m1024",
    gpu_model="m7b",
    rounds=5,
    new_tokens=32,
    stream_tokens=96,
    requests=2,
    cold_adapters=9,
    crowd=64,
    crowd_requests=64,
    loading_tokens=256,
    epochs=0,
    read_questions=200,
)
QUICK = Scale(
    model="m512",
    gpu_model="small",
    rounds=1,
    new_tokens=8,
    stream_tokens=16,
    requests=1,
    cold_adapters=2,
    crowd=16,
    crowd_requests=24,
    loading_tokens=64,
    epochs=1,
    read_questions=10,
)
SCALES = {"full": FULL, "quick": QUICK}
