"""Luthier as a contender: a job's run, without the services around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.trainer import child
from benchmarks.trainer.materials import RANK


def contend(task: child.Task) -> None:
    """Tune with what a job would have."""
    from luthier_trainer.run.report import Board  # noqa: PLC0415 - measured: part of the start
    from luthier_trainer.run.tune import tune  # noqa: PLC0415

    tune(inputs(task), Board())


def inputs(task: child.Task, *, checkpointing: bool = False) -> Any:
    """Return what a run is given: packing, AdamW, LoRA on all linear layers."""
    from luthier.trainer.v1.tuning_pb2 import (  # noqa: PLC0415
        Optimizer,
        ResolvedHyperparameters,
        TuningMode,
    )
    from luthier_trainer.run.tune import Inputs  # noqa: PLC0415

    held = task.option.upper()
    return Inputs(
        model=Path(task.model),
        model_name="projects/library/baseModels/bench",
        context_tokens=task.longest,
        parameters=1,
        training_rows=Path(task.rows),
        validation_rows=None,
        general_rows=None,
        hyperparameters=ResolvedHyperparameters(
            epoch_count=1,
            batch_size=task.batch,
            learning_rate=task.learning_rate,
            lora_rank=RANK,
            lora_alpha=2 * RANK,
            tuning_mode=TuningMode.LORA,
            base_precision=held,
            compute_precision=task.precision.upper(),
            double_quantization=held == "NF4",
            target_modules=["all-linear"],
            optimizer=Optimizer.ADAMW,
            packing=True,
            gradient_checkpointing=checkpointing,
            max_row_tokens=task.longest,
        ),
        seed=child.SEED,
        folder=Path(task.folder),
        start_adapter=Path(task.adapter) if task.adapter else None,
    )


if __name__ == "__main__":
    child.run(contend)
