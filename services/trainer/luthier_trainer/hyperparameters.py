"""Hyperparameters: what a caller may give, and what `auto` makes of the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import (
    Hyperparameters,
    Optimizer,
    Precision,
    ResolvedHyperparameters,
    TuningMode,
)
from luthier_common.errors import InvalidArgument

from luthier_trainer.auto import Method, Sizes, choose, with_rank

ALL_LINEAR = "all-linear"
FOUR_BITS = frozenset({Precision.NF4, Precision.FP4})
QUANTIZED = FOUR_BITS | {Precision.INT8}

_RANGES: Mapping[str, tuple[float, float]] = {
    "epoch_count": (1, 1000),
    "batch_size": (1, 1024),
    "learning_rate_multiplier": (math.ulp(0.0), 100),
    "lora_rank": (1, 512),
    "lora_alpha": (1, 1024),
    "retain_share": (0, 0.9),
    "lora_dropout": (0, 0.9),
    "micro_batch_size": (1, 1024),
    "max_row_tokens": (16, 2**31 - 1),
}
"""Least and most of each number; see the proto."""
_CHOICES: Mapping[str, frozenset[int]] = {
    "tuning_mode": frozenset({TuningMode.LORA, TuningMode.FULL}),
    "base_precision": frozenset(Precision.values()) - {Precision.PRECISION_UNSPECIFIED},
    "compute_precision": frozenset({Precision.FP32, Precision.BF16, Precision.FP16}),
    "optimizer": frozenset(Optimizer.values()) - {Optimizer.OPTIMIZER_UNSPECIFIED},
}
_ENUMS = {"tuning_mode": TuningMode, "optimizer": Optimizer}  # the others are precisions
_ONLY_LORA = ("lora_rank", "lora_alpha", "lora_dropout", "target_modules", "double_quantization")
_MOST_BETA = 2
_AUTO_BETA = 0.1
_MODULE = re.compile(r"[A-Za-z0-9_.*?-]{1,200}")
_MOST_MODULES = 64
_MOST_STARS = 8
"""In a pattern: enough for any model, and matched at once."""


def given_in(job: TrainingJob) -> Hyperparameters:
    """Return what the caller has fixed."""
    spec = job.preference if job.HasField("preference") else job.supervised
    return spec.hyperparameters


def field_of(job: TrainingJob) -> str:
    """Return the path of the hyperparameters in a request, for errors."""
    method = "preference" if job.HasField("preference") else "supervised"
    return f"training_job.{method}.hyperparameters"


def is_full(job: TrainingJob) -> bool:
    """Whether a job tunes all weights."""
    return given_in(job).tuning_mode == TuningMode.FULL


def check(job: TrainingJob) -> None:
    """InvalidArgument names the first field that is out of its range or has no sense here."""
    given, path = given_in(job), field_of(job)
    for field, (least, most) in _RANGES.items():
        if _is_given(given, field) and not least <= getattr(given, field) <= most:
            bounds = (
                f"{least:g} to {most:g}" if least != math.ulp(0.0) else f"above 0, at most {most:g}"
            )
            message = f"{field} must be {bounds}, not {getattr(given, field):g}"
            raise _refused(path, field, message, "HYPERPARAMETER_OUT_OF_RANGE")
    for field, known in _CHOICES.items():
        if _is_given(given, field) and getattr(given, field) not in known:
            names = ", ".join(_ENUMS.get(field, Precision).Name(number) for number in sorted(known))
            raise _refused(
                path, field, f"{field} must be one of {names}", "HYPERPARAMETER_OUT_OF_RANGE"
            )
    _check_modules(given, path)
    _check_together(job, given, path)
    beta = job.preference.beta
    if job.preference.HasField("beta") and not 0 < beta <= _MOST_BETA:
        message = f"beta must be above 0, at most {_MOST_BETA}, not {beta:g}"
        raise _refused("training_job.preference", "beta", message, "HYPERPARAMETER_OUT_OF_RANGE")


def resolve(
    job: TrainingJob,
    sizes: Sizes,
    *,
    context_tokens: int,
    encoder_decoder: bool = False,
    start: Mapping[str, str] | None = None,
) -> ResolvedHyperparameters:
    """Return what a run uses: what was given, and the choice of `auto` for the rest.

    `start` is the configuration of the adapter that the job goes on from. InvalidArgument for what
    that or the kind of base model does not allow.
    """
    given = given_in(job)
    _check_base(job, encoder_decoder=encoder_decoder)
    if start is not None:
        given = _with_start(job, start)
    method = Method(full=is_full(job), preference=job.HasField("preference"))
    auto = choose(sizes, method)
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
        tuning_mode=TuningMode.LORA,
        base_precision=Precision.FP32 if method.full else Precision.NF4,
        target_modules=[] if method.full else [ALL_LINEAR],
        optimizer=Optimizer.ADAMW,
        packing=not (method.preference or encoder_decoder),
        length_buckets=True,
        max_row_tokens=context_tokens,
        beta=_AUTO_BETA if method.preference else 0.0,
    )
    for field, value in given.ListFields():
        if field.name == "target_modules":
            resolved.ClearField("target_modules")
        if field.name == "learning_rate_multiplier":
            resolved.learning_rate = auto.learning_rate * value
        resolved.MergeFrom(ResolvedHyperparameters(**{field.name: value}))
        if field.has_presence:  # merging leaves out what is 0 or false
            setattr(resolved, field.name, value)
    if job.HasField("preference") and job.preference.HasField("beta"):
        resolved.beta = job.preference.beta
    resolved.double_quantization = resolved.base_precision in FOUR_BITS and (
        given.double_quantization or not given.HasField("double_quantization")
    )
    resolved.max_row_tokens = min(resolved.max_row_tokens, context_tokens)
    resolved.reasons.extend(why for name, why in auto.reasons.items() if not given.HasField(name))
    return resolved


def _with_start(job: TrainingJob, start: Mapping[str, str]) -> Hyperparameters:
    """Return what is given, with the shape of the start adapter; its matrices can have no other."""
    given = Hyperparameters()
    given.CopyFrom(given_in(job))
    for field in ("lora_rank", "lora_alpha"):
        value = int(float(start[field]))
        if given.HasField(field) and getattr(given, field) != value:
            message = f"{field} is {value} in the adapter that the job starts from; leave it out"
            raise _refused(field_of(job), field, message, "HYPERPARAMETERS_DO_NOT_FIT")
        setattr(given, field, value)
    modules = start.get("target_modules", ALL_LINEAR).split(",")
    if given.target_modules and sorted(given.target_modules) != sorted(modules):
        message = "target_modules are those of the adapter that the job starts from; leave them out"
        raise _refused(field_of(job), "target_modules", message, "HYPERPARAMETERS_DO_NOT_FIT")
    given.target_modules[:] = modules
    return given


def _check_base(job: TrainingJob, *, encoder_decoder: bool) -> None:
    if encoder_decoder and job.HasField("preference"):
        raise InvalidArgument(
            "preferences (DPO) are learned by decoders only, not by encoder-decoder models",
            reason="HYPERPARAMETERS_DO_NOT_FIT",
            field="training_job.preference",
        )
    if encoder_decoder and given_in(job).packing:
        message = "packing is for decoders; an encoder-decoder reads one row at a time"
        raise _refused(field_of(job), "packing", message, "HYPERPARAMETERS_DO_NOT_FIT")


def _check_modules(given: Hyperparameters, path: str) -> None:
    modules = list(given.target_modules)
    wrong = [
        name for name in modules if not _MODULE.fullmatch(name) or name.count("*") > _MOST_STARS
    ]
    if len(modules) > _MOST_MODULES or wrong:
        message = (
            f"target_modules takes at most {_MOST_MODULES} names or patterns of letters, digits "
            f"and `_.-*?`, with at most {_MOST_STARS} stars each"
        )
        raise _refused(path, "target_modules", message, "INVALID_TARGET_MODULES")
    if ALL_LINEAR in modules and len(modules) > 1:
        message = f"target_modules: {ALL_LINEAR} stands alone"
        raise _refused(path, "target_modules", message, "INVALID_TARGET_MODULES")


def _check_together(job: TrainingJob, given: Hyperparameters, path: str) -> None:
    def no(field: str, message: str) -> InvalidArgument:
        return _refused(path, field, message, "HYPERPARAMETERS_DO_NOT_FIT")

    if is_full(job):
        for field in _ONLY_LORA:
            if _is_given(given, field):
                raise no(field, f"{field} has no meaning where all weights are tuned")
        if given.base_precision in QUANTIZED | {Precision.FP16}:
            name = Precision.Name(given.base_precision)
            message = f"base_precision {name} cannot be tuned as a whole; FP32 and BF16 can"
            raise no("base_precision", message)
    held = given.base_precision or Precision.NF4
    if given.double_quantization and held not in FOUR_BITS:
        raise no("double_quantization", "double_quantization is for weights in NF4 and FP4")
    if given.compute_precision == Precision.FP16 and given.base_precision == Precision.FP32:
        message = "weights held in FP32 are computed in FP32 or BF16; FP16 loses small gradients"
        raise no("compute_precision", message)
    halved = given.base_precision in (Precision.BF16, Precision.FP16)
    if halved and given.compute_precision not in (0, given.base_precision):
        name = Precision.Name(given.base_precision)
        raise no("compute_precision", f"weights held in {name} are computed in {name}")
    if job.HasField("preference"):
        if given.packing:
            raise no("packing", "packing is for supervised tuning; pairs of answers stay apart")
        if given.retain_share:
            raise no("retain_share", "retain_share is for supervised tuning")
        if given.lora_dropout:
            raise no("lora_dropout", "lora_dropout is for supervised tuning; DPO drops nothing")


def _is_given(given: Hyperparameters, field: str) -> bool:
    value = getattr(given, field)
    presence = Hyperparameters.DESCRIPTOR.fields_by_name[field].has_presence
    return given.HasField(field) if presence else bool(value)


def _refused(path: str, field: str, message: str, reason: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, field=f"{path}.{field}")
