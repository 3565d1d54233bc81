"""The tuning of one job, from rows on the disk to an adapter, or a model, on the disk."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from luthier.trainer.v1.training_job_pb2 import Measurement
from luthier.trainer.v1.tuning_pb2 import Optimizer, Precision, ResolvedHyperparameters, TuningMode
from luthier_common.errors import PlatformError
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, set_seed

from luthier_trainer.gates import BASE
from luthier_trainer.lines import most_tokens
from luthier_trainer.publish import METRICS_FILE
from luthier_trainer.run import data, fused_lora, resume_state
from luthier_trainer.run.course import Course
from luthier_trainer.run.curves import Curves, peak_memory_bytes, summary, write_csv
from luthier_trainer.run.data import MixedSampler
from luthier_trainer.run.evidence import Asker, questions_in, with_perplexity
from luthier_trainer.run.gradients import GradientCheck
from luthier_trainer.run.model import (
    compute_dtype,
    held_as,
    load_model,
    load_tokenizer,
    lora_config,
    mixed_dtype,
    quantized_layers,
    trainable_parameters,
)
from luthier_trainer.run.probe import write_probe
from luthier_trainer.run.report import Board, GaveBack, Stopped
from luthier_trainer.run.rows import Question, Row
from luthier_trainer.run.schedule import ByTime, Judged
from luthier_trainer.run.shortage import holding
from luthier_trainer.run.task import Task
from luthier_trainer.run.trainers import StepTrainer

STATES = "states"
"""The folder of resume states, below a job's."""
_EVALUATIONS = 10
_WARMUP_SHARE = 0.05
_FP16_SCALE = 2.0**15
"""Of losses: a power of two, halved when it is too much (Micikevicius et al. 2017, section 3.2)."""
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_OPTIMIZERS = {
    Optimizer.ADAMW: "adamw_torch",
    Optimizer.ADAMW_8BIT: "adamw_bnb_8bit",
    Optimizer.PAGED_ADAMW: "paged_adamw_32bit",
    Optimizer.PAGED_ADAMW_8BIT: "paged_adamw_8bit",
}


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
    """Where results go. Below it, in `states`, are the resume states of all runs of the job."""
    epoch: int = 1
    """Of the run; it saves its states in a folder of their own."""
    preference: bool = False
    """Whether preferences are learned (DPO), rather than answers."""
    start_adapter: Path | None = None
    """Folder of the adapter to go on from."""
    regression_rows: Path | None = None
    """Rows that show what must not be forgotten."""


@dataclass(frozen=True)
class Outputs:
    """What a run has made; see `TrainingResult`."""

    model_files: list[Path]
    metrics_file: Path
    metrics: dict[str, float]
    trained_tokens: int
    trainable_parameters: int
    total_parameters: int
    quantized_layers: int
    best_step: int
    measurement: Measurement


@dataclass(frozen=True)
class Material:
    """The rows of a run, as tokens."""

    rows: data.Rows
    general: list[Row]
    judged: list[Row]
    questions: list[Question]
    regression: list[Row]

    @property
    def shown(self) -> list[Row]:
        """Rows that show what a result does: those judged where there are any."""
        return self.judged or self.rows.rows


def tune(inputs: Inputs, board: Board) -> Outputs:
    """Tune, and return what was made.

    InvalidArgument for rows that cannot be learned, FailedPrecondition when the loss stops being
    a number or the memory is too small, Internal when gradients are broken; Stopped or GaveBack
    when the board says so. The newest sound resume state in the folder is taken up.
    """
    chosen = inputs.hyperparameters
    baseline, mixed = peak_memory_bytes(), mixed_dtype(chosen)
    task = Task.of(inputs.model, preference=inputs.preference)
    tokenizer = load_tokenizer(inputs.model)
    material = _read(inputs, task, tokenizer)
    board.check()
    set_seed(inputs.seed % 2**32)  # peft draws its matrices
    with holding("the model"):
        model = _tunable(load_model(inputs.model, chosen), inputs)
    fused_lora.fuse(model)
    packs = task.packs(model, material.rows.rows[0], tokenizer.pad_token_id, chosen)
    most = most_tokens(chosen) if packs else 0
    collator = task.collator(tokenizer.pad_token_id, most=most)
    curves = Curves(board, collator)
    course = _course(inputs, task, material, tokenizer, board, most=most)
    trainer = task.trainer(
        _arguments(inputs, course.sampler, judged=bool(material.judged), mixed=mixed),
        chosen,
        course=course,
        model=model,
        train_dataset=material.rows.rows + material.general,
        eval_dataset=material.judged or None,
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=[curves, GradientCheck(), Judged(course.sampler.steps), ByTime()],
    )
    trainer.remove_callback(PrinterCallback)  # the board tells, and the log
    _describe(trainer.model, inputs, material.rows, board)
    _train(trainer, inputs.folder)
    measurement = curves.measurement(above=baseline)
    return _outputs(trainer, inputs, material, measurement)


def _read(inputs: Inputs, task: Task, tokenizer: Any) -> Material:
    chosen = inputs.hyperparameters
    form = task.format(tokenizer, inputs.context_tokens)
    plain = replace(task, preference=False).format(tokenizer, inputs.context_tokens)
    limit = chosen.max_row_tokens or inputs.context_tokens
    judged: list[Row] = []
    questions: list[Question] = []
    if inputs.validation_rows is not None:
        judged = data.load(inputs.validation_rows, form, limit).rows
        questions = questions_in(inputs.validation_rows, form, limit // 2, inputs.seed)
    general: list[Row] = []
    if inputs.general_rows is not None and chosen.retain_share:
        general = data.load(inputs.general_rows, form, limit).rows
    regression: list[Row] = []
    if inputs.regression_rows is not None:
        regression = data.load(inputs.regression_rows, plain, limit).rows
    rows = data.load(inputs.training_rows, form, limit)
    return Material(rows, general, judged, questions, regression)


def _course(
    inputs: Inputs, task: Task, material: Material, tokenizer: Any, board: Board, *, most: int
) -> Course:
    chosen, pad = inputs.hyperparameters, tokenizer.pad_token_id
    mixed = mixed_dtype(chosen)
    sampler = MixedSampler(
        rows=len(material.rows.rows),
        general=len(material.general),
        batch_size=chosen.batch_size,
        retain_share=chosen.retain_share,
        seed=inputs.seed,
        lengths=material.rows.lengths if chosen.length_buckets and not most else None,
    )
    return Course(
        sampler=sampler,
        board=board,
        folder=inputs.folder,
        states=inputs.folder / STATES / str(inputs.epoch),
        judged=material.judged,
        judging=task.collator(pad, most=most),
        asker=Asker(material.questions, tokenizer, task.seq2seq),
        regression=material.regression,
        regression_collator=replace(task, preference=False).collator(pad, most=0),
        lines=chosen.micro_batch_size,
        mixed=None if torch.cuda.is_available() else mixed,
        loss_scale=_FP16_SCALE if compute_dtype(chosen) == torch.float16 else 1.0,
        snapshot=None
        if chosen.tuning_mode == TuningMode.FULL
        else lambda model, target: _save_adapter(model, target, inputs, material.shown),
    )


def _train(trainer: StepTrainer, folder: Path) -> None:
    state = resume_state.newest(folder / STATES)
    begun = resume_state.step_of(state) if state else 0
    try:
        with holding("the model, its gradients and its optimizer"):
            trainer.train(resume_from_checkpoint=str(state) if state else None)
        if trainer.state.global_step > begun:
            trainer.give_state()  # so that the evidence is all that is left to do
    except GaveBack:
        if trainer.state.global_step > begun:
            trainer.give_state()
        raise
    except (PlatformError, Stopped):
        raise
    except Exception:
        if state and trainer.state.global_step in (0, begun):
            # It may be what is broken; the next try goes on from the one before.
            shutil.rmtree(state)
        raise


def _tunable(model: Any, inputs: Inputs) -> Any:
    """Return the model with what is tuned of it set to learn."""
    chosen = inputs.hyperparameters
    if chosen.gradient_checkpointing:
        model.enable_input_require_grads()
    if chosen.tuning_mode == TuningMode.FULL:
        return model
    if inputs.start_adapter is not None:
        config = LoraConfig.from_pretrained(inputs.start_adapter)
        config.inference_mode, config.lora_dropout = False, chosen.lora_dropout
        return PeftModel.from_pretrained(
            model, inputs.start_adapter, is_trainable=True, config=config
        )
    return get_peft_model(model, lora_config(model, chosen))


def _arguments(
    inputs: Inputs, sampler: MixedSampler, *, judged: bool, mixed: torch.dtype | None
) -> dict[str, Any]:
    chosen = inputs.hyperparameters
    steps = sampler.steps * chosen.epoch_count
    cuda = torch.cuda.is_available()
    # numpy takes no other seeds
    seed = inputs.seed % 2**32
    return {
        "output_dir": str(inputs.folder / STATES),
        "num_train_epochs": chosen.epoch_count,
        "per_device_train_batch_size": sampler.step_rows,
        "per_device_eval_batch_size": sampler.step_rows,
        "learning_rate": chosen.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": math.ceil(_WARMUP_SHARE * steps),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": _OPTIMIZERS[chosen.optimizer or Optimizer.ADAMW],
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if judged else "no",
        "eval_steps": math.ceil(steps / _EVALUATIONS) if judged else None,
        "save_strategy": "no",  # by time, see `schedule`
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not cuda,
        "bf16": cuda and mixed == torch.bfloat16,
        "activation_checkpointing": chosen.gradient_checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "dataloader_pin_memory": cuda,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "report_to": "none",
    }


def _describe(model: torch.nn.Module, inputs: Inputs, rows: data.Rows, board: Board) -> None:
    chosen, weights = inputs.hyperparameters, trainable_parameters(model)
    held = Counter(held_as(layer) for _, layer in quantized_layers(model))
    layers = [f"{count} linear layers in {how}" for how, count in sorted(held.items())]
    if not layers:
        layers = [f"weights in {Precision.Name(chosen.base_precision)}"]
    board.say(
        f"{', '.join(layers)}; {weights:,} of {inputs.parameters:,} weights are tuned "
        f"({weights / inputs.parameters:.1%}), computed in {_name(compute_dtype(chosen))}"
    )
    board.say(f"{len(rows.rows)} rows of {rows.tokens:,} tokens an epoch")
    if rows.too_long:
        limit = chosen.max_row_tokens or inputs.context_tokens
        board.say(f"{rows.too_long} rows are longer than {limit} tokens and are left out")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _outputs(
    trainer: StepTrainer, inputs: Inputs, material: Material, measurement: Measurement
) -> Outputs:
    model, history = trainer.model, trainer.state.log_history
    best, best_step = inputs.folder / resume_state.BEST, trainer.state.global_step
    if best.exists():
        resume_state.load_weights(model, best)
        best_step = trainer.state.best_global_step
    metrics_file = inputs.folder / METRICS_FILE
    write_csv(history, metrics_file)
    metrics = summary(history, steps_per_epoch=trainer.course.sampler.steps, best_step=best_step)
    metrics |= trainer.evidence()
    if not inputs.preference:  # whose loss is none of tokens
        metrics = with_perplexity(metrics, "valid_loss", "perplexity")
        metrics = with_perplexity(metrics, f"{BASE}valid_loss", f"{BASE}perplexity")
    return Outputs(
        model_files=_save(model, inputs, material.shown),
        metrics_file=metrics_file,
        metrics=metrics,
        trained_tokens=material.rows.tokens * inputs.hyperparameters.epoch_count,
        trainable_parameters=trainable_parameters(model),
        total_parameters=inputs.parameters,
        quantized_layers=sum(1 for _ in quantized_layers(model)),
        best_step=best_step,
        measurement=measurement,
    )


def _save(model: Any, inputs: Inputs, shown: Sequence[Row]) -> list[Path]:
    """Save the adapter, or of full tuning the weights, and return the files."""
    if isinstance(model, PeftModel):
        return _save_adapter(model, inputs.folder / "adapter", inputs, shown)
    target = inputs.folder / "model"
    model.config.use_cache = True  # the trainer has switched it off
    model.save_pretrained(target)
    return sorted(path for path in target.iterdir() if path.suffix in (".safetensors", ".json"))


def _save_adapter(model: Any, target: Path, inputs: Inputs, shown: Sequence[Row]) -> list[Path]:
    config = model.peft_config["default"]
    config.base_model_name_or_path = inputs.model_name
    config.target_modules = sorted(config.target_modules)  # the same run makes the same bytes
    # Without embeddings, whose vocabulary peft would look up on a hub.
    with resume_state.os_errors():
        model.save_pretrained(target, save_embedding_layers=False, selected_adapters=["default"])
    precision = Precision.Name(inputs.hyperparameters.base_precision).lower()
    probe = write_probe(model, shown, target, precision)
    return [*(target / name for name in _ADAPTER_FILES), probe]
