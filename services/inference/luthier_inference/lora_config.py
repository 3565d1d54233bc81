"""`adapter_config.json`: the few settings of a LoRA adapter that serving honours.

Everything else must be off. Some of peft's options change the base model when an adapter is
added to it (`init_lora_weights: pissa`, `bias`, `modules_to_save`), and the base is shared by
all adapters of all projects; others are regular expressions that run on ours.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from luthier_common.errors import InvalidArgument

_RANK_LIMIT = 1024
_MODULE = re.compile(r"[A-Za-z0-9_.]{1,200}")
# Read here, or without any effect on serving.
_KNOWN = {
    "peft_type",
    "r",
    "lora_alpha",
    "target_modules",
    "use_rslora",
    "fan_in_fan_out",
    "init_lora_weights",
    "task_type",
    "bias",
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
}


@dataclass(frozen=True)
class LoraSettings:
    """How an adapter's matrices are applied."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    """Names, or ends of names, of the linear layers."""
    use_rslora: bool
    """Whether the scale is alpha / sqrt(rank) rather than alpha / rank."""
    fan_in_fan_out: bool
    """Whether the layers store their weights transposed (GPT-2's do)."""


def read_lora_config(data: bytes, *, seq2seq: bool = False) -> LoraSettings:
    """Return the settings in an `adapter_config.json`; InvalidArgument says what is refused.

    `seq2seq` says that the base model reads with an encoder and writes with a decoder.
    """
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refused("is not JSON") from error
    if not isinstance(config, dict):
        raise _refused("is not a JSON object")
    _check_kind(config, "SEQ_2_SEQ_LM" if seq2seq else "CAUSAL_LM")
    unsupported = sorted(key for key in config if key not in _KNOWN and config[key])
    if unsupported:
        raise _refused(f"uses {', '.join(unsupported)[:200]}, which is not supported")
    rank, alpha, modules = (config.get(key) for key in ("r", "lora_alpha", "target_modules"))
    if not isinstance(rank, int) or rank is True or not 1 <= rank <= _RANK_LIMIT:
        raise _refused(f"needs r from 1 to {_RANK_LIMIT}")
    if not isinstance(alpha, int | float) or alpha is True or not 0 < alpha < 1e6:
        raise _refused("needs a positive lora_alpha")
    if not isinstance(modules, list) or not modules or not all(map(_is_module, modules)):
        raise _refused("needs target_modules as a list of names")
    return LoraSettings(
        rank=rank,
        alpha=alpha,
        target_modules=tuple(sorted(modules)),
        use_rslora=config.get("use_rslora") is True,
        fan_in_fan_out=config.get("fan_in_fan_out") is True,
    )


def _check_kind(config: dict[str, Any], task_type: str) -> None:
    if config.get("peft_type") != "LORA":
        raise _refused("must have peft_type LORA")
    if config.get("task_type") not in (None, task_type):
        raise _refused(f"must have task_type {task_type}")
    if config.get("bias", "none") != "none":
        raise _refused("must have bias none")
    if not isinstance(config.get("init_lora_weights", True), bool):
        raise _refused("must have been saved with init_lora_weights true or false")


def _is_module(name: object) -> bool:
    return isinstance(name, str) and _MODULE.fullmatch(name) is not None


def _refused(why: str) -> InvalidArgument:
    return InvalidArgument(
        f"adapter_config.json {why}", reason="UNSUPPORTED_ADAPTER", field="adapter.files"
    )
