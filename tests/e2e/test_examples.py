"""The examples at a small scale, on one platform, by their own commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import openai
import pytest

from examples.alpaca import bare_starter, instructions
from examples.alpaca.__main__ import main as alpaca
from examples.summarisation.__main__ import WALK_THROUGH
from examples.summarisation.__main__ import main as summarisation
from tests.support.luthier_up import LuthierUp, luthier_up, until

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LuthierUp]:
    folder = tmp_path_factory.mktemp("examples")
    t5, bare = folder / "t5", folder / "bare"
    maker = [sys.executable, "-m", "examples.summarisation.small_t5", str(t5), "--steps", "150"]
    subprocess.run(maker, cwd=ROOT, check=True, capture_output=True)
    bare_starter.save(bare)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        models = ("--model", f"{t5}=small-t5", "--model", f"{bare}=bare-starter")
        with luthier_up(folder / "data", *models) as running:
            yield running


def options(platform: LuthierUp) -> list[str]:
    """Where the platform is, as the examples want to be told."""
    at = platform.connection
    return ["--base-url", at["rest"], "--grpc", at["grpc"], "--api-key", at["api_key"]]


def newest(platform: LuthierUp) -> dict[str, Any]:
    """The job that was created last, extensions and all."""
    return platform.client.fine_tuning.jobs.list(limit=1).data[0].to_dict()


def test_summaries_get_better_with_the_settings_of_the_walk_through(
    platform: LuthierUp, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--rows", "160", "--epochs", "6", "--learning-rate-multiplier", "2"]
    figures = summarisation([*options(platform), *small])
    for rouge in ("rouge1", "rouge2", "rougeL"):
        assert figures[rouge] > figures[f"base_{rouge}"] > 0.1
    job = newest(platform)
    used = job["method"]["supervised"]["hyperparameters"]
    assert {name: used[name] for name in WALK_THROUGH} == WALK_THROUGH | {
        "n_epochs": 6,
        "target_modules": ["q", "v"],
    }
    printed = capsys.readouterr().out
    for shown in (job["fine_tuned_model"], "weights in FP32", "rouge1", "rougeL"):
        assert shown in printed


def test_a_model_without_chat_template_learns_instructions(platform: LuthierUp) -> None:
    figures = alpaca([*options(platform), "--rows", "80", "--epochs", "2"])
    for name in ("rouge1", "rougeL"):
        assert figures[name] > figures[f"base_{name}"]
    assert figures["valid_loss"] < figures["base_valid_loss"]
    job = newest(platform)
    used = job["method"]["supervised"]["hyperparameters"]
    assert (used["base_precision"], used["double_quantization"]) == ("nf4", True)
    assert used["target_modules"] == ["all-linear"]
    assert job["fine_tuned_model"] in {model.id for model in platform.client.models.list()}
    with pytest.raises(openai.BadRequestError, match="chat template"):
        platform.ask(job["fine_tuned_model"], "What is the fee?")


def test_the_recipe_of_the_readme_makes_the_rows_of_the_example(platform: LuthierUp) -> None:
    text = (ROOT / "examples" / "alpaca" / "README.md").read_text(encoding="utf-8")
    recipe = json.loads(text.partition("```json\n")[2].partition("```")[0])
    told = [one for one in islice(instructions.records(3), 40) if one["input"]]
    lines = "".join(json.dumps(one) + "\n" for one in told)
    file = platform.client.files.create(file=("alpaca.jsonl", lines.encode()), purpose="user_data")
    body = {"model": "bare-starter", "source_files": [file.id], "recipes": [recipe]}
    made: Any = platform.client.post("/datasets", body=body, cast_to=object)

    def built() -> Any:
        found: Any = platform.client.get(f"/datasets/{made['id']}", cast_to=object)
        return found if found["status"] != "building" else None

    found = until(built, 60)
    assert found["status"] == "ready", found["error"]
    minted = platform.client.files.content(found["file"]).text.splitlines()
    assert [json.loads(line) for line in minted] == [
        {"prompt": instructions.prompt_of(one), "completion": one["output"]} for one in told
    ]
