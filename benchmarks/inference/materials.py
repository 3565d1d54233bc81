"""What all contenders are given: a model of random weights, adapters for it, and prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from benchmarks.datasets.corpora import prose
from benchmarks.inference.scale import PROMPT_TOKENS, RANK
from benchmarks.trainer import materials

LORA_SPREAD = 0.03
"""Of both matrices: what an adapter adds is a third as large as what it is added to."""
_7B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
"""Llama 3's of 8 billion weights, with a vocabulary of 4,096 in place of 128,256."""


@dataclass(frozen=True)
class Prompt:
    """A prompt of exactly `PROMPT_TOKENS` tokens."""

    text: str
    tokens: list[int]


def settings(name: str) -> dict[str, Any]:
    """Return the settings of a model's configuration: the trainer benchmark's, or `m7b`."""
    return materials.settings("m1024") | _7B if name == "m7b" else materials.settings(name)


def save_model(name: str, folder: Path) -> Path:
    """Save a Llama of random bfloat16 weights and its tokenizer, and return the folder.

    It never ends by itself, and each token that it writes is text of its own: the first token
    can be seen by who reads the text, and all answers have the length that was asked for.
    """
    tokenizer = materials.make_tokenizer()
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        config = LlamaConfig(**settings(name))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        # Logits of 0: the largest of the others is above that.
        model.lm_head.weight[mute_tokens(tokenizer)] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def mute_tokens(tokenizer: Any) -> list[int]:
    """Return the tokens that are no text, or only a part of a character."""
    texts = [
        tokenizer.backend_tokenizer.decode([token], skip_special_tokens=True)
        for token in range(len(tokenizer))
    ]
    return [
        token for token, text in enumerate(texts) if not text or "\N{REPLACEMENT CHARACTER}" in text
    ]


def save_adapters(model: Path, folder: Path, count: int) -> list[Path]:
    """Save adapters: LoRA of rank 16 on all linear layers, random and each another one."""
    config = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    tuned = get_peft_model(base, config)
    folders = [folder / f"a{number}" for number in range(count)]
    for number, path in enumerate(folders):
        torch.manual_seed(1 + number)
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, LORA_SPREAD)
        tuned.save_pretrained(path)
    return folders


def prompts(model: Path, seed: str) -> Iterator[Prompt]:
    """Yield prompts of prose without end, no two the same: nothing is read from a prefix cache.

    The same seed yields the same prompts, so that contenders who take turns are asked the same.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    chance = Random(seed)
    while True:
        cut = tokenizer(prose(chance, PROMPT_TOKENS))["input_ids"][:PROMPT_TOKENS]
        text = tokenizer.decode(cut)
        if (tokens := tokenizer(text)["input_ids"]) == cut and len(cut) == PROMPT_TOKENS:
            yield Prompt(text, tokens)
