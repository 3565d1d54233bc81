"""What runs and preflight know of architectures, by transformers' `model_type`."""

from __future__ import annotations

ROWS_MIXED = frozenset({"falcon", "mpt"})
"""Which take no position ids, or make no mask of them, and so cannot keep rows of a line apart."""
PLAIN_ATTENTION = frozenset({"gemma", "gpt_neox", "llama", "mistral", "phi3", "qwen2", "qwen3"})
"""Whose attention is the plain one, and which hand it the position ids (`run.row_attention`)."""
PLAIN_HEAD = frozenset(
    {"falcon", "gemma", "gpt_neox", "llama", "mistral", "mpt", "phi3", "qwen2", "qwen3"}
)
"""Whose logits are one product, neither scaled nor capped (`run.output_head`); others may be."""
