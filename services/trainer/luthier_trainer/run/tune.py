"""Supervised QLoRA tuning of one job, from rows on the disk to an adapter on the disk."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from luthier.trainer.v1.training_job_pb2 import ResolvedHyperparameters
from luthier_common.errors import FailedPrecondition, PlatformError
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from luthier_trainer.publish import METRICS_FILE
from luthier_trainer.run import checkpoints, data
from luthier_trainer.run.curves import Curves, summary, write_csv
from luthier_trainer.run.gradients import GradientCheck
from luthier_trainer.run.model import (
    is_double_nf4,
    load_quantized,
    load_tokenizer,
    lora_config,
    quantized_layers,
    trainable_parameters,
)
from luthier_trainer.run.report import Board, Stopped
from luthier_trainer.run.rows import Row

_EVALUATIONS = 10
_WARMUP_SHARE = 0.05
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Inputs:
    """What a run works from; all files are on the disk, verified."""

    model: Path
    """Folder of the base model's snapshot."""
    model_name: str
    """Resource name of the base model, as the adapter's configuration shall have it."""
    context_tokens: int
    parameters: int
    """Weights of the base model."""
    training_rows: Path
    validation_rows: Path | None
    general_rows: Path | None
    hyperparameters: ResolvedHyperparameters
    seed: int
    folder: Path
    """Where checkpoints and results go."""


@dataclass(frozen=True)
class Outputs:
    """What a run has made; see `TrainingResult`."""

    adapter_files: list[Path]
    metrics_file: Path
    metrics: dict[str, float]
    trained_tokens: int
    trainable_parameters: int
    total_parameters: int
    quantized_layers: int


class QloraTrainer(SFTTrainer):  # type: ignore[misc]
    """trl's trainer, reading rows in the order of a `MixedSampler`."""

    def __init__(self, *, sampler: data.MixedSampler, **options: Any) -> None:
        super().__init__(**options)
        self._sampler = sampler
        for weight in self.model.parameters():
            # trl keeps adapters of quantized models in bfloat16, where steps of a small learning
            # rate round to nothing; what is stored and served is float32.
            if weight.requires_grad:
                weight.data = weight.data.float()

    def _get_train_sampler(self, train_dataset: Any = None) -> data.MixedSampler:
        return self._sampler


def tune(inputs: Inputs, board: Board) -> Outputs:
    """Tune, and return what was made.

    InvalidArgument for rows that cannot be learned, FailedPrecondition when the loss stops being
    a number, Internal when gradients are broken, Stopped when the board says so. Checkpoints in
    the folder are taken up again.
    """
    chosen = inputs.hyperparameters
    tokenizer = load_tokenizer(inputs.model)
    rows = data.load(inputs.training_rows, tokenizer, inputs.context_tokens)
    general = _general(inputs, tokenizer)
    sampler = data.MixedSampler(
        rows=len(rows.rows),
        general=len(general),
        batch_size=chosen.batch_size,
        retain_share=chosen.retain_share,
        seed=inputs.seed,
    )
    model = load_quantized(inputs.model)
    collator = data.LineCollator(
        tokenizer.pad_token_id,
        packs=data.keeps_rows_apart(model, rows.rows[0], tokenizer.pad_token_id),
    )
    trainer = QloraTrainer(
        sampler=sampler,
        model=model,
        args=_arguments(inputs, sampler),
        train_dataset=Dataset.from_list(rows.rows + general),
        eval_dataset=_validation(inputs, tokenizer),
        data_collator=collator,
        processing_class=tokenizer,
        peft_config=lora_config(chosen.lora_rank, chosen.lora_alpha),
        callbacks=[Curves(board, collator), GradientCheck(), checkpoints.ByTime()],
    )
    trainer.remove_callback(PrinterCallback)  # the board tells, and the log
    _describe(trainer.model, inputs, rows, board)
    _train(trainer, checkpoints.last(inputs.folder))
    return _outputs(trainer, inputs, sampler.steps, rows)


def _train(trainer: QloraTrainer, checkpoint: Path | None) -> None:
    begun = checkpoints.step_of(checkpoint) if checkpoint else None
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise FailedPrecondition(
            f"the device's memory does not hold a step: {error}; try a smaller batch_size",
            reason="OUT_OF_MEMORY",
        ) from error
    except (PlatformError, Stopped):
        raise
    except Exception:
        if checkpoint and trainer.state.global_step in (0, begun):
            # It may be what is broken; the next try starts over rather than fail with it again.
            shutil.rmtree(checkpoint)
        raise


def _general(inputs: Inputs, tokenizer: Any) -> list[Row]:
    if inputs.general_rows is None or not inputs.hyperparameters.retain_share:
        return []
    return data.load(inputs.general_rows, tokenizer, inputs.context_tokens).rows


def _validation(inputs: Inputs, tokenizer: Any) -> Dataset | None:
    if inputs.validation_rows is None:
        return None
    rows = data.load(inputs.validation_rows, tokenizer, inputs.context_tokens)
    return Dataset.from_list(rows.rows)


def _arguments(inputs: Inputs, sampler: data.MixedSampler) -> SFTConfig:
    chosen = inputs.hyperparameters
    steps = sampler.steps * chosen.epoch_count
    cuda = torch.cuda.is_available()
    judged = inputs.validation_rows is not None
    # numpy takes no other seeds
    seed = inputs.seed % 2**32
    return SFTConfig(
        output_dir=str(checkpoints.folder(inputs.folder)),
        num_train_epochs=chosen.epoch_count,
        per_device_train_batch_size=sampler.step_rows,
        per_device_eval_batch_size=sampler.step_rows,
        learning_rate=chosen.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(_WARMUP_SHARE * steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if judged else "no",
        eval_steps=math.ceil(steps / _EVALUATIONS) if judged else None,
        save_strategy="no",  # by time, see `checkpoints`
        save_total_limit=1,
        seed=seed,
        data_seed=seed,
        use_cpu=not cuda,
        bf16=cuda and torch.cuda.is_bf16_supported(),
        gradient_checkpointing=False,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        disable_tqdm=True,
        report_to="none",
    )


def _describe(model: torch.nn.Module, inputs: Inputs, rows: data.Rows, board: Board) -> None:
    layers = [layer for _, layer in quantized_layers(model)]
    nf4 = sum(map(is_double_nf4, layers))
    weights = trainable_parameters(model)
    board.say(
        f"{nf4} linear layers in NF4 with double quantization; {weights:,} of "
        f"{inputs.parameters:,} weights are tuned ({weights / inputs.parameters:.1%})"
    )
    board.say(f"{len(rows.rows)} rows of {rows.tokens:,} tokens an epoch")
    if rows.too_long:
        board.say(
            f"{rows.too_long} rows are longer than the model's {inputs.context_tokens} tokens and "
            "are left out"
        )


def _outputs(trainer: QloraTrainer, inputs: Inputs, steps: int, rows: data.Rows) -> Outputs:
    model, target = trainer.model, inputs.folder / "adapter"
    config = model.peft_config["default"]
    config.base_model_name_or_path = inputs.model_name
    config.target_modules = sorted(config.target_modules)  # the same run makes the same bytes
    # Without embeddings, whose vocabulary peft would look up on a hub.
    model.save_pretrained(target, save_embedding_layers=False)
    metrics_file = inputs.folder / METRICS_FILE
    history = trainer.state.log_history
    write_csv(history, metrics_file)
    return Outputs(
        adapter_files=[target / name for name in _ADAPTER_FILES],
        metrics_file=metrics_file,
        metrics=summary(history, steps_per_epoch=steps),
        trained_tokens=rows.tokens * inputs.hyperparameters.epoch_count,
        trainable_parameters=trainable_parameters(model),
        total_parameters=inputs.parameters,
        quantized_layers=sum(is_double_nf4(layer) for _, layer in quantized_layers(model)),
    )
