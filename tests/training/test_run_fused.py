"""What a run computes in its own way is what peft, trl and transformers compute."""

from pathlib import Path
from typing import Any

import pytest
import torch
from luthier.trainer.v1.tuning_pb2 import BF16, FP32, INT8, NF4
from luthier_trainer.run import fused_lora, row_attention
from luthier_trainer.run.data import LineCollator, cut
from luthier_trainer.run.model import load_model, lora_config
from luthier_trainer.run.output_head import is_frozen_product, score_frozen, score_whole
from luthier_trainer.run.rows import IGNORED, Row
from peft import get_peft_model
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from tests.support.tiny_architectures import CAUSAL, save_architecture
from tests.support.tiny_runs import hyperparameters

PRODUCTS = {
    "llama", "mistral", "qwen", "qwen3", "gemma", "phi3", "gpt_neox", "mpt",
    "falcon", "falcon, new decoder", "falcon, alibi",
}  # fmt: skip
"""Whose logits are one product; phi adds a bias."""
APART = {"llama", "mistral", "qwen", "qwen3", "gemma", "phi3", "gpt_neox"}
CLOSE = 1e-5
"""Of gradients in float32, as a share of the largest number in each."""
ROUNDED = 1.5
"""Most distance of gradients in bfloat16 from those in float32, as a multiple of peft's."""


def row_of(length: int, seed: int) -> Row:
    chance = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, 200, (length,), generator=chance).tolist()
    return {"input_ids": tokens, "labels": [IGNORED] * (length // 2) + tokens[length // 2 :]}


ROWS = [row_of(length, seed) for seed, length in enumerate((40, 17, 3, 90, 21))]


def adapted(model: Any) -> Any:
    """Return a model with LoRA none of whose matrices is zero, so that each gets a gradient."""
    chosen = hyperparameters(lora_rank=4, lora_alpha=8)
    tuned = get_peft_model(model, lora_config(model, chosen))
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, matrix in tuned.named_parameters():
            if ".lora_" in name:
                matrix.copy_(torch.randn(matrix.shape, generator=chance) * 0.2)
    return tuned


def architecture(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    model = AutoModelForCausalLM.from_pretrained(save_architecture(name, folder), dtype=dtype)
    add_fused_lm_head(model, outputs=("log_probs", "is_top1"))
    return adapted(model)


def learned(model: Any, inputs: dict[str, torch.Tensor], score: Any = score_whole) -> Any:
    """Return the sums of a batch, and the gradients of all that learns."""
    model.zero_grad()
    sums = score(model, inputs)
    sums["loss"].backward()
    gradients = {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
    return {name: float(value.detach()) for name, value in sums.items()}, gradients


def assert_same(found: Any, expected: Any, close: float = CLOSE) -> None:
    (sums, gradients), (other_sums, other_gradients) = found, expected
    assert sums == pytest.approx(other_sums, rel=close)
    assert gradients.keys() == other_gradients.keys()
    assert gradients, "something is learned"
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        most = float(other_gradients[name].abs().max())
        torch.testing.assert_close(
            gradient, other_gradients[name], atol=close * most, rtol=close, msg=name
        )


def held_model(llama: Path, held: int, compute: int) -> Any:
    model = load_model(llama, hyperparameters(base_precision=held, compute_precision=compute))
    add_fused_lm_head(model, outputs=("log_probs", "is_top1"))
    return adapted(model)


@pytest.mark.parametrize("held", [FP32, NF4, INT8], ids=["fp32", "nf4", "int8"])
def test_fused_lora_is_lora(llama: Path, held: int) -> None:
    model, inputs = held_model(llama, held, FP32), LineCollator(0)(ROWS)
    expected = learned(model, inputs)
    fused_lora.fuse(model)
    assert_same(learned(model, inputs), expected)


@pytest.mark.parametrize("held", [BF16, NF4, INT8], ids=["bf16", "nf4", "int8"])
def test_fused_lora_in_sixteen_bits_is_as_close_to_float32_as_peft(llama: Path, held: int) -> None:
    inputs = LineCollator(0)(ROWS)
    _, expected = learned(held_model(llama, FP32 if held == BF16 else held, FP32), inputs)
    model = held_model(llama, held, BF16)
    _, by_peft = learned(model, inputs)
    fused_lora.fuse(model)
    _, found = learned(model, inputs)
    assert distance(found, expected) <= ROUNDED * distance(by_peft, expected)


def distance(gradients: Any, expected: Any) -> float:
    """Return the mean of one minus the cosine."""
    cosines = [
        torch.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0)
        for name, gradient in gradients.items()
    ]
    return 1 - float(torch.stack(cosines).mean())


@pytest.mark.parametrize("name", CAUSAL)
def test_fused_lora_is_lora_in_every_architecture(name: str, tmp_path: Path) -> None:
    model, inputs = architecture(name, tmp_path), LineCollator(0, most=0)(ROWS)
    expected = learned(model, inputs)
    fused_lora.fuse(model)
    assert_same(learned(model, inputs), expected)


def test_without_its_adapter_a_fused_model_is_the_base_model(llama: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    ids = torch.tensor([ROWS[0]["input_ids"]])
    with torch.no_grad():
        expected = base(input_ids=ids).logits
        model = adapted(base)
        fused_lora.fuse(model)
        assert not torch.allclose(model(input_ids=ids).logits, expected, atol=1e-3)
        with model.disable_adapter():
            torch.testing.assert_close(model(input_ids=ids).logits, expected)


def test_another_adapter_is_computed_as_itself(llama: Path) -> None:
    """As the reference of preference tuning, which trl names `ref`."""
    model = adapted(AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32))
    model.add_adapter("ref", lora_config(model.get_base_model(), hyperparameters(lora_rank=2)))
    ids = torch.tensor([ROWS[0]["input_ids"]])
    model.set_adapter("ref")
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        fused_lora.fuse(model)
        torch.testing.assert_close(model(input_ids=ids).logits, expected)
        model.set_adapter("default")
        assert not torch.allclose(model(input_ids=ids).logits, expected, atol=1e-3)


def test_autocast_and_dropout_are_left_to_peft(llama: Path) -> None:
    model = adapted(AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32))
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "is_top1"))
    inputs = LineCollator(0)(ROWS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = learned(model, inputs)
    fused_lora.fuse(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = learned(model, inputs)
    assert_same(found, expected, 0.0)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    layer.lora_dropout["default"] = torch.nn.Dropout(0.5)
    given, plain = torch.ones(1, 3, layer.in_features), type(layer).forward
    torch.manual_seed(0)
    dropped = plain(layer, given)
    torch.manual_seed(0)
    torch.testing.assert_close(layer(given), dropped, atol=0, rtol=0)


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_the_frozen_head_scores_as_the_whole_one(name: str, tmp_path: Path) -> None:
    model, inputs = architecture(name, tmp_path), LineCollator(0, most=0)(ROWS)
    assert is_frozen_product(model.get_base_model())
    assert_same(learned(model, inputs, score_frozen), learned(model, inputs))


def test_the_frozen_head_scores_in_tiles(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32))
    inputs = LineCollator(0)(ROWS)
    expected = learned(model, inputs, score_frozen)
    monkeypatch.setattr("luthier_trainer.run.output_head._TILE", 7 * model.config.vocab_size)
    assert_same(learned(model, inputs, score_frozen), expected)


def test_a_batch_that_teaches_nothing_scores_nothing(llama: Path) -> None:
    model = adapted(AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32))
    inputs = LineCollator(0)([{**ROWS[0], "labels": [IGNORED] * 40}])
    sums, gradients = learned(model, inputs, score_frozen)
    assert set(sums.values()) == {0.0}
    assert not any(bool(gradient.any()) for gradient in gradients.values())


def test_which_heads_are_not_frozen_products(llama: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama)
    assert not is_frozen_product(model), "it learns"
    model.requires_grad_(False)
    assert is_frozen_product(model)
    model.config.model_type = "gemma2"
    assert not is_frozen_product(model), "another architecture's logits may be capped"
    model.config.model_type = "llama"
    model.lm_head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size)
    model.requires_grad_(False)
    assert not is_frozen_product(model), "it has a bias"
    phi = architecture("phi", tmp_path).get_base_model()
    assert not is_frozen_product(phi)


@pytest.mark.parametrize("name", sorted(APART))
@pytest.mark.parametrize("most", [128, 1024])
def test_rows_attend_alone_as_behind_a_mask(name: str, most: int, tmp_path: Path) -> None:
    model, inputs = architecture(name, tmp_path), LineCollator(0, most=most)(ROWS)
    model.config.sliding_window = None
    expected = learned(model, inputs)
    row_attention.use(model.get_base_model(), 256)
    assert model.config._attn_implementation == row_attention.NAME
    assert_same(learned(model, inputs), expected)


def test_a_line_that_is_cut_learns_the_same(llama: Path) -> None:
    model = adapted(AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32))
    row_attention.use(model.get_base_model(), 256)
    whole = LineCollator(0)(ROWS)
    expected, gradients = learned(model, whole, score_frozen)
    parts = [learned(model, piece, score_frozen) for piece in cut(whole, 60)]
    assert len(parts) == 3
    sums = {name: sum(part[name] for part, _ in parts) for name in expected}
    summed = {name: sum(part[name] for _, part in parts) for name in gradients}
    assert_same((sums, summed), (expected, gradients))


@pytest.mark.parametrize("name", sorted(APART))
def test_padded_lines_and_text_that_is_written_stay_as_they_were(name: str, tmp_path: Path) -> None:
    model, inputs = architecture(name, tmp_path), LineCollator(0, most=0)(ROWS)
    model.config.sliding_window = None
    expected = learned(model, inputs)
    asked = {"input_ids": torch.tensor([ROWS[0]["input_ids"]]), "do_sample": False}
    written = model.generate(**asked, max_new_tokens=8)
    row_attention.use(model.get_base_model(), 256)
    assert_same(learned(model, inputs), expected)
    assert torch.equal(model.generate(**asked, max_new_tokens=8), written)


def test_a_window_shorter_than_a_row_keeps_its_mask(tmp_path: Path) -> None:
    model = architecture("mistral", tmp_path).get_base_model()
    model.config.sliding_window = 64
    row_attention.use(model, 65)
    assert model.config._attn_implementation == "sdpa"
    row_attention.use(model, 64)
    assert model.config._attn_implementation == row_attention.NAME


@pytest.mark.parametrize("name", sorted(set(CAUSAL) - APART))
def test_other_architectures_keep_their_attention(name: str, tmp_path: Path) -> None:
    model = architecture(name, tmp_path).get_base_model()
    row_attention.use(model, 256)
    assert model.config._attn_implementation != row_attention.NAME
