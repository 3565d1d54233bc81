"""Models of 20 to 150 million random weights, of six architectures, with a byte tokenizer.

`python -m benchmarks.preflight.models NAME FOLDER` saves one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.support.tiny_model import END, byte_tokenizer

_SPECIALS: Mapping[str, Any] = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": 0}


def save(name: str, folder: Path) -> Path:
    """Save the model of that name and return its folder."""
    torch.manual_seed(0)
    made = MODELS[name]()
    made.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def _llama() -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=640,
            intermediate_size=1728,
            num_hidden_layers=10,
            num_attention_heads=10,
            vocab_size=8192,
            max_position_embeddings=2048,
            **_SPECIALS,
        )
    )


def _qwen() -> Any:
    return Qwen2ForCausalLM(
        Qwen2Config(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=4,
            vocab_size=32_000,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            **_SPECIALS,
        )
    )


def _neox() -> Any:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=8,
            num_attention_heads=8,
            vocab_size=8192,
            max_position_embeddings=2048,
            **_SPECIALS,
        )
    )


def _t5() -> Any:
    return T5ForConditionalGeneration(
        T5Config(
            d_model=512,
            d_kv=64,
            d_ff=1024,
            num_layers=8,
            num_heads=6,
            feed_forward_proj="gated-gelu",
            vocab_size=8192,
            tie_word_embeddings=False,
            dropout_rate=0.0,
            decoder_start_token_id=0,
            eos_token_id=END,
            pad_token_id=0,
        )
    )


def _gemma() -> Any:
    return GemmaForCausalLM(
        GemmaConfig(
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=6,
            num_attention_heads=8,
            num_key_value_heads=1,
            head_dim=64,
            vocab_size=16_384,
            max_position_embeddings=2048,
            **_SPECIALS,
        )
    )


def _phi() -> Any:
    return PhiForCausalLM(
        PhiConfig(
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=8,
            num_attention_heads=8,
            vocab_size=8192,
            max_position_embeddings=2048,
            **_SPECIALS,
        )
    )


MODELS: Mapping[str, Callable[[], Any]] = {
    "llama": _llama,
    "qwen2": _qwen,
    "gpt-neox": _neox,
    "t5": _t5,
    "gemma": _gemma,
    "phi": _phi,
}
"""What makes each; sizes are in the results."""


if __name__ == "__main__":
    save(sys.argv[1], Path(sys.argv[2]))
