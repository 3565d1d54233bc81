"""What is measured: the configurations, and what each of them is used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Use(StrEnum):
    """What a measurement is used for."""

    FITTED = "fitted"
    """The constants are fitted on it."""
    SEEN = "checked"
    """It was known while the formulas were written; no constant is fitted on it."""
    UNSEEN = "unseen"
    """It was measured after formulas and constants were fixed."""


@dataclass(frozen=True)
class Configuration:
    """One way to tune one model."""

    name: str
    model: str
    line_tokens: int
    settings: Mapping[str, Any]
    """Fields of `ResolvedHyperparameters`, by name."""
    use: Use
    method: str = "text"
    """`text`, `pair` or `preference`: the shape of its rows."""


_COMMON: Mapping[str, Any] = {
    "epoch_count": 1,
    "learning_rate": 1e-5,
    "optimizer": "ADAMW",
    "packing": True,
}


def _lora(batch: int, precision: str, **more: Any) -> dict[str, Any]:
    held: dict[str, Any] = {
        **_COMMON,
        "tuning_mode": "LORA",
        "base_precision": precision,
        "double_quantization": precision in ("NF4", "FP4"),
        "batch_size": batch,
        "lora_rank": 16,
        "lora_alpha": 32,
        "target_modules": ["all-linear"],
    }
    return held | more


def _full(batch: int, **more: Any) -> dict[str, Any]:
    held: dict[str, Any] = {
        **_COMMON,
        "tuning_mode": "FULL",
        "base_precision": "FP32",
        "batch_size": batch,
    }
    return held | more


CONFIGURATIONS = (
    Configuration("llama nf4", "llama", 256, _lora(4, "NF4"), use=Use.FITTED),
    Configuration("llama bf16", "llama", 256, _lora(4, "BF16"), use=Use.FITTED),
    Configuration("llama full", "llama", 256, _full(2), use=Use.FITTED),
    Configuration("qwen2 nf4", "qwen2", 512, _lora(2, "NF4"), use=Use.FITTED),
    Configuration("qwen2 int8", "qwen2", 256, _lora(2, "INT8"), use=Use.FITTED),
    Configuration("gpt-neox fp32", "gpt-neox", 256, _lora(8, "FP32"), use=Use.FITTED),
    Configuration("t5 nf4", "t5", 256, _lora(4, "NF4"), use=Use.FITTED, method="pair"),
    Configuration(
        "llama nf4 checkpointing",
        "llama",
        512,
        _lora(4, "NF4", gradient_checkpointing=True),
        use=Use.FITTED,
    ),
    Configuration(
        "qwen2 fp32 q,v",
        "qwen2",
        256,
        _lora(4, "FP32", target_modules=["q_proj", "v_proj"]),
        use=Use.SEEN,
    ),
    Configuration(
        "qwen2 full 8-bit AdamW", "qwen2", 256, _full(2, optimizer="ADAMW_8BIT"), use=Use.SEEN
    ),
    Configuration("gpt-neox nf4", "gpt-neox", 512, _lora(4, "NF4"), use=Use.SEEN),
    Configuration("gpt-neox full", "gpt-neox", 256, _full(4), use=Use.SEEN),
    Configuration("t5 fp32", "t5", 256, _lora(2, "FP32"), use=Use.SEEN, method="pair"),
    Configuration(
        "llama nf4 DPO", "llama", 256, _lora(2, "NF4", beta=0.1), use=Use.SEEN, method="preference"
    ),
    Configuration(
        "llama nf4 micro-batch",
        "llama",
        256,
        _lora(8, "NF4", micro_batch_size=2),
        use=Use.SEEN,
    ),
    Configuration(
        "qwen2 fp4 checkpointing",
        "qwen2",
        512,
        _lora(4, "FP4", gradient_checkpointing=True),
        use=Use.SEEN,
    ),
    Configuration("gemma nf4", "gemma", 384, _lora(2, "NF4"), use=Use.UNSEEN),
    Configuration(
        "phi fp32 fc1,fc2",
        "phi",
        256,
        _lora(4, "FP32", target_modules=["fc1", "fc2"]),
        use=Use.UNSEEN,
    ),
    Configuration(
        "llama fp4 rank 64",
        "llama",
        512,
        _lora(2, "FP4", double_quantization=False, lora_rank=64),
        use=Use.UNSEEN,
    ),
    Configuration(
        "gpt-neox full bf16", "gpt-neox", 256, _full(4, base_precision="BF16"), use=Use.UNSEEN
    ),
    Configuration(
        "qwen2 nf4 DPO",
        "qwen2",
        256,
        _lora(1, "NF4", beta=0.1),
        use=Use.UNSEEN,
        method="preference",
    ),
    Configuration(
        "t5 int8 q,v",
        "t5",
        192,
        _lora(4, "INT8", target_modules=["q", "v"]),
        use=Use.UNSEEN,
        method="pair",
    ),
)
