"""TRL's SFTTrainer as a contender.

`default` leaves `SFTConfig` as it is (weights in float32 under bfloat16 autocast, activations
computed again); `kept` keeps the activations; `packing` keeps them, too, holds the weights in
bfloat16 and packs by best fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.trainer import child


def contend(task: child.Task) -> None:
    """Train on the rows in the order that Luthier draws them in."""
    import torch  # noqa: PLC0415 - measured: part of the start
    from datasets import Dataset  # noqa: PLC0415
    from peft import PeftModel  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    packs = task.option == "packing"
    own: dict[str, Any] = {} if task.option == "default" else {"gradient_checkpointing": False}
    config = SFTConfig(
        output_dir=task.folder,
        num_train_epochs=1,
        max_length=task.longest,
        per_device_train_batch_size=task.batch,
        packing=packs,
        assistant_only_loss=True,
        bf16=task.precision == "bf16",
        use_cpu=True,
        learning_rate=task.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=child.SEED,
        **own,
    )
    held = torch.bfloat16 if packs else torch.float32
    model = AutoModelForCausalLM.from_pretrained(task.model, dtype=held)
    SFTTrainer(
        model=PeftModel.from_pretrained(model, task.adapter, is_trainable=True),
        args=config,
        train_dataset=Dataset.from_list(_ordered(Path(task.rows), task.batch)),
        processing_class=AutoTokenizer.from_pretrained(task.model),
    ).train()


def _ordered(rows: Path, batch: int) -> list[Any]:
    import json  # noqa: PLC0415

    from luthier_trainer.run.data import MixedSampler  # noqa: PLC0415

    bodies = [json.loads(line) for line in rows.read_text().splitlines()]
    order = MixedSampler(
        rows=len(bodies), general=0, batch_size=batch, retain_share=0.0, seed=child.SEED
    )
    return [bodies[number] for number in order]


if __name__ == "__main__":
    child.run(contend)
