"""What a base model is made of, by its configuration and headers."""

from typing import Any

import pytest
from luthier_common.errors import InvalidArgument
from luthier_trainer.preflight.inventory import Inventory, Tensor, take_inventory
from luthier_trainer.preflight.setup import target_names

from benchmarks.preflight.paper import SHAPES, inventory_of


def inventory(family: str, *entries: tuple[str, tuple[int, ...]], **config: Any) -> Inventory:
    tensors = [Tensor(name, shape, "BF16") for name, shape in entries]
    return take_inventory({"model_type": family, "architectures": ["Some"]} | config, tensors)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("Llama 2 7B", 6_738_415_616),
        ("Llama 2 13B", 13_015_864_320),
        ("Llama 2 70B", 68_976_648_192),
    ],
)
def test_the_public_sizes_of_llama(model: str, parameters: int) -> None:
    assert inventory_of(SHAPES[model]).parameters == parameters


def test_linear_layers_are_all_but_embeddings_and_the_output_head() -> None:
    found = inventory(
        "gpt_neox",
        ("gpt_neox.embed_in.weight", (100, 8)),
        ("gpt_neox.layers.0.attention.query_key_value.weight", (24, 8)),
        ("gpt_neox.layers.0.attention.query_key_value.bias", (24,)),
        ("gpt_neox.layers.0.input_layernorm.weight", (8,)),
        ("gpt_neox.layers.0.input_layernorm.bias", (8,)),
        ("embed_out.weight", (100, 8)),
    )
    (layer,) = found.linears
    assert layer.name == "gpt_neox.layers.0.attention.query_key_value"
    assert (layer.outputs, layer.inputs, layer.quantized) == (24, 8, True)
    assert layer.block == "gpt_neox.layers.0"
    assert (found.vocabulary, found.hidden, found.blocks) == (100, 8, 1)
    assert found.norm_weights == 8
    assert found.parameters == 100 * 8 * 2 + 24 * 8 + 24 + 8 + 8


def test_what_is_stored_twice_is_counted_once() -> None:
    found = inventory(
        "gemma",
        ("model.embed_tokens.weight", (100, 8)),
        ("lm_head.weight", (100, 8)),
        tie_word_embeddings=True,
    )
    assert found.parameters == 800
    assert found.file_bytes == 3200
    shared = inventory(
        "t5",
        ("shared.weight", (100, 8)),
        ("encoder.embed_tokens.weight", (100, 8)),
        ("decoder.embed_tokens.weight", (100, 8)),
        is_encoder_decoder=True,
    )
    assert shared.parameters == 800
    assert shared.encoder_decoder


def test_of_t5_the_last_layers_of_blocks_stay_as_they_are_and_tables_of_places_are_no_layers() -> (
    None
):
    found = inventory(
        "t5",
        ("shared.weight", (100, 8)),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 4)),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", (8, 8)),
        ("encoder.block.0.layer.1.DenseReluDense.wi.weight", (16, 8)),
        ("encoder.block.0.layer.1.DenseReluDense.wo.weight", (8, 16)),
        feed_forward_proj="relu",
        dropout_rate=0.1,
    )
    assert {layer.name.rpartition(".")[2]: layer.quantized for layer in found.linears} == {
        "q": True,
        "wi": True,
        "wo": False,
    }
    assert found.quantized_weights == 8 * 8 + 16 * 8
    assert (found.activation, found.dropout) == ("relu", 0.1)


def test_targets_are_names_ends_of_names_and_patterns() -> None:
    llama = inventory_of(SHAPES["Llama 2 7B"])
    assert len(target_names(llama, ["q_proj", "self_attn.v_proj"])) == 64
    assert len(target_names(llama, ["*.layers.1?.mlp.*"])) == 30
    assert len(target_names(llama, ["all-linear"])) == 7 * 32
    with pytest.raises(InvalidArgument, match=r"'lm_head'.*it has down_proj, gate_proj") as caught:
        target_names(llama, ["lm_head"])
    assert caught.value.reason == "UNKNOWN_TARGET_MODULE"
