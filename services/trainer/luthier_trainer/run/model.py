"""The model of a run: a snapshot as the job wants it held, and what is tuned of it.

QLoRA, Dettmers et al. 2023 (arXiv 2305.14314), sections 3 and 4; LoRA, Hu et al. 2021 (arXiv
2106.09685); 8-bit weights, Dettmers et al. 2022 (arXiv 2208.07339).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from luthier.trainer.v1.tuning_pb2 import Precision, ResolvedHyperparameters
from luthier_common.errors import FailedPrecondition
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers.models.falcon import modeling_falcon

from luthier_trainer.hyperparameters import ALL_LINEAR, FOUR_BITS, QUANTIZED
from luthier_trainer.target_modules import matching, spelled

Quantized: TypeAlias = Linear4bit | Linear8bitLt

_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a snapshot, with a padding token."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def is_encoder_decoder(folder: Path) -> bool:
    """Whether a snapshot is of a sequence-to-sequence model, such as T5."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return bool(config.is_encoder_decoder)


def compute_dtype(chosen: ResolvedHyperparameters) -> torch.dtype:
    """Return what is computed in: the job's word, else what the device is good at."""
    if chosen.compute_precision:
        return _DTYPES[chosen.compute_precision]
    if chosen.base_precision == Precision.FP16:
        return torch.float16
    # Older GPUs emulate bfloat16, slowly.
    cuda = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if cuda or chosen.base_precision == Precision.BF16 else torch.float32


def held_dtype(chosen: ResolvedHyperparameters) -> torch.dtype:
    """Return the type of weights that are not quantized."""
    return _DTYPES.get(chosen.base_precision) or compute_dtype(chosen)


def mixed_dtype(chosen: ResolvedHyperparameters) -> torch.dtype | None:
    """Return the type of autocast; None where weights are held in what is computed in."""
    compute = compute_dtype(chosen)
    return None if compute == held_dtype(chosen) else compute


def load_model(folder: Path, chosen: ResolvedHyperparameters) -> Any:
    """Load a snapshot as `chosen` says, on the GPU where there is one.

    FailedPrecondition when nothing of it could be quantized that was to be.
    """
    # transformers 5.23 quantizes layers whose class is nn.Linear itself. Falcon's own differs from
    # it in the rounding of float16 alone (its modeling file says so).
    modeling_falcon.FalconLinear = torch.nn.Linear
    seq2seq = is_encoder_decoder(folder)
    model = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=held_dtype(chosen),
        device_map={"": 0} if torch.cuda.is_available() else None,
        quantization_config=_quantization(chosen),
    )
    model.config.use_cache = False
    for _, layer in quantized_layers(model):
        # On CPUs with AVX512-BF16, bitsandbytes 0.50.2 repacks the weights at the first forward
        # pass in eval mode, and from then on no gradient comes through the layer (ADR 8).
        layer.support_avx512bf16_for_cpu = False
    if chosen.base_precision in QUANTIZED and not any(quantized_layers(model)):
        held = Precision.Name(chosen.base_precision)
        raise FailedPrecondition(
            f"none of the model's layers can be held in {held}; choose BF16 as base_precision",
            reason="NOT_QUANTIZED",
        )
    return model


def lora_config(model: Any, chosen: ResolvedHyperparameters) -> LoraConfig:
    """Return LoRA on the layers that are asked for; `all-linear` leaves out the output's.

    InvalidArgument when there are none of a name.
    """
    modules: str | list[str] = ALL_LINEAR
    if list(chosen.target_modules) != [ALL_LINEAR]:
        names = linear_layers(model)
        modules = spelled(names, matching(names, chosen.target_modules))
    return LoraConfig(
        r=chosen.lora_rank,
        lora_alpha=chosen.lora_alpha,
        lora_dropout=chosen.lora_dropout,
        target_modules=modules,
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
    )


def linear_layers(model: torch.nn.Module) -> list[str]:
    """Return the names of the linear layers that LoRA may be put beside: not the output's."""
    output = model.get_output_embeddings()  # type: ignore[operator]
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    ]


def quantized_layers(model: torch.nn.Module) -> Iterator[tuple[str, Quantized]]:
    """Yield the 4-bit and 8-bit layers by name."""
    for name, module in model.named_modules():
        if isinstance(module, Quantized):
            yield name, module


def held_as(layer: Quantized) -> str:
    """Return how a layer's weights are held, in words."""
    if isinstance(layer, Linear8bitLt):
        return "8 bits"
    state = layer.weight.quant_state
    assert state is not None
    return f"{state.quant_type.upper()}{' with double quantization' if state.nested else ''}"


def trainable_parameters(model: torch.nn.Module) -> int:
    """Return the number of weights that learn."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _quantization(chosen: ResolvedHyperparameters) -> BitsAndBytesConfig | None:
    if chosen.base_precision not in QUANTIZED:
        return None
    if chosen.base_precision == Precision.INT8:
        # It would say at every pass of every layer that inputs become float16, as the paper has it.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    assert chosen.base_precision in FOUR_BITS
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=Precision.Name(chosen.base_precision).lower(),
        bnb_4bit_use_double_quant=chosen.double_quantization,
        bnb_4bit_compute_dtype=compute_dtype(chosen),
    )
