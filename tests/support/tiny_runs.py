"""Small runs of tuning, on rows whose answers a tiny model can learn in a few steps."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from bitsandbytes.nn import Linear4bit
from luthier.trainer.v1.tuning_pb2 import (
    FP4,
    INT8,
    LORA,
    NF4,
    Precision,
    ResolvedHyperparameters,
)
from luthier_trainer.run import tune as tuning
from luthier_trainer.run.model import load_model
from luthier_trainer.run.report import Board
from luthier_trainer.run.rows import IGNORED, Row
from luthier_trainer.run.tune import Inputs, Outputs, tune
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, BitsAndBytesConfig

BASE_NAME = "projects/library/baseModels/tiny"
CHAT, PAIR, PREFERENCE = "chat", "pair", "preference"
NAMES = "abcdefghijklmnop"
JUDGED = "acyz"
"""Two of them are learned."""
BATCH, EPOCHS = 8, 3
STEPS = len(NAMES) // BATCH * EPOCHS
CONTEXT = 256
SEED = 3


def body_of(kind: str, name: str) -> dict[str, Any]:
    """Return the row about an item. The longer the name, the longer the row."""
    prompt, answer = f"Item {name}?", f"It is {name * 3}."
    messages = [{"role": "user", "content": prompt}]
    match kind:
        case "chat":
            return {"messages": [*messages, {"role": "assistant", "content": answer}]}
        case "pair":
            return {"prompt": prompt, "completion": answer}
        case _:
            return {
                "input": {"messages": messages},
                "preferred_output": [{"role": "assistant", "content": answer}],
                "non_preferred_output": [{"role": "assistant", "content": "No idea at all."}],
            }


def write_rows(path: Path, kind: str, names: Iterable[str] = NAMES) -> Path:
    """Write a file of rows, a line each."""
    path.write_text("".join(json.dumps(body_of(kind, name)) + "\n" for name in names))
    return path


@dataclass(frozen=True)
class Run:
    """A run that has ended, and what it left."""

    inputs: Inputs
    outputs: Outputs
    said: list[str]
    model: Any
    """The very model that was tuned."""

    @property
    def table(self) -> list[dict[str, str]]:
        """The rows of the figures' file."""
        with self.outputs.metrics_file.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @property
    def losses(self) -> list[float]:
        """Training losses by step."""
        return [float(row["train_loss"]) for row in self.table]

    @property
    def files(self) -> list[bytes]:
        """The bytes of what was made."""
        return [path.read_bytes() for path in self.outputs.model_files]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The tensors of the adapter, or of the model."""
        paths = [path for path in self.outputs.model_files if path.suffix == ".safetensors"]
        return {name: tensor for path in paths for name, tensor in load_file(path).items()}

    @property
    def folder(self) -> Path:
        """Where the adapter, or the model, is."""
        return self.outputs.model_files[0].parent


def hyperparameters(**chosen: Any) -> ResolvedHyperparameters:
    """Return those of a short QLoRA run, changed by `chosen`."""
    precision = chosen.get("base_precision", NF4)
    defaults: dict[str, Any] = {
        "epoch_count": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": 2e-2,
        "lora_rank": 4,
        "lora_alpha": 8,
        "tuning_mode": LORA,
        "base_precision": NF4,
        "double_quantization": precision in (NF4, FP4),
        "target_modules": ["all-linear"],
        "packing": True,
        "beta": 0.1,
    }
    if chosen.get("tuning_mode", LORA) != LORA:
        chosen = {"target_modules": [], "learning_rate": 2e-3, **chosen}
    return ResolvedHyperparameters(**(defaults | chosen))


def inputs_of(
    base: Path, rows: Path, folder: Path, kind: str = CHAT, *, judged: bool = False, **chosen: Any
) -> Inputs:
    """Return the inputs of a run in `folder` on rows of a kind in the folder `rows`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Inputs(
        model=base,
        model_name=BASE_NAME,
        context_tokens=CONTEXT,
        parameters=30_000,
        training_rows=rows / f"{kind}.jsonl",
        validation_rows=rows / f"{kind}_judged.jsonl" if judged else None,
        general_rows=None,
        hyperparameters=hyperparameters(**chosen),
        seed=SEED,
        folder=folder,
        preference=kind == PREFERENCE,
    )


def run(inputs: Inputs, board: Board | None = None) -> Run:
    """Tune."""
    board, loaded = board or Board(), []

    def load(*arguments: Any) -> Any:
        loaded.append(load_model(*arguments))
        return loaded[-1]

    with mock.patch.object(tuning, "load_model", load):
        outputs = tune(inputs, board)
    said = [board.messages.get() for _ in range(board.messages.qsize())]
    return Run(inputs, outputs, said, loaded[0])


def frozen(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a model beside LoRA's, quantized ones with their scales, by name."""
    return {
        name.replace(".base_layer", ""): tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }


def reloaded(base: Path, chosen: ResolvedHyperparameters, adapter: Path | None = None) -> Any:
    """Load a snapshot as anybody would, held as a run has held it, and perhaps an adapter on it."""
    dtypes = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
    precision, config = chosen.base_precision, None
    compute = dtypes.get(chosen.compute_precision, torch.float32)
    if precision in (NF4, FP4):
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=Precision.Name(precision).lower(),
            bnb_4bit_use_double_quant=chosen.double_quantization,
            bnb_4bit_compute_dtype=compute,
        )
    elif precision == INT8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    seq2seq = AutoConfig.from_pretrained(base).is_encoder_decoder
    model: Any = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_pretrained(
        base,
        dtype=compute if config else dtypes.get(precision, torch.float32),
        quantization_config=config,
    )
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False  # whose rounding is another (ADR 8)
    return (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()


@torch.no_grad()
def mean_loss(model: Any, rows: Iterable[Row]) -> float:
    """Return the mean loss of the learned tokens, row by row, as transformers computes it."""
    losses, counts = [], []
    for row in rows:
        given = {name: torch.tensor([tokens]) for name, tokens in row.items()}
        whole = model.config.is_encoder_decoder
        learned = given["labels"] if whole else given["labels"][:, 1:]
        counts.append(int((learned != IGNORED).sum()))
        losses.append(float(model(**given).loss) * counts[-1])
    return sum(losses) / sum(counts)
