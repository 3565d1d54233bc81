"""What the preflight reads from headers, beside the real models of all architectures."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier.trainer.v1.tuning_pb2 import BF16, FP32, LORA, NF4, Precision, ResolvedHyperparameters
from luthier_trainer.preflight.activations import kept
from luthier_trainer.preflight.inventory import Tensor, take_inventory
from luthier_trainer.preflight.memory import CPU, estimate
from luthier_trainer.preflight.setup import Setup, setup_of
from luthier_trainer.preflight.steps import Passes
from luthier_trainer.run import fused_lora, row_attention
from luthier_trainer.run.model import (
    linear_layers,
    load_model,
    lora_config,
    quantized_layers,
    trainable_parameters,
)
from luthier_trainer.run.output_head import (
    is_frozen_product,
    plain_model,
    score_frozen,
    score_whole,
)
from peft import get_peft_model
from trl.trainer.utils import add_fused_lm_head

from benchmarks.preflight.configurations import CONFIGURATIONS
from benchmarks.preflight.measuring import inventory_of
from benchmarks.preflight.measuring import setup_for as bench_setup
from benchmarks.preflight.models import MODELS
from tests.support.tiny_architectures import CAUSAL, SEQ2SEQ, save_architecture

LINES, TOKENS = 2, 64
ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "benchmarks/results/preflight.json").read_text())["rows"]
TOLERANCE = 0.2
"""Models so small keep masks and the like that weigh nothing in real ones."""
SHARE_LINES = {"llama", "mistral", "qwen", "qwen3", "gemma", "phi", "phi3", "gpt_neox"}
CHOSEN = ResolvedHyperparameters(
    tuning_mode=LORA,
    base_precision=NF4,
    double_quantization=True,
    lora_rank=4,
    lora_alpha=8,
    target_modules=["all-linear"],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("architectures")


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
def test_headers_tell_what_the_real_model_has(folder: Path, name: str) -> None:
    saved = save_architecture(name, folder / name)
    inventory = inventory_of(saved)
    model = load_model(saved, CHOSEN)
    assert {one.name for one in inventory.linears} == set(linear_layers(model))
    quantized = {one.name for one in inventory.linears if one.quantized}
    assert quantized == {name for name, _ in quantized_layers(model)}
    assert inventory.vocabulary == model.get_input_embeddings().num_embeddings
    setup = setup_for(saved)
    tuned = get_peft_model(model, lora_config(model, CHOSEN))
    assert setup.trainable_parameters(inventory) == trainable_parameters(tuned)
    config = json.loads((saved / "config.json").read_text())
    assert inventory.architecture == config["architectures"][0]


KEPT = [
    (name, compute, packed)
    for name in (*CAUSAL, *SEQ2SEQ)
    for compute in (FP32, BF16)
    for packed in (False, True)
    if not packed or name in SHARE_LINES
]


@pytest.mark.parametrize(("name", "compute", "packed"), KEPT)
def test_what_a_pass_keeps_is_counted(
    folder: Path, name: str, compute: Precision, packed: bool
) -> None:
    saved = save_architecture(name, folder / f"{name} {compute} {packed}")
    chosen = ResolvedHyperparameters(compute_precision=compute)
    chosen.MergeFrom(CHOSEN)
    model = load_model(saved, chosen)
    model.config.sliding_window = None  # the tiny Mistral's is shorter than its rows
    tuned = get_peft_model(model, lora_config(model, chosen))
    fused_lora.fuse(tuned)
    if packed:
        row_attention.use(model, TOKENS)
    setup = replace(setup_for(saved), packed=packed)
    counted = kept(inventory_of(saved), setup, compute, cpu=True)
    measured = saved_bytes(tuned, packed=packed)
    assert counted.blocks + counted.rest == pytest.approx(measured, rel=TOLERANCE)


def setup_for(saved: Path) -> Setup:
    passes = Passes(
        lines=LINES,
        line_tokens=TOKENS,
        answer_tokens=TOKENS,
        padded_share=0.0,
        tokens=LINES * TOKENS,
        truncated_share=0.0,
    )
    return setup_of(CHOSEN, inventory_of(saved), passes, preference=False)


def saved_bytes(model: Any, *, packed: bool) -> int:
    """Return the bytes that a forward pass really keeps, each storage once, weights left out."""
    base = plain_model(model)
    seq2seq = base.config.is_encoder_decoder
    if not seq2seq:
        add_fused_lm_head(base, outputs=("log_probs", "is_top1"))
    known = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
    held: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            held[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    ids = torch.randint(5, 200, (LINES, TOKENS))
    inputs = {"input_ids": ids, "labels": ids}
    if packed:
        inputs["position_ids"] = torch.arange(TOKENS).repeat(LINES, 1)
    else:
        inputs["attention_mask"] = torch.ones_like(ids)
        inputs["attention_mask"][0, -1] = 0  # each line has a mask of its own
    model.train()
    logits = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if seq2seq:
            logits = model(**inputs, use_cache=False).logits.numel() * 4
        else:
            score = score_frozen if is_frozen_product(base) else score_whole
            score(model, inputs)
    return sum(size for size, _ in held.values()) - logits


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: str(row["name"]))
def test_the_committed_estimates_are_those_of_the_estimator(row: dict[str, Any]) -> None:
    configuration = next(one for one in CONFIGURATIONS if one.name == row["name"])
    with torch.device("meta"):
        model = MODELS[configuration.model]()
    weights = [Tensor(name, tuple(one.shape), "F32") for name, one in model.named_parameters()]
    inventory = take_inventory(model.config.to_dict(), weights)
    now = estimate(inventory, bench_setup(configuration, inventory), CPU)
    assert {field.name: value for field, value in now.ListFields()} == row["estimate"]
