"""What the engine changes in models of transformers, so that many rows share one line of tokens."""

from __future__ import annotations

import math
import types
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.models.falcon import modeling_falcon
from transformers.models.falcon.modeling_falcon import FalconAttention
from transformers.models.mpt.modeling_mpt import MptAttention, build_mpt_alibi_tensor

from luthier_inference.engine.attention import Bias, Line, Reach, Scoring

NAME = "luthier_serving"
"""How transformers' registries of attention know the engine's."""
SELF, CROSS, ENCODER = "self", "cross", "encoder"
"""Kinds of attention: a decoder's to itself, to its encoder, and an encoder's."""


class Hub:
    """Where a model's attention finds the line that is being computed."""

    def __init__(self, dtype: torch.dtype) -> None:
        """`dtype` is what attention is computed in, and what keys and values are held in."""
        self.dtype = dtype
        self.reaches: dict[str, Reach] = {}

    def attend(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float | None,
        window: int | None = None,
        softcap: float | None = None,
    ) -> torch.Tensor:
        """Return (1, tokens, heads, size) for (1, heads, tokens, size)."""
        scoring = Scoring(scale, module.luthier_bias, window, softcap)
        reach = self.reaches[module.luthier_kind]
        line = Line(
            module.layer_idx,
            query.to(self.dtype),
            key.to(self.dtype),
            value.to(self.dtype),
            scoring,
        )
        attended = reach.attend(line)
        return attended.to(query.dtype)


def prepare(model: PreTrainedModel) -> Hub:
    """Have a model's attention go through the hub that is returned."""
    # On a CPU, torch 2.13's kernel takes 4 to 6 times as long in bfloat16 as in float32 for one
    # query of each row.
    hub = Hub(torch.float32 if model.device.type == "cpu" else model.dtype)
    model.set_attn_implementation(NAME)
    # Layers of an encoder-decoder share their stack's table of relative positions.
    tables: dict[str, Bias] = {}
    for name, module in model.named_modules():
        if not hasattr(module, "layer_idx") or not type(module).__name__.endswith("Attention"):
            continue
        given: Any = module
        given.luthier = hub
        given.luthier_kind = _kind(name) if model.config.is_encoder_decoder else SELF
        given.luthier_bias = _bias(given, tables)
        if isinstance(module, FalconAttention):
            given.forward = types.MethodType(_falcon, module)
        elif isinstance(module, MptAttention):
            given.forward = types.MethodType(_mpt, module)
    return hub


def _kind(name: str) -> str:
    if "EncDecAttention" in name:
        return CROSS
    return ENCODER if name.startswith("encoder.") else SELF


def _bias(module: Any, tables: dict[str, Bias]) -> Bias | None:
    if isinstance(module, FalconAttention):
        return _falcon_alibi(module) if module.config.alibi else None
    if isinstance(module, MptAttention):
        return _mpt_alibi(module)
    if module.luthier_kind == CROSS:
        return None
    if getattr(module, "has_relative_attention_bias", False):
        tables[module.luthier_kind] = _relative_positions(module)
    return tables.get(module.luthier_kind)


def _relative_positions(first: Any) -> Bias:
    """T5's (Raffel et al. 2020, section 2.1), from the table that a stack's first layer has."""

    def bias(positions: torch.Tensor, length: int) -> torch.Tensor:
        places = torch.arange(length, device=positions.device)
        buckets = first._relative_position_bucket(
            places - positions.unsqueeze(-1),
            bidirectional=not first.is_decoder,
            num_buckets=first.relative_attention_num_buckets,
            max_distance=first.relative_attention_max_distance,
        )
        added: torch.Tensor = first.relative_attention_bias(buckets)
        return added.transpose(-1, -2)

    return bias


def _falcon_alibi(module: FalconAttention) -> Bias:
    """ALiBi (Press et al. 2022) as Falcon rounds it: slopes in bfloat16, by the key's place."""
    heads, size = module.num_heads, module.head_dim

    def bias(positions: torch.Tensor, length: int) -> torch.Tensor:
        ones = torch.ones((1, length), dtype=torch.long, device=positions.device)
        dtype = module.query_key_value.weight.dtype
        dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
        added: torch.Tensor = modeling_falcon.build_alibi_tensor(ones, heads, dtype)
        return (added / math.sqrt(size)).view(1, heads, length).expand(len(positions), -1, -1)

    return bias


def _mpt_alibi(module: MptAttention) -> Bias:
    def bias(positions: torch.Tensor, length: int) -> torch.Tensor:
        added: torch.Tensor = build_mpt_alibi_tensor(
            module.n_heads, length, device=positions.device
        )
        return added.view(1, module.n_heads, length).expand(len(positions), -1, -1)

    return bias


def _falcon(
    self: Any,
    hidden_states: torch.Tensor,
    alibi: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    position_embeddings: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """FalconAttention.forward; transformers 5.23 has no interface for its attention."""
    query, key, value = (
        part.transpose(1, 2) for part in self._split_heads(self.query_key_value(hidden_states))
    )
    if alibi is None:
        query, key = modeling_falcon.apply_rotary_pos_emb(query, key, *position_embeddings)
    attended = self.luthier.attend(self, query, key, value, scale=None)
    return self.dense(attended.flatten(2)), None


def _mpt(
    self: Any,
    hidden_states: torch.Tensor,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """MptAttention.forward; transformers 5.23 has no interface for its attention."""
    fused = self.Wqkv(hidden_states)
    if self.clip_qkv:
        fused = fused.clamp(min=-self.clip_qkv, max=self.clip_qkv)
    query, key, value = (
        part.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2)
        for part in fused.chunk(3, dim=2)
    )
    attended = self.luthier.attend(self, query, key, value, scale=self.softmax_scale)
    return self.out_proj(attended.flatten(2)), None


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention that transformers calls; masks and biases given are the line's, not a row's."""
    if s_aux is not None:
        raise ValueError("attention with sinks is not served")
    hub: Hub = module.luthier
    attended = hub.attend(
        module, query, key, value, scale=scaling, window=sliding_window, softcap=softcap
    )
    return attended, None


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _no_mask)
