"""Hugging Face's `generate` and PEFT's, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.inference.turns import Written

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load(folder: Path, precision: str) -> Any:
    """Load a model as anybody would."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=_TYPES[precision]).to(device).eval()


def with_adapters(model: Any, adapters: Sequence[Path]) -> Any:
    """Put adapters on a model; they are called as their folders, and are of the model's type."""
    first, *others = adapters
    tuned: Any = PeftModel.from_pretrained(model, first, adapter_name=first.name)
    for folder in others:
        tuned.load_adapter(folder, adapter_name=folder.name)
    # PEFT holds them in float32, and is slower for it.
    return tuned.to(model.dtype).eval()


def generate(model: Any, prompts: Sequence[Sequence[int]], count: int, **options: Any) -> Any:
    """Have prompts of one length answered greedily, with so many tokens each."""
    line = torch.tensor(prompts, device=model.device)
    with torch.inference_mode():
        return model.generate(
            input_ids=line,
            attention_mask=torch.ones_like(line),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
            **options,
        )


def written(
    model: Any, prompts: Sequence[Sequence[int]], count: int, **options: Any
) -> list[Written]:
    """Return what a model writes, and how clearly."""
    done = generate(
        model, prompts, count, output_logits=True, return_dict_in_generate=True, **options
    )
    best = torch.stack(done.logits, dim=1).float().topk(2).values
    margins = (best[..., 0] - best[..., 1]).tolist()
    tokens = done.sequences[:, len(prompts[0]) :].tolist()
    return [Written(*one) for one in zip(tokens, margins, strict=True)]


class Clock(BaseStreamer):  # type: ignore[misc]
    """Takes the time of tokens as `generate` hands them out."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: Any) -> None:
        """Take the time; that of the prompt comes first."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing."""

    @property
    def latency(self) -> float:
        """Mean seconds between two tokens."""
        return (self.times[-1] - self.times[1]) / (len(self.times) - 2)
