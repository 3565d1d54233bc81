"""Adapters as peft itself saves them pass the registry's checks, on every family."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import InvalidArgument
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_inference.adapter_checks import check_adapter
from luthier_inference.base_layers import BaseLayers
from luthier_inference.importer import import_base_model
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from tests.support.safetensors_files import read_tensors
from tests.support.tiny_architectures import CAUSAL, SEQ2SEQ, save_architecture
from tests.support.tiny_model import byte_tokenizer


async def layers_of(folder: Path, store: Path) -> dict[str, tuple[int, int]]:
    """What an import of the folder tells of its layers."""
    blobs = Blobs(DirectoryObjects(store))
    base = await import_base_model(folder, blobs, "library")
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    known = BaseModel(
        name="projects/library/baseModels/x", digest="x", architecture=architecture,
        files=base.files,
    )  # fmt: skip
    return dict(await BaseLayers(blobs).of(known))


def tuned(model: PreTrainedModel, folder: Path, **config: Any) -> tuple[bytes, bytes]:
    """Save an adapter of rank 3 as peft does; return its configuration and its weights."""
    lora: Any = get_peft_model(model, LoraConfig(r=3, **config))
    lora.save_pretrained(folder)
    return (
        (folder / "adapter_config.json").read_bytes(),
        (folder / "adapter_model.safetensors").read_bytes(),
    )


def linears(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    head = model.get_output_embeddings()  # type: ignore[operator]
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }


@pytest.mark.parametrize("family", [*CAUSAL, *SEQ2SEQ])
async def test_what_peft_saves_fits_the_layers_that_the_files_tell(
    family: str, tmp_path: Path
) -> None:
    folder = save_architecture(family, tmp_path / "base")
    seq2seq = family in SEQ2SEQ
    kind: Any = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    model = kind.from_pretrained(folder)
    layers = await layers_of(folder, tmp_path / "store")
    assert layers == linears(model)
    config, weights = tuned(
        model, tmp_path / "lora", target_modules="all-linear", use_rslora=True,
        task_type="SEQ_2_SEQ_LM" if seq2seq else "CAUSAL_LM",
    )  # fmt: skip
    settings = check_adapter(config, read_tensors(weights), layers, seq2seq=seq2seq)
    assert (settings.rank, settings.use_rslora) == (3, True)


@pytest.mark.parametrize("headless", [False, True], ids=["whole", "without its head"])
async def test_transposed_layers_of_gpt_2_are_understood(headless: bool, tmp_path: Path) -> None:
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, vocab_size=300)
    model = GPT2LMHeadModel(config)
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    if headless:
        # As GPT-2 itself was published.
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        stripped = {name.removeprefix("transformer."): it for name, it in weights.items()}
        assert stripped.keys() != weights.keys()
        safetensors.torch.save_file(stripped, folder / "model.safetensors", {"format": "pt"})
    layers = await layers_of(folder, tmp_path / "store")
    assert layers["transformer.h.0.attn.c_attn"] == (32, 96)
    saved = tuned(model, tmp_path / "lora", target_modules=["c_attn"], fan_in_fan_out=True)
    settings = check_adapter(saved[0], read_tensors(saved[1]), layers, seq2seq=False)
    assert settings.fan_in_fan_out


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"rank_pattern": {"layers.0.self_attn.q_proj": 2}},
        {"layers_to_transform": [0]},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "pissa"},
        {"trainable_token_indices": [1]},
    ],
    ids=str,
)
async def test_what_peft_saves_beyond_plain_lora_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_architecture("llama", tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(folder)
    config, weights = tuned(model, tmp_path / "lora", **{"target_modules": ["q_proj"], **change})
    layers = await layers_of(folder, tmp_path / "store")
    with pytest.raises(InvalidArgument):
        check_adapter(config, read_tensors(weights), layers, seq2seq=False)
