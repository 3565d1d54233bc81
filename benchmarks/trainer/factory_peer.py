"""LLaMA-Factory as a contender, in an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.trainer import child

_DATASET = {
    "rows": {
        "file_name": "rows.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }
}


def contend(task: child.Task) -> None:
    """Train with neat packing: rows share lines and do not see each other."""
    from llamafactory.train.tuner import run_exp  # noqa: PLC0415 - measured: part of the start

    folder = Path(task.folder)
    (folder / "dataset_info.json").write_text(json.dumps(_DATASET))
    (folder / "rows.jsonl").write_bytes(Path(task.rows).read_bytes())
    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": task.model,
            "adapter_name_or_path": task.adapter,
            "finetuning_type": "lora",
            "dataset": "rows",
            "dataset_dir": str(folder),
            "template": "chatml",
            "cutoff_len": task.longest,
            "packing": True,
            "neat_packing": True,
            "per_device_train_batch_size": task.batch,
            "gradient_accumulation_steps": 1,
            "disable_gradient_checkpointing": True,
            "num_train_epochs": 1,
            "learning_rate": task.learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "bf16": task.precision == "bf16",
            "use_cpu": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "output_dir": str(folder / "out"),
            "seed": child.SEED,
        }
    )


if __name__ == "__main__":
    child.run(contend)
