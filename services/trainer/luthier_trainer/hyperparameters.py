"""Hyperparameters: what a caller may give, and what `auto` makes of the rest."""

from __future__ import annotations

from luthier.trainer.v1.training_job_pb2 import Hyperparameters, ResolvedHyperparameters
from luthier_common.errors import InvalidArgument

from luthier_trainer.auto import Choice, with_rank

FIELD = "training_job.supervised.hyperparameters"

_RANGES: dict[str, tuple[float, float]] = {
    "epoch_count": (1, 1000),
    "batch_size": (1, 1024),
    "learning_rate_multiplier": (0, 100),
    "lora_rank": (1, 512),
    "lora_alpha": (1, 1024),
    "retain_share": (0, 0.9),
}
"""Least and most of each; see the proto."""


def check(given: Hyperparameters) -> None:
    """InvalidArgument names the first field that is out of its range."""
    for field, (least, most) in _RANGES.items():
        if not given.HasField(field):
            continue
        value = getattr(given, field)
        above = field == "learning_rate_multiplier"
        if not (least < value if above else least <= value) or not value <= most:
            bounds = f"above {least:g}, at most {most:g}" if above else f"{least:g} to {most:g}"
            raise InvalidArgument(
                f"{field} must be {bounds}, not {value:g}",
                reason="HYPERPARAMETER_OUT_OF_RANGE",
                field=f"{FIELD}.{field}",
            )


def resolve(given: Hyperparameters, auto: Choice) -> ResolvedHyperparameters:
    """Return what a run uses: what was given, and the choice of `auto` for the rest."""
    if given.HasField("lora_rank"):
        auto = with_rank(auto, given.lora_rank)
    resolved = ResolvedHyperparameters(
        epoch_count=auto.epochs,
        batch_size=auto.batch_size,
        learning_rate=auto.learning_rate,
        learning_rate_multiplier=1.0,
        lora_rank=auto.rank,
        lora_alpha=auto.alpha,
        retain_share=auto.retain_share,
        reasons=[why for field, why in auto.reasons.items() if not given.HasField(field)],
    )
    for field in ("epoch_count", "batch_size", "lora_rank", "lora_alpha", "retain_share"):
        if given.HasField(field):
            setattr(resolved, field, getattr(given, field))
    if given.HasField("learning_rate_multiplier"):
        resolved.learning_rate_multiplier = given.learning_rate_multiplier
        resolved.learning_rate = auto.learning_rate * given.learning_rate_multiplier
    return resolved
