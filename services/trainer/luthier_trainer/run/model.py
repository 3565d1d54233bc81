"""The model of a run: NF4 weights with double quantization that stay as they are, and LoRA.

QLoRA, Dettmers et al. 2023 (arXiv 2305.14314), sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a snapshot, with a padding token."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_quantized(folder: Path) -> Any:
    """Load a snapshot with its linear layers in NF4, on the GPU where there is one."""
    cuda = torch.cuda.is_available()
    compute = torch.bfloat16 if cuda and torch.cuda.is_bf16_supported() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=compute,
        device_map={"": 0} if cuda else None,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        ),
    )
    model.config.use_cache = False
    for _, layer in quantized_layers(model):
        # On CPUs with AVX512-BF16, bitsandbytes 0.50.2 repacks the weights at the first forward
        # pass in eval mode, and from then on no gradient comes through the layer (ADR 8).
        layer.support_avx512bf16_for_cpu = False
    return model


def lora_config(rank: int, alpha: int) -> LoraConfig:
    """Return LoRA on all linear layers but the output's, as the QLoRA paper recommends."""
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")


def quantized_layers(model: torch.nn.Module) -> Iterator[tuple[str, Linear4bit]]:
    """Yield the 4-bit layers by name."""
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            yield name, module


def is_double_nf4(layer: Linear4bit) -> bool:
    """Whether a layer's weights are NF4 with their scales quantized, too."""
    state = layer.weight.quant_state
    return state is not None and state.quant_type == "nf4" and bool(state.nested)


def trainable_parameters(model: torch.nn.Module) -> int:
    """Return the number of weights that learn."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
