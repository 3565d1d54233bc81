"""What all contenders are given: a model of random weights, an untrained adapter, and rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.datasets.corpora import prose

RANK = 8
_END = "<|im_end|>"
_SPECIALS = ("<|pad|>", _END, "<|im_start|>")
# ChatML, as LLaMA-Factory's template of that name writes it; with the marks that trl looks for.
_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WORDS = 4096
_PROSE_WORDS = 200_000
"""Words that the tokenizer is trained on."""

SHAPES: Mapping[str, Mapping[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2},
    "small": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 2},
    "m512": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8},
    "m1024": {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 12},
}
"""Of Llamas with heads of 64 and half as many of keys and values; `m512` has 27 million weights,
`m1024` 148 million."""


def save_model(name: str, folder: Path) -> Path:
    """Save a Llama of random bfloat16 weights and its tokenizer, and return the folder."""
    import torch  # noqa: PLC0415 - seconds, which only some processes spend
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    config = LlamaConfig(**settings(name))
    torch.manual_seed(0)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def settings(name: str) -> dict[str, Any]:
    """Return the settings of a model's configuration, as transformers names them."""
    shape = SHAPES[name]
    heads = max(2, shape["hidden_size"] // 64)
    return {
        "vocab_size": _WORDS,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": _SPECIALS.index(_END),
        "pad_token_id": 0,
        **shape,
    }


def save_adapter(model: Path, folder: Path) -> Path:
    """Save the adapter that every contender begins with: LoRA on all linear layers, untrained."""
    import torch  # noqa: PLC0415
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    config = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    get_peft_model(base, config).save_pretrained(folder)
    return folder


def write_rows(model: Path, path: Path, *, rows: int, longest: int, words: int = 42) -> int:
    """Write conversations of log-normal length, and return how many tokens they have.

    The median is `words` words of about two tokens each, sigma 0.8; none has more than `longest`
    tokens.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(model)
    chance, tokens, written = Random("rows"), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < rows:
            body = _conversation(chance, words)
            size = len(tokenizer.apply_chat_template(body["messages"])["input_ids"])
            if size <= longest:
                file.write(json.dumps(body) + "\n")
                tokens, written = tokens + size, written + 1
    return tokens


def _conversation(chance: Random, median: int) -> dict[str, Any]:
    words = max(6, round(chance.lognormvariate(math.log(median), 0.8)))
    asked = max(2, round(words * chance.uniform(0.2, 0.5)))
    question, answer = prose(chance, asked), prose(chance, words - asked)
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def write_full_rows(model: Path, path: Path, *, rows: int, size: int) -> int:
    """Write conversations of nearly `size` tokens, never more, and return how many they have."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(model)
    chance, tokens = Random("full rows"), 0
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            words = prose(chance, size).split(" ")
            while True:
                talk = [
                    {"role": "user", "content": words[0]},
                    {"role": "assistant", "content": " ".join(words[1:])},
                ]
                excess = len(tokenizer.apply_chat_template(talk)["input_ids"]) - size
                if excess <= 0:
                    break
                # A word has at least one token, so that this never takes too many at the end.
                words = words[: -max(1, excess // 4)]
            file.write(json.dumps({"messages": talk}) + "\n")
            tokens += excess + size
    return tokens


def make_tokenizer() -> Any:
    """Train a tokenizer of 4,096 words on prose, and return it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_WORDS,
        special_tokens=list(_SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([prose(Random(0), _PROSE_WORDS)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_END,
        pad_token=_SPECIALS[0],
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
