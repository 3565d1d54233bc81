"""Mixed batches answer as each request alone, and as plain `generate` of transformers and peft."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier_inference.engine.batcher import Limits

from tests.support.engine_rows import Written, engine_bench, weights
from tests.support.tiny_architectures import CAUSAL, SEQ2SEQ, save_architecture

STEPS = 12
CLOSE_CALL = 1e-4
"""Logits that near are a tie, which rounding may decide either way."""
LENGTHS = (1, 2, 31, 64, 65, 129, 170)


def save_adapter(base: Path, folder: Path, *, seed: int, rank: int, **options: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, **{"target_modules": "all-linear", **options})
    tuned = get_peft_model(plain(base), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.1)
    tuned.save_pretrained(folder)
    return folder


def plain(base: Path, adapter: Path | None = None) -> Any:
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    encodes = AutoConfig.from_pretrained(base).is_encoder_decoder
    kind = AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM
    model: Any = kind.from_pretrained(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    return model.eval()


@dataclass(frozen=True)
class Expected:
    """What the library writes."""

    tokens: list[int]
    ahead: list[float]
    """How far each choice was ahead of the next best."""
    logprobs: list[float]


def generated(model: Any, prompt: Sequence[int]) -> Expected:
    """Have the library write, greedily."""
    line = torch.tensor([prompt])
    output = model.generate(
        input_ids=line,
        attention_mask=torch.ones_like(line),
        do_sample=False,
        max_new_tokens=STEPS,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = torch.stack(output.logits).squeeze(1)
    best = logits.topk(2).values
    tokens: list[int] = output.sequences[0, -STEPS:].tolist()
    logged = logits.log_softmax(dim=-1)
    return Expected(
        tokens,
        (best[:, 0] - best[:, 1]).tolist(),
        [float(row[token]) for row, token in zip(logged, tokens, strict=True)],
    )


def same(given: Written, expected: Expected) -> bool:
    """Whether an answer is the one expected, up to a close call that went the other way."""
    assert len(given.chosen) == len(expected.tokens)
    for at, one in enumerate(given.chosen):
        if one.token != expected.tokens[at]:
            return expected.ahead[at] <= CLOSE_CALL
        if abs(one.logprob - expected.logprobs[at]) > CLOSE_CALL:
            return False
    return True


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
async def test_random_batches_are_what_peft_writes(name: str, tmp_path: Path) -> None:
    base = save_architecture(name, tmp_path / "base")
    some = ["q", "v"] if name in SEQ2SEQ else _two_layers(base)
    folders = [
        save_adapter(base, tmp_path / "a1", seed=1, rank=3),
        save_adapter(base, tmp_path / "a2", seed=2, rank=16, use_rslora=True),
        save_adapter(base, tmp_path / "a3", seed=3, rank=8, target_modules=some),
    ]
    models = [plain(base), *(plain(base, folder) for folder in folders)]
    adapters = [None, *map(weights, folders)]
    draw = random.Random(name)
    asked = [
        ([draw.randrange(5, 200) for _ in range(draw.choice(LENGTHS))], draw.randrange(4))
        for _ in range(14)
    ]
    expected = [generated(models[chosen], prompt) for prompt, chosen in asked]
    # Few rows at a time, so that they join and leave between steps; prompts in small pieces.
    limits = Limits(rows=5, step_tokens=24, idle_tokens=70)
    async with engine_bench(base, limits=limits) as bench:
        rows = [
            bench.row(prompt, adapters[chosen], limit=STEPS, logprobs=True)
            for prompt, chosen in asked
        ]
        together = await bench.write(rows)
        alone = [
            (await bench.write([bench.row(prompt, adapters[chosen], limit=STEPS, logprobs=True)]))
            for prompt, chosen in asked[:4]
        ]
    wrong = [at for at, answer in enumerate(together) if not same(answer, expected[at])]
    assert not wrong, [(asked[at], together[at], expected[at]) for at in wrong[:2]]
    assert all(same(one[0], right) for one, right in zip(alone, expected[:4], strict=True))
    firsts = {round(generated(model, asked[0][0]).logprobs[0], 4) for model in models}
    assert len(firsts) == len(models), "the adapters make a difference at all"


def _two_layers(base: Path) -> list[str]:
    from torch import nn

    model = plain(base)
    names = [
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    ]
    return [names[0], names[-1]]


@pytest.mark.parametrize(
    ("precision", "bound", "hidden"),
    [
        ("bf16", 0.15, 32),
        ("fp16", 0.05, 32),
        ("int8", 0.5, 32),
        ("nf4", 1e-4, 32),
        # Of 64 inputs and 48 outputs, or 48 inputs: no layer is one for the 4-bit kernel of CPUs.
        ("nf4-packed", 1e-4, 48),
    ],
)
async def test_log_probabilities_are_near_those_of_the_library(
    precision: Any, bound: float, hidden: int, tmp_path: Path
) -> None:
    """`bound` is the largest difference of a token's log-probability (nats) along one answer."""
    base = save_architecture("llama", tmp_path / "base", hidden_size=hidden)
    adapter = save_adapter(base, tmp_path / "a1", seed=1, rank=8)
    draw = random.Random(5)
    prompts = [[draw.randrange(5, 200) for _ in range(length)] for length in (7, 40, 90)]
    async with engine_bench(base, precision=precision) as bench:
        rows = [
            bench.row(prompt, weights(adapter), limit=STEPS, logprobs=True) for prompt in prompts
        ]
        answers = await bench.write(rows)
    model = _rounded(base, adapter) if precision.startswith("nf4") else plain(base, adapter)
    for prompt, row, answer in zip(prompts, rows, answers, strict=True):
        line = torch.tensor([[*prompt, *row.written]])
        with torch.inference_mode():
            logged = model(input_ids=line).logits[0].float().log_softmax(dim=-1)
        places = range(len(prompt) - 1, line.shape[1] - 1)
        right = [float(logged[at, token]) for at, token in zip(places, row.written, strict=True)]
        given = [one.logprob for one in answer.chosen]
        assert given == pytest.approx(right, abs=bound)


def _rounded(base: Path, adapter: Path) -> Any:
    """Return what tuning on NF4 computes with, in float32."""
    import bitsandbytes
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=config, dtype=torch.float32
    )
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False  # as every tuning run does
    return PeftModel.from_pretrained(model, adapter).eval()
