"""What the registry reads from headers, held against models that transformers and peft made."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_inference.importer import import_base_model
from luthier_inference.lora_config import read_lora_config
from luthier_inference.model_facts import ModelFacts, is_allowed, is_seq2seq, read_facts
from luthier_inference.snapshots import verify
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.support.tiny_model import END, byte_tokenizer

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GROUPED),
    "llama, tied": ("LlamaConfig", {**GROUPED, "tie_word_embeddings": True}),
    "mistral": ("MistralConfig", GROUPED),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 8}),
    "gemma": ("GemmaConfig", {**GROUPED, "head_dim": 8}),
    "phi": ("PhiConfig", SIZES),
    "phi3": ("Phi3Config", GROUPED),
    "falcon": ("FalconConfig", SIZES),
    "falcon, new decoder": (
        "FalconConfig",
        {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "mpt": ("MptConfig", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256}),
    "gpt_neox": ("GPTNeoXConfig", SIZES),
    "t5": ("T5Config", T5),
    "t5, gated": ("T5Config", {**T5, "feed_forward_proj": "gated-gelu"}),
    "mt5": ("MT5Config", T5),
}
"""Configuration class and sizes."""


def new_model(family: str) -> Any:
    kind, sizes = FAMILIES[family]
    config = getattr(transformers, kind)(
        vocab_size=len(byte_tokenizer()), eos_token_id=END, pad_token_id=0, **sizes
    )
    config.bos_token_id = None
    seq2seq = config.is_encoder_decoder
    return (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_config(config)


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


async def facts_of(folder: Path, store: Path) -> ModelFacts:
    """What an import of the folder would record."""
    blobs = Blobs(DirectoryObjects(store))
    base = await import_base_model(folder, blobs, "library")
    return read_facts(await verify(blobs, "library", base.files, field="files", allowed=is_allowed))


def weights(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
async def test_the_record_tells_what_the_model_is(family: str, tmp_path: Path) -> None:
    model = new_model(family)
    facts = await facts_of(save(model, tmp_path / "base"), tmp_path / "store")
    assert facts.architecture == type(model).__name__
    assert facts.parameter_count == weights(model)
    assert facts.context_tokens == (512 if is_seq2seq(facts.architecture) else 256)
    assert facts.has_chat_template
    head = model.get_output_embeddings()
    assert facts.lora_parameters_per_rank == sum(
        layer.in_features + layer.out_features
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    )


@pytest.mark.parametrize("family", FAMILIES)
async def test_peft_adds_as_much_and_its_adapter_is_taken(family: str, tmp_path: Path) -> None:
    model = new_model(family)
    facts = await facts_of(save(model, tmp_path / "base"), tmp_path / "store")
    seq2seq = is_seq2seq(facts.architecture)
    task = "SEQ_2_SEQ_LM" if seq2seq else "CAUSAL_LM"
    tuned = get_peft_model(model, LoraConfig(r=1, target_modules="all-linear", task_type=task))
    assert tuned.get_nb_trainable_parameters()[0] == facts.lora_parameters_per_rank
    tuned.save_pretrained(tmp_path / "lora")
    config = (tmp_path / "lora" / "adapter_config.json").read_bytes()
    assert read_lora_config(config, seq2seq=seq2seq).rank == 1


async def test_a_second_copy_of_a_tied_head_is_not_counted(tmp_path: Path) -> None:
    """Falcon-7B's files hold one, and its configuration does not say that it is tied."""
    model = new_model("falcon")
    folder = save(model, tmp_path / "base")
    add_head(folder, model.transformer.word_embeddings.weight.detach().clone())
    config = folder / "config.json"
    config.write_text(config.read_text().replace('  "tie_word_embeddings": true,\n', ""))
    facts = await facts_of(folder, tmp_path / "store")
    assert "tie_word_embeddings" not in config.read_text()
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert facts.parameter_count == weights(loaded) == weights(model)


async def test_a_t5_with_a_head_of_its_own_has_more_weights(tmp_path: Path) -> None:
    """As FLAN-T5 and mT5 have it, whatever their configuration says of ties."""
    model = new_model("t5")
    folder = save(model, tmp_path / "base")
    add_head(folder, torch.randn_like(model.shared.weight))
    facts = await facts_of(folder, tmp_path / "store")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert facts.parameter_count == weights(loaded) > weights(model)


def add_head(folder: Path, weight: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**tensors, "lm_head.weight": weight}, path, {"format": "pt"})
