"""Real tokens a second of whole training runs, beside TRL and LLaMA-Factory."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.trainer import materials
from benchmarks.trainer.child import Run
from benchmarks.trainer.racing import (
    FACTORY_PYTHON,
    Contender,
    Given,
    Scale,
    details,
    median_speed,
    race,
    run,
)

_LONGEST = 512
_BATCH = 8
_PACKED_BATCH = 2
"""Lines of 512 tokens: about as many tokens a step as 8 rows have, somewhat more."""
OURS = Contender("Luthier", "ours", "bf16", _BATCH)
EXACT = replace(OURS, option="fp32")
DEFAULT = Contender("TRL, default", "trl_peer", "default", _BATCH)
KEPT = Contender("TRL, activations kept", "trl_peer", "kept", _BATCH)
PACKING = Contender("TRL, packing", "trl_peer", "packing", _PACKED_BATCH)
FACTORY = Contender(
    "LLaMA-Factory, neat packing", "factory_peer", "neat packing", _PACKED_BATCH, FACTORY_PYTHON
)
_GOALS = ((DEFAULT, 2.5), (PACKING, 1.5), (FACTORY, 1.3))
_FIRST_TOLERANCE, _CURVE_TOLERANCE = 1e-3, 1e-2
"""Of losses in float32, ours and TRL's on the same rows: of the first step, of any."""
_ROUNDED_TOLERANCE = 2e-2
"""Of any step's in bfloat16."""
_END_TOLERANCE = 0.03
"""Of the mean loss of the last quarter, where steps have other rows, as a share of it."""


def measure(scale: Scale, folder: Path) -> Measurement:
    """See the package's README."""
    model = materials.save_model(scale.model, folder / "model")
    adapter = materials.save_adapter(model, folder / "adapter")
    compared = _given(model, adapter, folder / "compared.jsonl", scale.compared_rows, "fp32")
    worst = check_same_curve(run(EXACT, compared), run(KEPT, compared))
    given = _given(model, adapter, folder / "rows.jsonl", scale.rows, "bf16")
    peers = [DEFAULT, PACKING, *([FACTORY] if FACTORY_PYTHON.exists() else []), KEPT]
    runs = race([OURS, *peers], given, scale.rounds)
    ends = check_ends(runs)
    speeds = {name: median_speed(told, given.tokens) for name, told in runs.items()}
    outcomes = [
        Outcome(
            "Tokens a second, whole training",
            f"{speeds[OURS.name]:,.0f} tokens/s",
            f"{peer.name} {speeds[peer.name]:,.0f} tokens/s",
            speeds[OURS.name] / speeds[peer.name],
            goal,
        )
        for peer, goal in _GOALS
        if peer.name in runs
    ]
    notes = [
        f"Training: {scale.rows} conversations, {given.tokens:,} tokens without padding. Losses "
        f"of Luthier and TRL in float32 on the same rows: the same to {worst:.1e} at every step.",
        "Training, mean loss of the last quarter: "
        + ", ".join(f"{name} {loss:.3f}" for name, loss in ends.items())
        + ".",
        f"{KEPT.name} (`gradient_checkpointing=False`): {speeds[KEPT.name]:,.0f} tokens/s, "
        f"{speeds[OURS.name] / speeds[KEPT.name]:.2f}x.",
        "Imports, loading and tokenizing, before the time that is taken: "
        + ", ".join(
            f"{name} {statistics.median(one.before for one in told):.1f} s"
            for name, told in runs.items()
        )
        + ".",
    ]
    return Measurement(outcomes, notes, {"tokens": given.tokens, "runs": details(runs)})


def check_same_curve(ours: Run, theirs: Run) -> float:
    """Return the largest difference of two runs in float32; AssertionError if it is too large."""
    gaps = [abs(one - other) for one, other in zip(ours.losses, theirs.losses, strict=True)]
    if gaps[0] > _FIRST_TOLERANCE or max(gaps) > _CURVE_TOLERANCE:
        raise AssertionError(f"the trainers do not learn the same: {ours.losses} {theirs.losses}")
    return max(gaps)


def check_ends(runs: dict[str, list[Run]]) -> dict[str, float]:
    """Return the mean loss of each contender's last quarter; AssertionError if one is off.

    That of TRL's default is compared step by step: its steps have the same rows as ours.
    """
    ours, default = runs[OURS.name][0].losses, runs[DEFAULT.name][0].losses
    gap = max(abs(one - other) for one, other in zip(ours, default, strict=True))
    ends = {name: _end(told[0].losses) for name, told in runs.items()}
    spread = max(abs(end / ends[OURS.name] - 1) for end in ends.values())
    if gap > _ROUNDED_TOLERANCE or spread > _END_TOLERANCE:
        raise AssertionError(f"the trainers do not learn the same: {gap}, {ends}")
    return ends


def _end(losses: list[float]) -> float:
    return statistics.mean(losses[-max(1, len(losses) // 4) :])


def _given(model: Path, adapter: Path, rows: Path, count: int, precision: str) -> Given:
    tokens = materials.write_rows(model, rows, rows=count, longest=_LONGEST)
    return Given(model, adapter, rows, tokens, _LONGEST, precision)
