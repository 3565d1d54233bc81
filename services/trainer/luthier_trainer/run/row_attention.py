"""Attention of rows that share a line: each row's by itself, so that nothing is masked.

Its cost is that of the rows and not that of the line, so that lines can be long and well filled.
For a machine without a GPU, whose kernels otherwise compute what the mask hides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from luthier_trainer.architectures import PLAIN_ATTENTION

NAME = "luthier_rows"
"""How transformers' registries of attention know it."""


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    position_ids: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each row; position ids begin anew with each.

    `query` is (lines, heads, tokens, head size), the result (lines, tokens, heads, head size).
    Masked lines, which are padded, and text that is being written go to transformers' own.
    """
    plain = attention_mask is None and query.shape[2] == key.shape[2]
    if position_ids is None or not plain:
        own: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return own
    # torch 2.13's kernel takes twice as long for short rows in bfloat16 as in float32 on a CPU.
    wide = [tensor.float() for tensor in (query, key, value)]
    lines = []
    for number, places in enumerate(position_ids.expand(len(query), -1)):
        sizes = row_sizes(places)
        line = [torch.split(part[number : number + 1], sizes, dim=2) for part in wide]
        attended = [
            functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=True
            )
            for q, k, v in zip(*line, strict=True)
        ]
        lines.append(torch.cat(attended, dim=2))
    return torch.cat(lines).transpose(1, 2).to(query.dtype).contiguous(), None


def use(model: Any, longest: int) -> None:
    """Have a model attend so, if it can and looks at rows of up to `longest` tokens whole.

    A window of attention may be shorter; then each token looks at a part of its row.
    """
    window = getattr(model.config, "sliding_window", None)
    known = model.config.model_type in PLAIN_ATTENTION and not torch.cuda.is_available()
    if known and (window is None or window >= longest):
        model.set_attn_implementation(NAME)


def row_sizes(position_ids: torch.Tensor) -> list[int]:
    """Return the tokens of each row of a line, of which the padding is the last."""
    starts = (position_ids == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], len(position_ids)]
    return [end - start for start, end in zip(starts, ends, strict=True)]


def _mask(*arguments: Any, attention_mask: Any = None, **options: Any) -> Any:
    """Make no mask for lines without an attention mask: those that rows share."""
    if attention_mask is None:
        return None
    return sdpa_mask(*arguments, attention_mask=attention_mask, **options)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _mask)
