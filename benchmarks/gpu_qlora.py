"""QLoRA of an 8-billion-weight Llama on one GPU: `python -m benchmarks.gpu_qlora`.

Nothing is downloaded: the weights are random and become NF4 on the device, matrix by matrix. Needs
the repository and the packages of the extra `train` (with the CUDA build of torch). Told are real
tokens a second and peak memory of Luthier and of plain TRL, on rows that fill 1,024 tokens (4 a
step) and on ragged ones (16 a step; Luthier packs them, TRL pads), and what the preflight had
estimated. `--tiny` is the same with a tiny model, for machines without a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.trainer import child, materials, ours

_LLAMA: Mapping[str, int] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
}
"""Llama 3.1 8B."""
_TINY: Mapping[str, int] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 4096,
}
_LONGEST, _TINY_LONGEST = 1024, 64
_BATCH, _RAGGED_BATCH = 4, 16
_STEPS, _TINY_STEPS = 12, 3
_WARM = 2
"""Steps that do not count."""
_SPREAD = 0.02
"""Standard deviation of the weights, as models begin with."""


def main() -> None:
    """Measure, and print one line of JSON for each run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_qlora", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    tiny: bool = parser.parse_args().tiny
    longest, steps = (_TINY_LONGEST, _TINY_STEPS) if tiny else (_LONGEST, _STEPS)
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as name:
        folder = Path(name)
        model = _save_configuration(_TINY if tiny else _LLAMA, folder / "model")
        full, ragged = folder / "full.jsonl", folder / "ragged.jsonl"
        sizes = {
            full: materials.write_full_rows(model, full, rows=_BATCH * steps, size=longest),
            ragged: materials.write_rows(
                model, ragged, rows=_RAGGED_BATCH * steps, longest=longest, words=longest // 8
            ),
        }
        for rows, batch in ((full, _BATCH), (ragged, _RAGGED_BATCH)):
            for contender in ("luthier", "trl"):
                found = _run(_task(contender, model, rows, batch, longest))
                told = {"contender": contender, "rows": rows.stem}
                told |= _told(found, sizes[rows] / steps)
                if rows == full and contender == "luthier":
                    told |= _estimated(model, batch, longest, found.peak_bytes)
                print(json.dumps(told), flush=True)


def _task(contender: str, model: Path, rows: Path, batch: int, longest: int) -> child.Task:
    return child.Task(
        model=str(model),
        adapter="",
        rows=str(rows),
        folder="",
        option=contender,
        batch=batch,
        longest=longest,
        precision="bf16",
        learning_rate=1e-4,
    )


def _run(task: child.Task) -> child.Run:
    """Run a contender in a process of its own, so that its memory is its own."""
    code = "from benchmarks import gpu_qlora; gpu_qlora.contend()"
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        given = replace(task, folder=folder).spelled()
        done = subprocess.run(
            [sys.executable, "-c", code, given], stdout=subprocess.PIPE, text=True, check=True
        )
    return child.Run(**json.loads(done.stdout.splitlines()[-1]))


def _told(found: child.Run, step_tokens: float) -> dict[str, Any]:
    seconds = statistics.mean(found.step_seconds[_WARM:])
    return {
        "real_tokens_a_second": round(step_tokens / seconds, 1),
        "peak_bytes": found.peak_bytes,
    }


def _estimated(model: Path, lines: int, longest: int, peak: int) -> dict[str, Any]:
    """What the preflight expects of so many lines of `longest` tokens, beside the measured peak."""
    import torch  # noqa: PLC0415 - seconds
    from luthier_trainer.preflight.inventory import Tensor, take_inventory  # noqa: PLC0415
    from luthier_trainer.preflight.memory import CPU, CUDA, estimate  # noqa: PLC0415
    from luthier_trainer.preflight.setup import setup_of  # noqa: PLC0415
    from luthier_trainer.preflight.steps import Passes  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    tensors = [
        Tensor(name, tuple(weight.shape), "BF16") for name, weight in empty.named_parameters()
    ]
    config = json.loads((model / "config.json").read_text())
    inventory = take_inventory(config, tensors)
    task = _task("nf4", model, model, lines, longest)
    chosen = ours.inputs(task, checkpointing=True).hyperparameters
    passes = Passes(
        lines=lines,
        line_tokens=longest,
        answer_tokens=longest,
        padded_share=0.0,
        tokens=lines * longest,
        truncated_share=0.0,
    )
    setup = setup_of(chosen, inventory, passes, preference=False)
    machine = CUDA if torch.cuda.is_available() else CPU
    expected = estimate(inventory, setup, machine)
    # What the device's libraries hold is none of torch's tensors, whose peak is measured.
    of_tensors = expected.total_bytes - (machine.fixed_bytes if torch.cuda.is_available() else 0)
    return {"estimated_bytes": of_tensors, "estimate_error": round(of_tensors / peak - 1, 3)}


def contend() -> None:
    """Do the task in `sys.argv` as the contender that it names."""
    child.run(_ours if json.loads(sys.argv[1])["option"] == "luthier" else _trl)


def _ours(task: child.Task) -> None:
    """Luthier, packing; the weights are made where a run would load them."""
    from luthier_trainer.run import tune  # noqa: PLC0415 - measured: part of the start
    from luthier_trainer.run.report import Board  # noqa: PLC0415

    with mock.patch.object(tune, "load_model", lambda folder, _: random_nf4(folder)):
        tune.tune(ours.inputs(replace(task, option="nf4"), checkpointing=True), Board())


def _trl(task: child.Task) -> None:
    """TRL as `SFTConfig` leaves it, which computes activations again, too."""
    import torch  # noqa: PLC0415 - measured: part of the start
    from datasets import Dataset  # noqa: PLC0415
    from peft import LoraConfig  # noqa: PLC0415
    from transformers import AutoTokenizer  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    bodies = [json.loads(line) for line in Path(task.rows).read_text().splitlines()]
    SFTTrainer(
        model=random_nf4(Path(task.model)),
        args=SFTConfig(
            output_dir=task.folder,
            num_train_epochs=1,
            max_length=task.longest,
            per_device_train_batch_size=task.batch,
            assistant_only_loss=True,
            learning_rate=task.learning_rate,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=child.SEED,
        ),
        train_dataset=Dataset.from_list(bodies),
        processing_class=AutoTokenizer.from_pretrained(task.model),
        peft_config=LoraConfig(
            r=materials.RANK, lora_alpha=2 * materials.RANK, target_modules="all-linear"
        ),
    ).train()


def random_nf4(folder: Path) -> Any:
    """Return a model of random weights whose linear layers are NF4, double quantization.

    One matrix at a time is ever held in 16 bits, and the host's memory holds none.
    """
    import torch  # noqa: PLC0415
    from bitsandbytes.nn import Linear4bit, Params4bit  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder), dtype=torch.bfloat16
        )
    head = model.get_output_embeddings()
    linears = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    ]
    torch.manual_seed(0)
    for name, layer in linears:
        made = Linear4bit(
            layer.in_features, layer.out_features, bias=False, compute_dtype=torch.bfloat16,
            quant_type="nf4", device="meta",
        )  # fmt: skip
        made.support_avx512bf16_for_cpu = False  # as a run sets it (ADR 8)
        dense = torch.randn(layer.weight.shape, dtype=torch.bfloat16, device=device) * _SPREAD
        made.weight = Params4bit(
            dense, requires_grad=False, quant_type="nf4", compress_statistics=True, module=made
        ).to(device)
        model.set_submodule(name, made)
    _fill(model, device)
    model.config.use_cache = False
    model.is_loaded_in_4bit = True  # what peft looks for
    return model


def _fill(model: Any, device: str) -> None:
    """Give what is not quantized its weights; the rotary tables are computed anew."""
    import torch  # noqa: PLC0415

    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.is_meta:
                ones = weight.dim() == 1
                made = torch.ones if ones else torch.randn
                filled = made(weight.shape, dtype=torch.bfloat16, device=device)
                filled *= 1.0 if ones else _SPREAD
                setattr(module, name, torch.nn.Parameter(filled, requires_grad=False))
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(device)


def _save_configuration(shape: Mapping[str, int], folder: Path) -> Path:
    from transformers import LlamaConfig  # noqa: PLC0415

    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        dtype="bfloat16",
        **shape,
    )
    config.save_pretrained(folder)
    materials.make_tokenizer().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
