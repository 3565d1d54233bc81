"""What four bits cost and save: the time of a step and the bytes of the weights."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.trainer import materials
from benchmarks.trainer.child import Run
from benchmarks.trainer.racing import Given, Scale, details, race
from benchmarks.trainer.speed import OURS

_LONGEST = 512
_DENSE = replace(OURS, name="bfloat16")
_NF4 = replace(OURS, name="NF4", option="nf4")
_WARM = 1
"""Steps of each run that do not count: the first proves its gradients."""


def measure(scale: Scale, folder: Path) -> Measurement:
    """See the package's README."""
    model = materials.save_model(scale.quantized_model, folder / "model")
    adapter = materials.save_adapter(model, folder / "adapter")
    rows = folder / "rows.jsonl"
    tokens = materials.write_rows(model, rows, rows=scale.quantized_rows, longest=_LONGEST)
    given = Given(model, adapter, rows, tokens, _LONGEST, "bf16")
    runs = race([_NF4, _DENSE], given, scale.rounds)
    step = {name: median_step(told) for name, told in runs.items()}
    share, whole = weight_shares(model)
    outcomes = [
        Outcome(
            "QLoRA step, 148 million weights",
            f"NF4 {step['NF4']:.2f} s",
            f"bfloat16 {step['bfloat16']:.2f} s",
            step["NF4"] / step["bfloat16"],
            1.15,
            at_most=True,
        ),
        Outcome(
            "NF4 weights", f"{share:.3f} of their bytes", "bfloat16", share, 0.32, at_most=True
        ),
    ]
    peaks = {name: max(one.peak_bytes for one in told) for name, told in runs.items()}
    notes = [
        f"NF4 with double quantization, scales counted; embeddings stay in bfloat16, and with them "
        f"the model has {whole:.3f} of its bytes. Peak of the whole process: "
        + ", ".join(f"{name} {peak / 1e6:,.0f} MB" for name, peak in peaks.items())
        + "."
    ]
    return Measurement(outcomes, notes, {"weights": share, "runs": details(runs)})


def median_step(runs: list[Run]) -> float:
    """Return the median seconds of a step, of all rounds."""
    return statistics.median(
        seconds for one in runs for seconds in one.step_seconds[_WARM:] or one.step_seconds
    )


def weight_shares(folder: Path) -> tuple[float, float]:
    """Return the bytes of the NF4 layers as a share of bfloat16's, and those of the whole model."""
    from luthier.trainer.v1.tuning_pb2 import (  # noqa: PLC0415 - torch: seconds
        Precision,
        ResolvedHyperparameters,
    )
    from luthier_trainer.run.model import load_model, quantized_layers  # noqa: PLC0415

    chosen = ResolvedHyperparameters(
        base_precision=Precision.NF4, compute_precision=Precision.BF16, double_quantization=True
    )
    model = load_model(folder, chosen)
    layers = [layer for _, layer in quantized_layers(model)]
    held = sum(tensor.nbytes for layer in layers for tensor in _tensors(layer))
    dense = sum(2 * layer.in_features * layer.out_features for layer in layers)
    packed = sum(layer.weight.nbytes for layer in layers)
    rest = sum(weight.nbytes for weight in model.parameters()) - packed
    return held / dense, (held + rest) / (dense + rest)


def _tensors(layer: Any) -> Iterator[Any]:
    """Yield all that a 4-bit layer needs: weights, scales, their scales, the codes of both."""
    state = layer.weight.quant_state
    yield from (layer.weight.data, state.absmax, state.code)
    yield from (state.offset, state.state2.absmax, state.state2.code)
