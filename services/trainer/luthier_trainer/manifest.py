"""The configuration that a manifest tells: how a job was tuned, in words."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import Precision, ResolvedHyperparameters, TuningMode
from luthier_common.plain import word

_TOLD_ELSEWHERE = frozenset({"reasons"})  # by the job
_OF_LORA = frozenset(
    {"lora_rank", "lora_alpha", "lora_dropout", "target_modules", "double_quantization"}
)
_OF_SUPERVISED = frozenset({"retain_share"})
_OF_PREFERENCES = frozenset({"beta"})
_UNSET = frozenset({"compute_precision", "micro_batch_size"})
"""What 0 leaves to the run."""


def configuration(job: TrainingJob) -> dict[str, str]:
    """Return what the job's run used, by name; only what means something for its method."""
    chosen, preference = job.resolved_hyperparameters, job.HasField("preference")
    meaningless = _TOLD_ELSEWHERE | (_OF_SUPERVISED if preference else _OF_PREFERENCES)
    if chosen.tuning_mode == TuningMode.FULL:
        meaningless |= _OF_LORA
    meaningless |= {field for field in _UNSET if not getattr(chosen, field)}
    told = {
        "method": "dpo" if preference else "supervised",
        "quantization": _quantization(chosen),
        "seed": str(job.seed),
    }
    for field in ResolvedHyperparameters.DESCRIPTOR.fields:
        if field.name not in meaningless:
            told[field.name] = _told(cast(FieldDescriptor, field), getattr(chosen, field.name))
    given = {
        "start_adapter": job.start_adapter,
        "start_adapter_digest": job.start_adapter_digest,
        "validation_digest": job.validation_file_sha256,
        "regression_digest": job.regression_file_sha256,
    }
    return told | {name: value for name, value in given.items() if value}


def _quantization(chosen: ResolvedHyperparameters) -> str:
    if chosen.base_precision not in (Precision.INT8, Precision.NF4, Precision.FP4):
        return "none"
    name = Precision.Name(chosen.base_precision).lower()
    return f"{name}, double" if chosen.double_quantization else name


def _told(field: FieldDescriptor, value: Any) -> str:
    if field.is_repeated:
        return ",".join(value)
    if field.enum_type is not None:
        return word(field.enum_type, value)
    return str(value).lower() if isinstance(value, bool) else str(value)
