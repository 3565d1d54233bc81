"""Tiny random models of the real classes of all architectures, with a tokenizer of bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.tiny_model import END, SPECIALS, byte_tokenizer

_HIDDEN, _LAYERS, _HEADS, _CONTEXT = 32, 2, 4, 256


def save_architecture(name: str, folder: Path, *, seed: int = 0, **sizes: int) -> Path:
    """Save the tiny model called `name`, one of `CAUSAL` or `SEQ2SEQ`, of other sizes if given."""
    import torch

    tokenizer = byte_tokenizer()
    torch.manual_seed(seed)
    config = {**CAUSAL, **SEQ2SEQ}[name](vocab_size=len(tokenizer))
    for key, size in sizes.items():
        setattr(config, key, size)
    config.pad_token_id, config.eos_token_id = 0, END
    config.bos_token_id = config.decoder_start_token_id = None
    if name in SEQ2SEQ:
        config.decoder_start_token_id = 0
        tokenizer.chat_template = None
    _model_class(config)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert SPECIALS[0] == tokenizer.pad_token
    return folder


def _model_class(config: Any) -> Any:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    if config.is_encoder_decoder:
        return MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(config)]
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def _like_llama(name: str, **others: Any) -> Callable[..., Any]:
    def config(vocab_size: int) -> Any:
        import transformers

        return getattr(transformers, name)(
            vocab_size=vocab_size,
            hidden_size=_HIDDEN,
            intermediate_size=64,
            num_hidden_layers=_LAYERS,
            num_attention_heads=_HEADS,
            max_position_embeddings=_CONTEXT,
            initializer_range=0.1,
            **others,
        )

    return config


def _mpt(vocab_size: int) -> Any:
    from transformers import MptConfig

    return MptConfig(
        vocab_size=vocab_size,
        d_model=_HIDDEN,
        n_heads=_HEADS,
        n_layers=_LAYERS,
        expansion_ratio=2,
        max_seq_len=_CONTEXT,
        initializer_range=0.1,
    )


def _t5(name: str) -> Callable[..., Any]:
    def config(vocab_size: int) -> Any:
        import transformers

        return getattr(transformers, name)(
            vocab_size=vocab_size,
            d_model=_HIDDEN,
            d_kv=8,
            d_ff=64,
            num_layers=_LAYERS,
            num_heads=_HEADS,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )

    return config


_KV = {"num_key_value_heads": 2}
CAUSAL: dict[str, Callable[..., Any]] = {
    "llama": _like_llama("LlamaConfig", **_KV),
    "mistral": _like_llama("MistralConfig", **_KV, sliding_window=64),
    "qwen": _like_llama("Qwen2Config", **_KV),
    "gemma": _like_llama("GemmaConfig", **_KV, head_dim=8),
    "phi": _like_llama("PhiConfig"),
    "qwen3": _like_llama("Qwen3Config", **_KV, head_dim=8),
    "phi3": _like_llama("Phi3Config", **_KV),
    "falcon": _like_llama("FalconConfig", new_decoder_architecture=False, multi_query=True),
    "falcon, new decoder": _like_llama(
        "FalconConfig", new_decoder_architecture=True, num_kv_heads=2
    ),
    "falcon, alibi": _like_llama("FalconConfig", alibi=True, new_decoder_architecture=False),
    "gpt_neox": _like_llama("GPTNeoXConfig"),
    "mpt": _mpt,
}
SEQ2SEQ: dict[str, Callable[..., Any]] = {"t5": _t5("T5Config"), "mt5": _t5("MT5Config")}
