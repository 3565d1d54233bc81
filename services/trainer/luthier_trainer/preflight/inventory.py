"""What a base model is made of, from its configuration and the shapes of its tensors.

Which layers are quantized follows transformers 5.23: `replace_with_bnb_linear` takes every module
that is exactly `nn.Linear`, but for the output head, tied weights and `_keep_in_fp32_modules`
(T5's `wo`); `run.model` sees to it that Falcon's layers are of that class, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_HEADS = frozenset({"lm_head", "embed_out"})
_EMBEDDINGS = re.compile(r"embed|\bwte\b|\bwpe\b|\bshared\b|relative_attention_bias")
_BLOCK = re.compile(r"^(.*?\b(?:layers|layer|blocks|block|h)\.\d+)\.")
_NORM = re.compile(r"norm|\bln_")
_T5 = frozenset({"t5", "mt5", "umt5"})
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}


@dataclass(frozen=True)
class Tensor:
    """An entry of a safetensors header."""

    name: str
    shape: tuple[int, ...]
    kind: str
    """Its type as the format has it, such as `BF16`."""

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def held_bytes(self) -> int:
        """Bytes in the file."""
        return self.size * _BYTES.get(self.kind, 4)


@dataclass(frozen=True)
class Linear:
    """A linear layer that LoRA can be put beside: any but the output head."""

    name: str
    outputs: int
    inputs: int
    quantized: bool
    """Whether bitsandbytes takes it when a model is loaded in 4 or 8 bits."""

    @property
    def weights(self) -> int:
        """Numbers in its matrix."""
        return self.outputs * self.inputs

    @property
    def block(self) -> str:
        """The name of the block (layer of the model) that it is part of; empty for none."""
        found = _BLOCK.match(self.name)
        return found[1] if found else ""


@dataclass(frozen=True)
class Inventory:
    """A base model, as far as memory and adapters depend on it."""

    architecture: str
    """The class in its configuration, such as `LlamaForCausalLM`."""
    family: str
    """`model_type` of its configuration."""
    encoder_decoder: bool
    linears: tuple[Linear, ...]
    parameters: int
    """All weights, tied ones once."""
    vocabulary: int
    hidden: int
    heads: int
    """Attention heads that ask."""
    norm_weights: int
    """Numbers in the scales of all norms: what they read of a token, summed."""
    activation: str
    """The activation function between linear layers, such as `silu`."""
    dropout: float
    """Share of attention dropped in training, where the model does that."""
    file_bytes: int
    file_kind: str
    """The type that most bytes of the files are of."""

    @property
    def blocks(self) -> int:
        """Layers of the model, those of an encoder counted."""
        return len({linear.block for linear in self.linears} - {""})

    @property
    def quantized_weights(self) -> int:
        """Weights that 4-bit and 8-bit loading quantizes."""
        return sum(linear.weights for linear in self.linears if linear.quantized)

    @property
    def widest(self) -> Linear:
        """The largest linear layer."""
        return max(self.linears, key=lambda linear: linear.weights)


def take_inventory(config: Mapping[str, Any], tensors: Iterable[Tensor]) -> Inventory:
    """Return the inventory of a model with that `config.json` and those tensors."""
    config = {**config, **_dict(config.get("text_config"))}
    held = {tensor.name: tensor for tensor in tensors}
    family = str(config.get("model_type", ""))
    kept = _without_ties(held, config)
    linears = tuple(
        _linear(tensor, family) for name, tensor in sorted(kept.items()) if _is_linear(name, tensor)
    )
    embedding = max(
        (tensor for name, tensor in kept.items() if _is_embedding(name, tensor)),
        key=lambda tensor: tensor.size,
        default=Tensor("", (0, 0), "F32"),
    )
    kinds = {tensor.kind: 0 for tensor in held.values()}
    for tensor in held.values():
        kinds[tensor.kind] += tensor.held_bytes
    return Inventory(
        architecture=str((config.get("architectures") or [""])[0]),
        family=family,
        encoder_decoder=bool(config.get("is_encoder_decoder")),
        linears=linears,
        parameters=sum(tensor.size for tensor in kept.values()),
        vocabulary=embedding.shape[0],
        hidden=embedding.shape[1],
        heads=_number(config, "num_attention_heads", "num_heads", "n_heads", "n_head"),
        norm_weights=sum(
            tensor.size
            for name, tensor in kept.items()
            if len(tensor.shape) == 1 and name.endswith("weight") and _NORM.search(name)
        ),
        activation=_activation(config),
        dropout=_dropout(config, family),
        file_bytes=sum(tensor.held_bytes for tensor in held.values()),
        file_kind=max(kinds, key=kinds.__getitem__, default="F32"),
    )


def _linear(tensor: Tensor, family: str) -> Linear:
    name = tensor.name.removesuffix(".weight")
    kept_in_float = family in _T5 and name.endswith("wo")
    return Linear(name, tensor.shape[0], tensor.shape[1], quantized=not kept_in_float)


def _is_linear(name: str, tensor: Tensor) -> bool:
    return (
        len(tensor.shape) == 2
        and name.endswith(".weight")
        and not _EMBEDDINGS.search(name)
        and not _is_head(name)
    )


def _is_embedding(name: str, tensor: Tensor) -> bool:
    words = not name.endswith(("relative_attention_bias.weight", "wpe.weight"))
    return len(tensor.shape) == 2 and bool(_EMBEDDINGS.search(name)) and words


def _is_head(name: str) -> bool:
    return name.removesuffix(".weight").rpartition(".")[2] in _HEADS


def _without_ties(held: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Leave out what is stored twice: a tied head, and the two copies of T5's embeddings."""
    tied = config.get("tie_word_embeddings", False)
    shared = any(name.endswith("shared.weight") for name in held)
    return {
        name: tensor
        for name, tensor in held.items()
        if not (tied and _is_head(name)) and not (shared and name.endswith("embed_tokens.weight"))
    }


def _activation(config: Mapping[str, Any]) -> str:
    for key in ("dense_act_fn", "hidden_activation", "hidden_act", "activation_function"):
        if isinstance(config.get(key), str):
            return str(config[key])
    if config.get("feed_forward_proj") == "gated-gelu":  # T5 says so of its gated layers
        return "gelu_new"
    return str(config.get("feed_forward_proj", "gelu"))


def _dropout(config: Mapping[str, Any], family: str) -> float:
    key = "dropout_rate" if family in _T5 else "attention_dropout"
    return float(config.get(key) or 0.0)


def _number(config: Mapping[str, Any], *keys: str) -> int:
    return next((int(config[key]) for key in keys if config.get(key)), 1)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
