"""Gates: what a result must reach to be served.

A figure that falls when a model gets better (a loss, a perplexity) must be at most the threshold,
any other at least. An improvement is measured against the same figure of the untuned model, which
a result holds under `base_` and the figure's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from luthier.trainer.v1.training_job_pb2 import PublicationGate, TrainingJob
from luthier_common.errors import InvalidArgument

FIELD = "training_job.gate"
BASE = "base_"
"""What the names of the untuned model's figures begin with."""

_TRAINED = ("train_loss", "train_mean_token_accuracy")
_VALIDATED = (
    "valid_loss",
    "valid_mean_token_accuracy",
    "perplexity",
    "exact_match",
    "rouge1",
    "rouge2",
    "rougeL",
)
_PREFERENCE = ("valid_reward_accuracy", "valid_reward_margin")
_REGRESSION = ("regression_loss", "regression_mean_token_accuracy", "regression_perplexity")


def check(job: TrainingJob) -> None:
    """InvalidArgument for a gate that no result of this job could be held against."""
    if not job.HasField("gate"):
        return
    gate = job.gate
    validated = _VALIDATED + (_PREFERENCE if job.HasField("preference") else ())
    if gate.metric not in _TRAINED + validated + _REGRESSION:
        known = ", ".join(_TRAINED + validated + _REGRESSION)
        raise _invalid("metric", f"is {gate.metric[:100]!r}; a gate asks for one of {known}")
    _check_wanted(gate)
    for file, metrics in (("validation_file", validated), ("regression_file", _REGRESSION)):
        if gate.metric in metrics and not getattr(job, file):
            raise _invalid("metric", f"is {gate.metric}, which takes a {file}; the job has none")
    if gate.metric in _TRAINED and gate.HasField("improvement"):
        message = "is for figures that are taken before tuning, too, and "
        raise _invalid("improvement", f"{message}{gate.metric} is not; give a threshold")


def failure(gate: PublicationGate, metrics: Mapping[str, float]) -> str:
    """Return why `metrics` do not pass, in a sentence; "" when they do."""
    reached = metrics.get(gate.metric)
    if reached is None or not math.isfinite(reached):
        return f"the gate asks for {gate.metric}, which was not measured"
    lower = gate.metric.endswith(("loss", "perplexity"))
    side = "at most" if lower else "at least"
    if gate.HasField("threshold") and not _is_good(reached, gate.threshold, lower):
        return f"{gate.metric} is {reached:.4g}; the gate asks for {side} {gate.threshold:g}"
    if not gate.HasField("improvement"):
        return ""
    before = metrics.get(BASE + gate.metric)
    if before is None or not math.isfinite(before):
        return f"the gate asks for a better {gate.metric} than before, which was not measured"
    wanted = before - gate.improvement if lower else before + gate.improvement
    if not _is_good(reached, wanted, lower):
        change = f"is {reached:.4g} after {before:.4g}"
        return f"{gate.metric} {change}; the gate asks for {gate.improvement:g} better"
    return ""


def _check_wanted(gate: PublicationGate) -> None:
    given = [field for field in ("threshold", "improvement") if gate.HasField(field)]
    if not given:
        message = f"{FIELD} must say what to reach: threshold, improvement or both"
        raise InvalidArgument(message, reason="INVALID_GATE", field=FIELD)
    for field in given:
        if not math.isfinite(getattr(gate, field)):
            raise _invalid(field, "must be a number")
    if gate.HasField("improvement") and gate.improvement <= 0:
        raise _invalid("improvement", f"must be above 0, not {gate.improvement:g}")


def _is_good(reached: float, wanted: float, lower: bool) -> bool:
    # What is reached exactly is reached, also where a difference of floats falls short of it.
    if math.isclose(reached, wanted, rel_tol=1e-9, abs_tol=1e-12):
        return True
    return reached < wanted if lower else reached > wanted


def _invalid(field: str, what: str) -> InvalidArgument:
    path = f"{FIELD}.{field}"
    return InvalidArgument(f"{path} {what}", reason="INVALID_GATE", field=path)
