"""`adapter_config.json`: the few settings of a LoRA adapter that serving honours.

Everything else must be off. Some of peft's options change the base model when an adapter is
added to it (`init_lora_weights: pissa`, `bias`, `modules_to_save`), and the base is shared by
all adapters of all projects; others are regular expressions that run on ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luthier_common.errors import InvalidArgument

from luthier_inference import strict_json

_RANK_LIMIT = 1024
_CONFIG_BYTES = 1 << 20
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
_MERGE = "merge it into its base model and import the result"
_ADVICE = {
    "use_dora": f"tune it again without DoRA, or {_MERGE}",
    "modules_to_save": f"whole modules are not swapped; {_MERGE}",
    "trainable_token_indices": f"tokens are not swapped; {_MERGE}",
    "rank_pattern": "tune it again with one rank for all layers",
    "alpha_pattern": "tune it again with one lora_alpha for all layers",
    "layers_to_transform": "name these layers whole in target_modules",
    "layers_pattern": "name these layers whole in target_modules",
    "exclude_modules": "name the layers that are left whole in target_modules",
    "target_parameters": "tune linear layers, named in target_modules",
    "lora_bias": "tune it again without biases",
}
"""What to do about options; for those not named here, merging helps."""


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
    config = _parse(data)
    _check_kind(config, "SEQ_2_SEQ_LM" if seq2seq else "CAUSAL_LM")
    _check_options(config)
    rank, alpha, modules = (config.get(key) for key in ("r", "lora_alpha", "target_modules"))
    if not isinstance(rank, int) or rank is True or not 1 <= rank <= _RANK_LIMIT:
        raise _bad(f"needs r from 1 to {_RANK_LIMIT}", "RANK_OUT_OF_LIMITS")
    if not isinstance(alpha, int | float) or alpha is True or not 0 < alpha < 1e6:
        raise _bad("needs a positive lora_alpha")
    if not isinstance(modules, list) or not modules or not all(map(_is_module, modules)):
        raise _bad("needs target_modules as a list of names: write out what a pattern means")
    return LoraSettings(
        rank=rank,
        alpha=alpha,
        target_modules=tuple(sorted(set(modules))),
        use_rslora=_flag(config, "use_rslora"),
        fan_in_fan_out=_flag(config, "fan_in_fan_out"),
    )


def _parse(data: bytes) -> dict[str, Any]:
    if len(data) > _CONFIG_BYTES:
        raise _bad(f"is larger than {_CONFIG_BYTES} bytes")
    try:
        config = strict_json.load(data)
    except strict_json.BadJson as error:
        raise _bad(str(error)) from error
    if not isinstance(config, dict):
        raise _bad("is not a JSON object")
    return config


def _check_kind(config: Mapping[str, Any], task_type: str) -> None:
    if config.get("peft_type") != "LORA":
        raise _unsupported(f"must have peft_type LORA; of other methods, {_MERGE}")
    if config.get("task_type") not in (None, task_type):
        raise _unsupported(f"must have task_type {task_type}, as its base model has")
    if config.get("bias", "none") != "none":
        raise _unsupported("must have bias none; tune it again so")
    # Strings are ways to start that change the base model, but for this one.
    if not isinstance(start := config.get("init_lora_weights", True), bool) and start != "gaussian":
        raise _unsupported(
            "must have init_lora_weights true or false; of an adapter that changed its base model, "
            "save the difference (peft: path_initial_model_for_weight_conversion)"
        )


def _check_options(config: Mapping[str, Any]) -> None:
    used = sorted(key for key in config if key not in _KNOWN and config[key])
    if used:
        raise _unsupported(
            f"uses {', '.join(used)[:200]!r}, which is not supported: "
            f"{_ADVICE.get(used[0], _MERGE)}"
        )


def _flag(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name)
    if not (value is None or isinstance(value, bool)):
        raise _bad(f"needs {name} to be true or false")
    return bool(value)


def _is_module(name: object) -> bool:
    return isinstance(name, str) and _MODULE.fullmatch(name) is not None


def _unsupported(why: str) -> InvalidArgument:
    return _bad(why, "UNSUPPORTED_ADAPTER")


def _bad(why: str, reason: str = "BAD_ADAPTER_CONFIG") -> InvalidArgument:
    return InvalidArgument(f"adapter_config.json {why}", reason=reason, field="adapter.files")
