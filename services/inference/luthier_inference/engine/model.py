"""The base model in memory, with the adapters that recent answers needed."""

from __future__ import annotations

import inspect
import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from luthier_common.errors import DataLoss, PlatformError
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.models.falcon import modeling_falcon
from transformers.utils import logging as transformers_logging

from luthier_inference.engine.adapter_files import AdapterWeights
from luthier_inference.settings import Precision

_BASE = "__base__"  # peft's name for rows without an adapter

logger = logging.getLogger(__name__)


def load_model(folder: Path, precision: Precision) -> PreTrainedModel:
    """Load the snapshot in `folder` for inference, on the GPU if there is one."""
    transformers_logging.disable_progress_bar()
    # Half the cores: the services need some, and small models slow down when threads wait for
    # each other (measured on 2 busy cores: 16 ms a step with one thread, 150 ms with two).
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    options: dict[str, Any] = {}
    if precision == "nf4":
        # Falcon's linear layers are a class of their own, which transformers 5.23 does not
        # quantize: it would leave the whole model as it is stored. They compute the same.
        modeling_falcon.FalconLinear = torch.nn.Linear
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": 0 if gpu else "cpu"},
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **options,
    )
    if precision == "nf4" and not gpu:
        # The weights are rounded to NF4, as in tuning, and held as the numbers they stand for:
        # bit for bit what tuning computes. The 4-bit kernel for CPUs works in bfloat16, is
        # slower, and moves logits by up to 0.8.
        loaded = loaded.dequantize()
    model: PreTrainedModel = loaded.eval()
    return model


class Model:
    """Runs batches in which each row has its own adapter, or none. For one thread."""

    def __init__(self, base: PreTrainedModel, *, limit: int) -> None:
        self._base = base
        self._peft: PeftModel | None = None
        self._resident: OrderedDict[str, None] = OrderedDict()
        self._limit = limit
        self._accepted = set(inspect.signature(base.forward).parameters)
        self.device = base.device

    def load(self, adapters: list[AdapterWeights | None]) -> dict[str, PlatformError]:
        """Make the adapters of a batch resident; return the errors of those that do not fit.

        `limit` must be at least the number of different adapters in a batch.
        """
        failed: dict[str, PlatformError] = {}
        for adapter in adapters:
            if adapter is None or adapter.digest in failed:
                continue
            try:
                if adapter.digest not in self._resident:
                    self._add(adapter)
                self._resident[adapter.digest] = None
                self._resident.move_to_end(adapter.digest)
            except DataLoss as error:
                failed[adapter.digest] = error
        while len(self._resident) > self._limit:
            self._remove(self._resident.popitem(last=False)[0])
        return failed

    def forward(self, adapters: list[AdapterWeights | None], **inputs: Any) -> Any:
        """Run the model on a batch; `adapters` has one entry for each row."""
        inputs = {key: value for key, value in inputs.items() if key in self._accepted}
        if self._peft is None:
            return self._base(**inputs)
        names = [_BASE if adapter is None else adapter.digest for adapter in adapters]
        return self._peft(**inputs, adapter_names=names)

    def _add(self, adapter: AdapterWeights) -> None:
        config = LoraConfig(
            r=adapter.lora.rank,
            lora_alpha=adapter.lora.alpha,
            target_modules=list(adapter.lora.target_modules),
            use_rslora=adapter.lora.use_rslora,
            fan_in_fan_out=adapter.lora.fan_in_fan_out,
            inference_mode=True,
        )
        try:
            if self._peft is None:
                self._peft = get_peft_model(self._base, config, adapter_name=adapter.digest)
            else:
                self._peft.add_adapter(adapter.digest, config)
            outcome: Any = set_peft_model_state_dict(self._peft, adapter.tensors, adapter.digest)
            self._peft.eval()
            missing = [key for key in outcome.missing_keys if adapter.digest in key]
            if missing or outcome.unexpected_keys:
                raise ValueError(f"{len(missing)} tensors missing, {outcome.unexpected_keys[:3]}")
        except (ValueError, RuntimeError, KeyError) as error:
            logger.warning("adapter refused", extra={"digest": adapter.digest}, exc_info=True)
            self._remove(adapter.digest)
            raise DataLoss(
                f"adapter {adapter.digest} does not fit the base model", reason="ADAPTER_DAMAGED"
            ) from error

    def _remove(self, digest: str) -> None:
        if self._peft is None or digest not in self._peft.peft_config:
            return
        if len(self._peft.peft_config) == 1:
            self._base = self._peft.unload()
            self._peft = None
        else:
            self._peft.delete_adapter(digest)
