from luthier_inference.weights import lora_parameters_per_rank, parameter_count

LLAMA = {
    "model.embed_tokens.weight": (100, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.norm.weight": (8,),
    "lm_head.weight": (100, 8),
}


def test_a_tied_head_that_is_stored_counts_once() -> None:
    assert parameter_count(LLAMA, tied=False) == 800 + 64 + 8 + 800
    assert parameter_count(LLAMA, tied=True) == 800 + 64 + 8


def test_a_tied_head_that_is_stored_alone_counts() -> None:
    # Which of two names of the same memory is stored is the writer's choice.
    alone = {name: shape for name, shape in LLAMA.items() if "embed" not in name}
    assert parameter_count(alone, tied=True) == 64 + 8 + 800


def test_a_t5_reads_all_its_copies_of_one_table() -> None:
    shapes = {
        "shared.weight": (100, 8),
        "encoder.embed_tokens.weight": (100, 8),
        "decoder.embed_tokens.weight": (100, 8),
        "lm_head.weight": (100, 8),
    }
    assert parameter_count(shapes, tied=False) == 1_600, "a head of its own, as FLAN-T5 has it"


def test_attention_masks_are_no_weights() -> None:
    shapes = {"h.0.attn.bias": (1, 1, 64, 64), "h.0.attn.c_attn.bias": (24,)}
    assert parameter_count(shapes, tied=False) == 24


def test_heads_and_embeddings_are_not_adapted() -> None:
    neox = {
        "gpt_neox.embed_in.weight": (100, 8),
        "gpt_neox.layers.0.attention.query_key_value.weight": (24, 8),
        "gpt_neox.layers.0.attention.query_key_value.bias": (24,),
        "embed_out.weight": (100, 8),
    }
    assert lora_parameters_per_rank(neox) == 32
    assert lora_parameters_per_rank(LLAMA) == 16
