"""`adapter_config.json`: the few settings of an adapter that serving honours.

Everything else must be off. Some of peft's options change the base model when an adapter is
added to it (`init_lora_weights: pissa`, `bias`, `modules_to_save`), and the base is shared by
all adapters of all projects; others are regular expressions that run on ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from luthier_common.errors import InvalidArgument

from luthier_inference import strict_json

MethodName = Literal["LORA", "ADALORA", "LOHA", "LOKR"]
"""What peft calls the methods whose adapters are served; see `methods`."""
RANK_LIMIT = 1024
"""The highest rank of an adapter on the device."""

_CONFIG_BYTES = 1 << 20
_MODULE = re.compile(r"[A-Za-z0-9_.]{1,200}")
_PATTERN_END = ".lora_E"


class _Keys(NamedTuple):
    """A method's options."""

    rank: str
    alpha: str
    known: frozenset[str]
    """All that are read here, or are without any effect on serving."""


_COMMON = {
    "peft_type",
    "target_modules",
    "task_type",
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
    "revision",
}
_LORA = _COMMON | {
    "r",
    "lora_alpha",
    "use_rslora",
    "fan_in_fan_out",
    "init_lora_weights",
    "bias",
    "lora_dropout",
    "megatron_core",
    "qalora_group_size",
}
# `r` and `use_rslora` are without effect: peft takes `init_r`, and never its root.
_ADALORA = _LORA | {
    "init_r",
    "rank_pattern",
    "target_r",
    "tinit",
    "tfinal",
    "deltaT",
    "beta1",
    "beta2",
    "orth_reg_weight",
    "total_step",
}
_LOHA = _COMMON | {
    "r",
    "alpha",
    "init_weights",
    "rank_dropout",
    "module_dropout",
    "use_effective_conv2d",
}
# How a matrix was decomposed is told by the tensors.
_LOKR = _LOHA | {"decompose_both", "decompose_factor", "rank_dropout_scale"}
_METHODS: Mapping[MethodName, _Keys] = {
    "LORA": _Keys("r", "lora_alpha", frozenset(_LORA)),
    "ADALORA": _Keys("init_r", "lora_alpha", frozenset(_ADALORA)),
    "LOHA": _Keys("r", "alpha", frozenset(_LOHA)),
    "LOKR": _Keys("r", "alpha", frozenset(_LOKR)),
}
MERGE = "merge it into its base model and import the result"
"""What helps where an adapter cannot be served."""
_ADVICE = {
    "use_dora": f"tune it again without DoRA, or {MERGE}",
    "modules_to_save": f"whole modules are not swapped; {MERGE}",
    "trainable_token_indices": f"tokens are not swapped; {MERGE}",
    "rank_pattern": "tune it again with one rank for all layers",
    "alpha_pattern": "tune it again with one alpha for all layers",
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
    """As it is configured; what is served may have another, see `methods`."""
    alpha: float
    target_modules: tuple[str, ...]
    """Names, or ends of names, of the linear layers."""
    use_rslora: bool
    """Whether the scale is alpha / sqrt(rank) rather than alpha / rank."""
    fan_in_fan_out: bool
    """Whether the layers store their weights transposed (GPT-2's do)."""
    method: MethodName = "LORA"
    kept_ranks: Mapping[str, int] = field(default_factory=dict)
    """Ranks that AdaLoRA has left of `rank`, by layer; layers not named here have all."""

    def rank_of(self, layer: str) -> int:
        """Return the rank of a layer's matrices."""
        return self.kept_ranks.get(layer, self.rank)

    @property
    def scale(self) -> float:
        """What products of the matrices are multiplied by, in every layer.

        Kalajdzievski 2023 for rsLoRA; peft's SVDLinear for AdaLoRA, where pruning changes nothing.
        """
        if self.method == "ADALORA":
            return self.alpha / (self.rank + 1e-5)
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)


def read_lora_config(data: bytes, *, seq2seq: bool = False) -> LoraSettings:
    """Return the settings in an `adapter_config.json`; InvalidArgument says what is refused.

    `seq2seq` says that the base model reads with an encoder and writes with a decoder.
    """
    config = _parse(data)
    method = _method(config)
    _check_kind(config, "SEQ_2_SEQ_LM" if seq2seq else "CAUSAL_LM")
    keys = _METHODS[method]
    _check_options(config, keys)
    rank, alpha = config.get(keys.rank), config.get(keys.alpha)
    modules = config.get("target_modules")
    if not isinstance(rank, int) or rank is True or not 1 <= rank <= RANK_LIMIT:
        raise _bad(f"needs {keys.rank} from 1 to {RANK_LIMIT}", "RANK_OUT_OF_LIMITS")
    if not isinstance(alpha, int | float) or alpha is True or not 0 < alpha < 1e6:
        raise _bad(f"needs a positive {keys.alpha}")
    if not isinstance(modules, list) or not modules or not all(map(_is_module, modules)):
        raise _bad("needs target_modules as a list of names: write out what a pattern means")
    return LoraSettings(
        rank=rank,
        alpha=alpha,
        target_modules=tuple(sorted(set(modules))),
        use_rslora=_flag(config, "use_rslora"),
        fan_in_fan_out=_flag(config, "fan_in_fan_out"),
        method=method,
        kept_ranks=_kept_ranks(config, rank) if method == "ADALORA" else {},
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


def _method(config: Mapping[str, Any]) -> MethodName:
    for method in _METHODS:
        if config.get("peft_type") == method:
            return method
    *others, last = _METHODS
    one_of = f"{', '.join(others)} or {last}"
    raise _unsupported(f"must have peft_type {one_of}; of other methods, {MERGE}")


def _check_kind(config: Mapping[str, Any], task_type: str) -> None:
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


def _check_options(config: Mapping[str, Any], keys: _Keys) -> None:
    used = sorted(key for key in config if key not in keys.known and config[key])
    if used:
        raise _unsupported(
            f"uses {', '.join(used)[:200]!r}, which is not supported: {_ADVICE.get(used[0], MERGE)}"
        )


def _kept_ranks(config: Mapping[str, Any], rank: int) -> dict[str, int]:
    """Return how many of a layer's `rank` singular values `rank_pattern` marks as kept."""
    pattern = config.get("rank_pattern") or {}
    if not isinstance(pattern, dict):
        raise _bad("needs rank_pattern to be an object")
    for name, marks in pattern.items():
        right = isinstance(marks, list) and all(isinstance(mark, bool) for mark in marks)
        if not name.endswith(_PATTERN_END) or not right or len(marks) != rank:
            raise _bad(
                f"needs rank_pattern to say of {name[:200]!r} which of {rank} singular values are "
                f"kept, as peft does, under the layer's name and {_PATTERN_END}"
            )
    return {name.removesuffix(_PATTERN_END): sum(marks) for name, marks in pattern.items()}


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
