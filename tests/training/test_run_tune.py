"""Whole runs on a tiny model: what they learn, leave behind, and survive."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier.trainer.v1.tuning_pb2 import LORA, NF4, ResolvedHyperparameters
from luthier_common.errors import FailedPrecondition
from luthier_trainer.run import resume_state, schedule
from luthier_trainer.run.data import LineCollator, load
from luthier_trainer.run.model import load_model, load_tokenizer
from luthier_trainer.run.report import Board, GaveBack, Stopped
from luthier_trainer.run.rows import CausalFormat
from luthier_trainer.run.tune import STATES, Inputs, Outputs, tune

from tests.support.tiny_model import save_base

NAME = "projects/library/baseModels/tiny"
ROWS, BATCH, EPOCHS = 24, 8, 6
STEPS = ROWS // BATCH * EPOCHS
ROW_TOKENS = 21  # <|user|>Item a?<|end|><|assistant|>It is aaa.<|end|>
WEIGHTS = 30_000


class Counting(Board):
    """A board that counts its checks (one before the first step, and one at the end of each), and
    tells the run to stop or to give back at one."""

    def __init__(self, stop_at: int | None = None, pause_at: int | None = None) -> None:
        super().__init__()
        self.steps = -1
        self._stop_at = stop_at
        self._pause_at = pause_at

    def check(self) -> None:
        self.steps += 1
        if self.steps == self._stop_at:
            self.stop.set()
        if self.steps == self._pause_at:
            self.pause.set()
        super().check()

    def said(self) -> list[str]:
        return [self.messages.get() for _ in range(self.messages.qsize())]


def write_rows(path: Path, names: str, answer: str = "It is {}.") -> Path:
    rows = [
        [
            {"role": "user", "content": f"Item {name}?"},
            {"role": "assistant", "content": answer.format(name * 3)},
        ]
        for name in names
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    save_base(folder / "base")
    write_rows(folder / "training.jsonl", "abcdefghijklmnopqrstuvwx")
    write_rows(folder / "validation.jsonl", "acegikmy")
    write_rows(folder / "general.jsonl", "12345", answer="No: {}.")
    return folder


def inputs_of(files: Path, run: Path, **chosen: Any) -> Inputs:
    run.mkdir(exist_ok=True)
    defaults: dict[str, Any] = {
        "epoch_count": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": 2e-2,
        "lora_rank": 4,
        "lora_alpha": 8,
        "tuning_mode": LORA,
        "base_precision": NF4,
        "double_quantization": True,
        "target_modules": ["all-linear"],
        "packing": True,
    }
    return Inputs(
        model=files / "base",
        model_name=NAME,
        context_tokens=256,
        parameters=WEIGHTS,
        training_rows=files / "training.jsonl",
        validation_rows=None,
        general_rows=None,
        hyperparameters=ResolvedHyperparameters(**(defaults | chosen)),
        seed=2**40 + 3,
        folder=run,
    )


def table(outputs: Outputs) -> list[dict[str, str]]:
    with outputs.metrics_file.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def adapter_bytes(outputs: Outputs) -> list[bytes]:
    return [path.read_bytes() for path in outputs.model_files]


def test_a_run_learns_its_rows_and_leaves_an_adapter(files: Path, tmp_path: Path) -> None:
    board = Counting()
    outputs = tune(inputs_of(files, tmp_path / "run"), board)

    steps = table(outputs)
    assert [int(step["step"]) for step in steps] == list(range(1, STEPS + 1))
    losses = [float(step["train_loss"]) for step in steps]
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])
    assert outputs.metrics.keys() == {"train_loss", "train_mean_token_accuracy"}
    assert outputs.metrics["train_loss"] == pytest.approx(sum(losses[-3:]) / 3, abs=1e-4)
    assert {step["valid_loss"] for step in steps} == {""}

    assert [path.name for path in outputs.model_files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "probe.json",
    ]
    config = json.loads(outputs.model_files[0].read_text())
    assert config["base_model_name_or_path"] == NAME
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8, "LORA")

    assert outputs.quantized_layers == 14
    assert outputs.trainable_parameters == 2 * 4 * (4 * (32 + 32) + 3 * (32 + 64))
    assert outputs.total_parameters == WEIGHTS
    assert outputs.trained_tokens == ROWS * ROW_TOKENS * EPOCHS
    assert board.said() == [
        "14 linear layers in NF4 with double quantization; 4,352 of 30,000 weights are tuned "
        "(14.5%), computed in float32",
        f"{ROWS} rows of {ROWS * ROW_TOKENS} tokens an epoch",
    ]
    assert (board.progress.step, board.progress.total_steps) == (STEPS, STEPS)
    assert board.progress.epoch == EPOCHS
    assert board.steps == STEPS


def test_the_reported_validation_loss_is_that_of_the_stored_adapter(
    files: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    inputs = dataclasses.replace(
        inputs_of(files, tmp_path / "run"), validation_rows=files / "validation.jsonl"
    )
    outputs = tune(inputs, Counting())
    judged = {int(step["step"]): step for step in table(outputs) if step["valid_loss"]}
    assert max(judged) == STEPS, "the last step is judged, too"
    assert 5 <= len(judged) <= 10
    losses = [float(step["valid_loss"]) for step in judged.values()]
    assert losses[-1] < 0.7 * losses[0]
    assert float(judged[STEPS]["valid_mean_token_accuracy"]) > 0.3
    assert outputs.metrics["valid_loss"] == pytest.approx(min(losses), abs=1e-4)
    assert losses.index(min(losses)) == list(judged).index(outputs.best_step)

    tokenizer = load_tokenizer(files / "base")
    rows = load(files / "validation.jsonl", CausalFormat(tokenizer, 256), 256).rows
    base = load_model(files / "base", inputs.hyperparameters)
    model: Any = PeftModel.from_pretrained(base, tmp_path / "run/adapter")
    with torch.no_grad():
        loss = model.eval()(**LineCollator(tokenizer.pad_token_id)(rows)).loss
    assert float(loss) == pytest.approx(outputs.metrics["valid_loss"], abs=1e-4)


def test_general_rows_are_read_along_and_not_counted(files: Path, tmp_path: Path) -> None:
    inputs = inputs_of(files, tmp_path / "with", retain_share=0.2, epoch_count=2)
    board = Counting()
    outputs = tune(dataclasses.replace(inputs, general_rows=files / "general.jsonl"), board)
    alone = tune(inputs_of(files, tmp_path / "without", epoch_count=2), Counting())
    assert outputs.trained_tokens == alone.trained_tokens == 2 * ROWS * ROW_TOKENS
    assert len(table(outputs)) == len(table(alone)) == 2 * ROWS // BATCH
    assert adapter_bytes(outputs) != adapter_bytes(alone)
    assert f"{ROWS} rows of {ROWS * ROW_TOKENS} tokens an epoch" in board.said()


def test_rows_beyond_the_context_are_announced(files: Path, tmp_path: Path) -> None:
    long = files / "with_long.jsonl"
    long.write_text(
        write_rows(tmp_path / "long.jsonl", "y", answer="very " * 50 + "{}").read_text()
    )
    with long.open("a") as file:
        file.write((files / "training.jsonl").read_text())
    inputs = inputs_of(files, tmp_path / "run", epoch_count=1)
    board = Counting()
    outputs = tune(dataclasses.replace(inputs, training_rows=long), board)
    assert board.said()[-1] == "1 rows are longer than 256 tokens and are left out"
    assert outputs.trained_tokens == ROWS * ROW_TOKENS


def test_inputs_and_seed_decide_every_byte(files: Path, tmp_path: Path) -> None:
    def run(name: str, seed: int) -> list[bytes]:
        inputs = inputs_of(files, tmp_path / name, epoch_count=2)
        outputs = tune(dataclasses.replace(inputs, seed=seed), Counting())
        return [*adapter_bytes(outputs), outputs.metrics_file.read_bytes()]

    first = run("one", 7)
    torch.manual_seed(12345)  # what else goes on in the process plays no part
    assert run("two", 7) == first
    assert run("three", 8)[1:] != first[1:]


def test_a_run_told_to_stop_stops_at_once_and_leaves_no_adapter(
    files: Path, tmp_path: Path
) -> None:
    board = Counting(stop_at=4)
    with pytest.raises(Stopped):
        tune(inputs_of(files, tmp_path / "run"), board)
    assert board.steps == 4
    assert not (tmp_path / "run" / "adapter").exists()


@pytest.mark.parametrize("judged", [False, True])
def test_a_run_that_diverges_says_so_and_what_to_do(
    files: Path, tmp_path: Path, judged: bool
) -> None:
    inputs = inputs_of(files, tmp_path / "run", learning_rate=1e6)
    validation = files / "validation.jsonl" if judged else None
    board = Counting()
    with pytest.raises(FailedPrecondition, match=r"at step \d+; try a smaller") as diverged:
        tune(dataclasses.replace(inputs, validation_rows=validation), board)
    assert diverged.value.reason == "DIVERGED"
    assert board.steps < STEPS
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_run_told_to_give_back_goes_on_to_the_same_end(files: Path, tmp_path: Path) -> None:
    def inputs_in(name: str) -> Inputs:
        inputs = inputs_of(files, tmp_path / name, retain_share=0.2, lora_dropout=0.1)
        return dataclasses.replace(
            inputs,
            general_rows=files / "general.jsonl",
            validation_rows=files / "validation.jsonl",
        )

    unbroken = tune(inputs_in("unbroken"), Counting())
    # At the end of a step, and in an evaluation, also one that has to be made up for.
    at = 0
    for epoch, pause_at in enumerate((3, 4, 4, 6, 1), start=1):
        board = Counting(pause_at=pause_at)
        with pytest.raises(GaveBack):
            tune(dataclasses.replace(inputs_in("paused"), epoch=epoch), board)
        state = resume_state.newest(tmp_path / "paused" / STATES)
        assert state is not None
        assert resume_state.step_of(state) == (board.progress.step or at), "no step is lost"
        at = resume_state.step_of(state)
    assert 5 < at < STEPS
    outputs = tune(dataclasses.replace(inputs_in("paused"), epoch=6), Counting())
    assert table(outputs) == table(unbroken)
    assert outputs.metrics == unbroken.metrics
    assert adapter_bytes(outputs) == adapter_bytes(unbroken)


def test_a_run_told_to_give_back_before_it_has_begun_leaves_nothing(
    files: Path, tmp_path: Path
) -> None:
    with pytest.raises(GaveBack):
        tune(inputs_of(files, tmp_path / "run"), Counting(pause_at=0))
    assert resume_state.newest(tmp_path / "run" / STATES) is None


KILLED_AT = 8
BETWEEN_STEPS, WHILE_SAVING = "between steps", "while saving"


def die_at_a_step(files: Path, run: Path, moment: str) -> None:
    """What the doomed process does: it saves at every step, and is killed at one."""
    schedule._PERIOD_SECONDS = 0.0
    schedule._MOST_SHARE = 1e9

    class Doomed(Counting):
        def check(self) -> None:
            super().check()
            if self.steps == KILLED_AT and moment == BETWEEN_STEPS:
                os.kill(os.getpid(), signal.SIGKILL)

    board = Doomed()
    save_optimizer = resume_state._save_optimizer

    def save_or_die(optimizer: Any, folder: Path) -> None:
        if board.steps == KILLED_AT:  # the weights are written, the rest is not
            os.kill(os.getpid(), signal.SIGKILL)
        save_optimizer(optimizer, folder)

    resume_state._save_optimizer = save_or_die
    inputs = inputs_of(files, run, retain_share=0.2)
    tune(dataclasses.replace(inputs, general_rows=files / "general.jsonl"), board)


@pytest.fixture(scope="module")
def unbroken(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    run = tmp_path_factory.mktemp("unbroken")
    inputs = inputs_of(files, run, retain_share=0.2)
    return tune(dataclasses.replace(inputs, general_rows=files / "general.jsonl"), Counting())


@pytest.mark.parametrize("moment", [BETWEEN_STEPS, WHILE_SAVING])
def test_a_killed_run_goes_on_from_its_last_state_to_the_same_end(
    files: Path, tmp_path: Path, unbroken: Outputs, moment: str
) -> None:
    run = tmp_path / "run"
    killed = subprocess.run(
        [sys.executable, "-m", "tests.training.test_run_tune", str(files), str(run), moment],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = sorted(path.name for path in (run / STATES / "1").iterdir())
    half = [f".state-{KILLED_AT}.unfinished"] if moment == WHILE_SAVING else []
    assert left == [*half, f"state-{KILLED_AT - 2}", f"state-{KILLED_AT - 1}"]

    board = Counting()
    inputs = inputs_of(files, run, retain_share=0.2)
    outputs = tune(dataclasses.replace(inputs, general_rows=files / "general.jsonl"), board)
    assert board.steps == STEPS - (KILLED_AT - 1), "only what was not done yet"
    assert board.progress.step == STEPS
    assert table(outputs) == table(unbroken)
    assert len(table(outputs)) == STEPS
    assert outputs.metrics == unbroken.metrics
    assert adapter_bytes(outputs) == adapter_bytes(unbroken)


if __name__ == "__main__":
    die_at_a_step(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
