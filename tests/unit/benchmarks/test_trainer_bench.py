"""The trainer's benchmark compares like with like, and its results can be read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.gpu_qlora import random_nf4
from benchmarks.trainer import materials, quantized, speed
from benchmarks.trainer.child import Run, Task
from benchmarks.trainer.racing import Given, median_speed, race
from benchmarks.trainer.report import TrainerResults
from benchmarks.trainer.speed import DEFAULT, KEPT, OURS, PACKING


def ran(seconds: float = 1.0, losses: tuple[float, ...] = (8.0, 7.0, 6.0, 5.0)) -> Run:
    return Run(seconds, seconds, 0.0, list(losses), [seconds] * len(losses), 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materials.save_model("tiny", tmp_path_factory.mktemp("bench") / "model")


def test_the_models_are_those_of_the_goals() -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    with torch.device("meta"):
        weights = {
            name: AutoModelForCausalLM.from_config(
                LlamaConfig(**materials.settings(name))
            ).num_parameters()
            for name in ("m512", "m1024")
        }
    assert weights == {"m512": 27_402_752, "m1024": 147_612_672}


def test_rows_are_ragged_sound_and_the_same_every_time(model: Path, tmp_path: Path) -> None:
    from luthier_dataset.rows import RowChecker
    from luthier_trainer.run import data
    from luthier_trainer.run.rows import CausalFormat
    from transformers import AutoTokenizer

    path = tmp_path / "rows.jsonl"
    tokens = materials.write_rows(model, path, rows=200, longest=512)
    checker = RowChecker()
    checker.feed(path.read_bytes())
    assert checker.finish() == 200
    rows = data.load(path, CausalFormat(AutoTokenizer.from_pretrained(model), 512), 512)
    assert (rows.tokens, rows.too_long) == (tokens, 0)
    assert 60 <= sorted(rows.lengths)[100] <= 110
    assert max(rows.lengths) > 4 * sorted(rows.lengths)[100] / 1.5
    again = tmp_path / "again.jsonl"
    materials.write_rows(model, again, rows=200, longest=512)
    assert again.read_bytes() == path.read_bytes()


def test_full_rows_fill_their_lines(model: Path, tmp_path: Path) -> None:
    tokens = materials.write_full_rows(model, tmp_path / "rows.jsonl", rows=4, size=128)
    assert 4 * 110 <= tokens <= 4 * 128


def test_luthier_and_trl_learn_the_same(model: Path, tmp_path: Path) -> None:
    adapter = materials.save_adapter(model, tmp_path / "adapter")
    rows = tmp_path / "rows.jsonl"
    tokens = materials.write_rows(model, rows, rows=16, longest=256)
    given = Given(model, adapter, rows, tokens, 256, "fp32")
    exact = speed.EXACT
    runs = race([exact, KEPT], given, rounds=1)
    assert speed.check_same_curve(runs[exact.name][0], runs[KEPT.name][0]) < 1e-3
    assert all(len(told[0].step_seconds) == len(told[0].losses) == 2 for told in runs.values())


def test_other_losses_end_the_benchmark() -> None:
    with pytest.raises(AssertionError, match="do not learn the same"):
        speed.check_same_curve(ran(), ran(losses=(8.1, 7.0, 6.0, 5.0)))
    same = {OURS.name: [ran()], DEFAULT.name: [ran()]}
    assert speed.check_ends(same) == {OURS.name: 5.0, DEFAULT.name: 5.0}
    with pytest.raises(AssertionError, match="do not learn the same"):
        speed.check_ends(same | {PACKING.name: [ran(losses=(8.0, 7.0, 5.9, 6.1, 7.2))]})


def test_figures_are_medians() -> None:
    runs = [ran(seconds=seconds) for seconds in (4.0, 2.0, 100.0)]
    assert median_speed(runs, tokens=400) == 100
    assert quantized.median_step(runs) == 4.0


def test_nf4_weights_are_counted_with_their_scales(tmp_path: Path) -> None:
    # Of layers this small the tables of codes are a good part.
    folder = materials.save_model("small", tmp_path / "model")
    share, whole = quantized.weight_shares(folder)
    assert 0.25 < share < 0.28
    assert share < whole < 1


def test_results_render(tmp_path: Path) -> None:
    outcome = Outcome("Step", "NF4 1.1 s", "bfloat16 1.0 s", 1.1, 1.15, at_most=True)
    results = TrainerResults({"cores": "2"}, {"quantized": Measurement([outcome])}, 61.0)
    results.write(tmp_path)
    page = (tmp_path / "trainer.md").read_text()
    assert page.startswith("# Trainer: speed\n\nMade by `make bench-trainer`")
    assert "atasets" not in page
    assert "| Step | NF4 1.1 s | bfloat16 1.0 s | 1.10x | ≤ 1.15x | yes |" in page
    assert json.loads((tmp_path / "trainer.json").read_text())["facts"] == {"cores": "2"}


def test_a_task_survives_its_process_border() -> None:
    task = Task("m", "a", "r", "f", "bf16", 8, 512, "bf16", 1e-3)
    assert Task(**json.loads(task.spelled())) == task


def test_random_nf4_weights_learn_like_any(model: Path) -> None:
    import torch
    from bitsandbytes.nn import Linear4bit
    from luthier_trainer.run.gradients import check_flow

    made = random_nf4(model)
    layers = [layer for layer in made.modules() if isinstance(layer, Linear4bit)]
    assert len(layers) == 14
    assert all(layer.weight.quant_state.nested for layer in layers)
    assert not any(tensor.is_meta for tensor in [*made.parameters(), *made.buffers()])
    check_flow(made)
    assert torch.isfinite(made(torch.arange(8)[None]).logits).all()


@pytest.mark.full
def test_the_gpu_script_runs_on_a_tiny_model() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_qlora", "--tiny"],
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    runs = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    assert [(run["contender"], run["rows"]) for run in runs] == [
        ("luthier", "full"),
        ("trl", "full"),
        ("luthier", "ragged"),
        ("trl", "ragged"),
    ]
    assert all(run["real_tokens_a_second"] > 0 and run["peak_bytes"] > 0 for run in runs)
    assert "estimate_error" in runs[0]
