"""Adapters held against the layers of their base model."""

import json
from typing import Any

import pytest
from luthier_common.errors import InvalidArgument
from luthier_inference.adapter_checks import check_adapter
from luthier_inference.base_layers import linear_layers
from luthier_inference.lora_config import LoraSettings, read_lora_config

from tests.support.safetensors_files import LAYERS, LORA, Part, matrices, read_tensors, tensor_file


def checked(
    parts: dict[str, Part], layers: dict[str, tuple[int, int]] = LAYERS, **config: Any
) -> LoraSettings:
    tensors = read_tensors(tensor_file(parts))
    return check_adapter(json.dumps(LORA | config).encode(), tensors, layers, seq2seq=False)


def test_an_adapter_that_fits_tells_how_it_is_applied() -> None:
    settings = checked(matrices("BF16"), use_rslora=True, lora_alpha=8.0)
    assert settings == LoraSettings(2, 8.0, ("q_proj", "v_proj"), True, False)


@pytest.mark.parametrize(
    "targets",
    [
        ["self_attn.q_proj", "self_attn.v_proj"],
        [name for name in LAYERS if name.endswith(("q_proj", "v_proj"))],
        ["q_proj", "v_proj", "layers.0.self_attn.q_proj", "q_proj"],
    ],
)
def test_layers_are_named_whole_or_by_their_ends(targets: list[str]) -> None:
    assert set(checked(matrices(), target_modules=targets).target_modules) == set(targets)


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (["q_proj"], "LAYER_NOT_TARGETED"),
        (["q_proj", "v_proj", "up_proj"], "MATRICES_MISSING"),
        (["q_proj", "v_proj", "proj"], "UNKNOWN_TARGET_MODULE"),
        (["q_proj", "v_proj", "model.layers.0.self_attn"], "UNKNOWN_TARGET_MODULE"),
        (["layers.0.self_attn.q_proj", "v_proj"], "LAYER_NOT_TARGETED"),
    ],
)
def test_matrices_are_for_exactly_the_layers_that_are_named(
    targets: list[str], reason: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked(matrices(), target_modules=targets)
    assert caught.value.reason == reason


def test_a_layer_of_another_size_is_told_with_both_sizes() -> None:
    layers = {**LAYERS, "model.layers.1.self_attn.v_proj": (8, 5)}
    with pytest.raises(InvalidArgument, match="8 inputs and 5 outputs in the base model, 8 and 4"):
        checked(matrices(), layers)


def test_options_that_are_off_are_no_options() -> None:
    """As peft writes them into every configuration."""
    off: dict[str, Any] = {
        "use_dora": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "layers_to_transform": None,
        "loftq_config": {},
        "exclude_modules": None,
        "init_lora_weights": "gaussian",
        "fan_in_fan_out": None,
    }
    assert read_lora_config(json.dumps(LORA | off).encode()).rank == 2


def test_layers_have_the_names_that_transformers_gives_them() -> None:
    shapes = {"h.0.attn.c_attn.weight": (8, 24), "wte.weight": (100, 8), "wpe.weight": (9, 8)}
    assert linear_layers(shapes, "GPT2LMHeadModel") == {"transformer.h.0.attn.c_attn": (8, 24)}
    assert linear_layers(shapes, "BloomForCausalLM") == {"transformer.h.0.attn.c_attn": (24, 8)}
    whole = {f"transformer.{name}": shape for name, shape in shapes.items()}
    assert linear_layers(whole, "GPT2LMHeadModel") == linear_layers(shapes, "GPT2LMHeadModel")
    llama = {"layers.0.q.weight": (4, 8), "lm_head.weight": (100, 8), "layers.0.q.bias": (4,)}
    assert linear_layers(llama, "LlamaForCausalLM") == {"model.layers.0.q": (8, 4)}
    neox = {"layers.0.q.weight": (4, 8), "embed_out.weight": (100, 8)}
    assert linear_layers(neox, "GPTNeoXForCausalLM") == {"gpt_neox.layers.0.q": (8, 4)}
    t5 = {"encoder.block.0.layer.0.SelfAttention.q.weight": (4, 8), "shared.weight": (100, 8)}
    assert list(linear_layers(t5, "T5ForConditionalGeneration")) == [
        "encoder.block.0.layer.0.SelfAttention.q"
    ]
