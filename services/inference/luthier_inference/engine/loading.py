"""Loading a base model as transformers does, in the precision asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from luthier_common.errors import FailedPrecondition
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.models.falcon import modeling_falcon
from transformers.utils import logging as transformers_logging

from luthier_inference.engine.kv_cache import KeyValueCache
from luthier_inference.engine.model import Model, Work, decoder_start
from luthier_inference.settings import Precision

_PROBES = [[3 + (7 * place) % 29 for place in range(length)] for length in (1, 37, 80, 33)]
"""Rows of tokens that every vocabulary has."""
_PIECE = 32
_BLOCK = 64
"""Weights that share a scale in NF4 (QLoRA, Dettmers et al. 2023, section 3)."""
_PACK = 32
"""Outputs that bitsandbytes packs together for its 4-bit kernel for CPUs."""
_TOLERANCE = {"exact": 1e-3, "rounded": 0.25}
"""Largest difference of a logit, in standard deviations of all; a wrong mask makes it above 1."""
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_model(folder: Path, precision: Precision) -> PreTrainedModel:
    """Load the snapshot in `folder` for inference, on the GPU if there is one."""
    transformers_logging.disable_progress_bar()
    gpu = torch.cuda.is_available()
    dtype = _TYPES.get(precision, torch.bfloat16 if gpu else torch.float32)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    loaded: Any = kind.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": 0 if gpu else "cpu"},
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **_quantization(precision, dtype),
    )
    if precision == "nf4" and not gpu:
        # The weights are rounded to NF4, as in tuning, and held as the numbers they stand for:
        # bit for bit what tuning computes. The 4-bit kernel for CPUs works in bfloat16, is
        # slower, and moves logits by up to 0.8.
        loaded = loaded.dequantize()
    elif not gpu:
        _avoid_blocks_that_do_not_fit(loaded)
    model: PreTrainedModel = loaded.eval()
    return model


def _avoid_blocks_that_do_not_fit(model: Any) -> None:
    """Keep layers that are no whole blocks and packs from bitsandbytes' 4-bit kernel for CPUs.

    Its `functional._convert_weight_packed_for_cpu` (0.50) fails for them.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit) and (
            module.in_features % _BLOCK or module.out_features % _PACK
        ):
            module.support_avx512bf16_for_cpu = False


def load_checked(folder: Path, precision: Precision, *, slots: int, ranks: int) -> Model:
    """Load a base model and prove that lines of many rows give what it gives for one row alone.

    FailedPrecondition for an architecture whose attention the engine does not compute rightly:
    better no answer than a wrong one.
    """
    base = load_model(folder, precision)
    expected = [_alone(base, row) for row in _PROBES]
    model = Model(base, slots=slots, columns=ranks)
    for given, right in zip(_together(model), expected, strict=True):
        spread = float(right.std()) or 1.0
        if not float((given - right).abs().max()) <= _TOLERANCE[_class(base)] * spread:
            raise FailedPrecondition(
                f"{base.config.architectures} is an architecture that this engine does not "
                "compute as transformers does; serve it with another engine",
                reason="ARCHITECTURE_NOT_SERVED",
            )
    return model


def _class(base: Any) -> str:
    exact = base.dtype == torch.float32 and not getattr(base, "is_quantized", False)
    return "exact" if exact else "rounded"


@torch.inference_mode()
def _alone(base: Any, row: list[int]) -> torch.Tensor:
    """Return the logits behind a row, as the model computes them by itself."""
    line = torch.tensor([row], device=base.device)
    if base.config.is_encoder_decoder:
        first = torch.tensor([decoder_start(base)], device=base.device)
        logits = base(input_ids=line, decoder_input_ids=first, use_cache=False).logits
    else:
        logits = base(input_ids=line, use_cache=False).logits
    wanted: torch.Tensor = logits[0, -1].float()
    return wanted


def _together(model: Model) -> list[torch.Tensor]:
    """Return the same from steps in which rows begin at different times, and are read in pieces."""
    memory = [
        KeyValueCache(shapes, dtype=model.cache_dtype, device=model.device, budget=1 << 62)
        for shapes in (model.shapes, model.source_shapes)
        if shapes
    ]
    logits: dict[int, torch.Tensor] = {}
    rows = [(number, row, memory[0].take(len(row))) for number, row in enumerate(_PROBES)]
    for first in range(0, max(map(len, _PROBES)), _PIECE):
        works, numbers = [], []
        for number, row, slot in rows:
            tokens = row[first : first + _PIECE]
            if slot is None or not tokens:
                continue
            if model.encodes:
                source = memory[1].take(len(row))
                work = Work(model.start, slot, None, source=row, source_slot=source)
            else:
                work = Work(tokens, slot, None)
            works.append(work)
            numbers.append(number)
        logits |= dict(zip(numbers, model.step(works), strict=True))
        if model.encodes:
            break
    return [logits[number] for number in range(len(_PROBES))]


def _quantization(precision: Precision, dtype: torch.dtype) -> dict[str, Any]:
    if precision in _TYPES:
        return {}
    # Falcon's linear layers are a class of their own, which transformers 5.23 does not
    # quantize: it would leave the whole model as it is stored. They compute the same.
    modeling_falcon.FalconLinear = torch.nn.Linear
    if precision == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    }
