"""Adapters of AdaLoRA, LoHa and LoKr, as peft itself saves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def _adalora(**options: Any) -> Any:
    from peft import AdaLoraConfig

    given = {"init_r": 6, "target_r": 2, "lora_alpha": 9, "total_step": 10, **options}
    return AdaLoraConfig(target_modules="all-linear", **given)


def _loha(r: int) -> Callable[[], Any]:
    from peft import LoHaConfig

    return lambda: LoHaConfig(
        r=r, alpha=5, target_modules="all-linear", rank_dropout=0.3, module_dropout=0.3
    )


def _lokr(r: int, **options: Any) -> Callable[[], Any]:
    from peft import LoKrConfig

    return lambda: LoKrConfig(r=r, alpha=5, target_modules="all-linear", **options)


CASES: Mapping[str, Callable[[], Any]] = {
    "adalora": _adalora,
    "adalora, pruned": _adalora,
    "loha": _loha(3),
    "loha, whole": _loha(7),
    "lokr": _lokr(2),
    "lokr, w2 whole": _lokr(8),
    "lokr, both decomposed": _lokr(3, decompose_both=True),
    "lokr, another factor": _lokr(3, decompose_factor=2, init_weights="lycoris"),
}
"""Configurations by name; pruned ones are tuned for some steps, as their ranks come of that."""


def save_method(base: Path, folder: Path, case: str, *, seed: int = 1) -> Path:
    """Save an adapter with random weights that change every answer."""
    import torch
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    encodes = AutoConfig.from_pretrained(base).is_encoder_decoder
    kind: Any = AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM
    config = CASES[case]()
    config.task_type = "SEQ_2_SEQ_LM" if encodes else "CAUSAL_LM"
    tuned: Any = get_peft_model(kind.from_pretrained(base), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if any(part in name for part in (".lora_", ".hada_", ".lokr_")):
                parameter.normal_(0, 0.3)
    if "pruned" in case:
        _prune(tuned)
    tuned.save_pretrained(folder)
    return folder


def _prune(tuned: Any) -> None:
    """Tune for some steps in which AdaLoRA takes singular values away."""
    import torch

    optimizer = torch.optim.SGD(tuned.parameters(), lr=0.01)
    line = torch.arange(5, 40).unsqueeze(0)
    for step in range(1, 11):
        tuned(input_ids=line, labels=line).loss.backward()
        optimizer.step()
        tuned.base_model.update_and_allocate(step)
        optimizer.zero_grad()
