"""Preference tuning: DPO (Rafailov et al. 2023, equation 7), whatever is tuned and however held."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier.trainer.v1.tuning_pb2 import BF16, FP32, FULL, INT8
from luthier_common.errors import InvalidArgument
from luthier_trainer.run.data import load
from luthier_trainer.run.model import load_model, load_tokenizer
from luthier_trainer.run.rows import PreferenceFormat, Row
from torch.nn.functional import logsigmoid

from tests.support.tiny_runs import (
    CHAT,
    CONTEXT,
    PREFERENCE,
    STEPS,
    Run,
    frozen,
    inputs_of,
    reloaded,
    run,
)

HELD: dict[str, tuple[dict[str, Any], float]] = {
    "nf4": ({}, 1e-3),
    "fp32": ({"base_precision": FP32}, 1e-3),
    "bf16": ({"base_precision": BF16}, 0.1),
    "int8": ({"base_precision": INT8}, 0.1),
    "full": ({"tuning_mode": FULL, "base_precision": FP32}, 1e-3),
    "full, bf16": ({"tuning_mode": FULL, "base_precision": BF16}, 0.1),
}
SLOW: dict[str, Any] = {"learning_rate": 4e-3}
"""So slow that the loss does not come near zero."""


@pytest.fixture(scope="module")
def judged_rows(llama: Path, rows: Path) -> list[Row]:
    form = PreferenceFormat(load_tokenizer(llama))
    return load(rows / f"{PREFERENCE}_judged.jsonl", form, CONTEXT).rows


@torch.no_grad()
def log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    """Return the natural logarithm of the probability that a model gives an answer."""
    given = torch.tensor([prompt + answer])
    scores = model(input_ids=given, use_cache=False).logits[0].float().log_softmax(-1)
    places = torch.arange(len(prompt) - 1, given.shape[1] - 1)
    return float(scores[places, given[0, len(prompt) :]].sum())


def margins(policy: Any, reference: Any, rows: list[Row]) -> list[float]:
    """Return, by row, the argument of equation 7's sigmoid over beta."""
    return [
        sum(
            sign
            * (
                log_probability(policy, row["prompt_ids"], row[answer])
                - log_probability(reference, row["prompt_ids"], row[answer])
            )
            for answer, sign in (("chosen_ids", 1), ("rejected_ids", -1))
        )
        for row in rows
    ]


def loss_of(margins: list[float], beta: float) -> float:
    return -float(logsigmoid(beta * torch.tensor(margins)).mean())


@pytest.mark.parametrize("held", HELD)
def test_preferred_answers_become_likelier_than_the_others(
    held: str, llama: Path, rows: Path, tmp_path: Path, judged_rows: list[Row]
) -> None:
    chosen, exactly = HELD[held]
    options = SLOW | chosen
    inputs = inputs_of(llama, rows, tmp_path, PREFERENCE, judged=True, **options)
    tuned = run(inputs)
    assert len(tuned.losses) == STEPS
    assert tuned.losses[0] == pytest.approx(math.log(2), abs=1e-3), "nothing has been learned yet"
    assert tuned.losses[-1] < 0.9 * math.log(2)
    metrics = tuned.outputs.metrics
    assert metrics["base_valid_loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert metrics["base_valid_reward_margin"] == pytest.approx(0, abs=1e-3)
    assert metrics["valid_reward_accuracy"] == 1
    assert "perplexity" not in metrics, "the loss is none of tokens"

    reference = reloaded(llama, inputs.hyperparameters)
    if "full" in held:
        policy = reloaded(tuned.folder, inputs.hyperparameters)
    else:
        assert {weight.dtype for weight in tuned.weights.values()} == {torch.float32}
        before, after = frozen(load_model(llama, inputs.hyperparameters)), frozen(tuned.model)
        assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
        assert [path.name for path in tuned.folder.iterdir() if path.is_dir()] == [], (
            "the reference is not part of the result"
        )
        policy = reloaded(llama, inputs.hyperparameters, tuned.folder)
    found = margins(policy, reference, judged_rows)
    assert loss_of(found, 0.1) == pytest.approx(metrics["valid_loss"], rel=exactly)
    assert 0.1 * sum(found) / len(found) == pytest.approx(
        metrics["valid_reward_margin"], rel=exactly
    )


def test_beta_holds_the_model_where_it_began(
    llama: Path, rows: Path, tmp_path: Path, judged_rows: list[Row]
) -> None:
    inputs = inputs_of(
        llama, rows, tmp_path, PREFERENCE, judged=True, beta=0.5, base_precision=FP32, **SLOW
    )
    tuned = run(inputs)
    assert tuned.losses[0] == pytest.approx(math.log(2), abs=1e-5), "whatever beta is"
    found = margins(
        reloaded(llama, inputs.hyperparameters, tuned.folder),
        reloaded(llama, inputs.hyperparameters),
        judged_rows,
    )
    reported = tuned.outputs.metrics["valid_loss"]
    assert loss_of(found, 0.5) == pytest.approx(reported, rel=1e-3)
    assert loss_of(found, 0.1) != pytest.approx(reported, rel=0.1)


@pytest.fixture(scope="module")
def supervised(llama: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An adapter that has learned answers."""
    return run(inputs_of(llama, rows, tmp_path_factory.mktemp("supervised"), CHAT))


def test_the_reference_of_a_start_adapter_is_that_adapter(
    llama: Path, rows: Path, tmp_path: Path, judged_rows: list[Row], supervised: Run
) -> None:
    given = supervised.files
    inputs = inputs_of(llama, rows, tmp_path, PREFERENCE, judged=True, **SLOW)
    tuned = run(dataclasses.replace(inputs, start_adapter=supervised.folder))
    assert supervised.files == given
    assert tuned.losses[0] == pytest.approx(math.log(2), abs=1e-5)
    metrics = tuned.outputs.metrics
    assert metrics["base_valid_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["valid_loss"] < 0.9 * math.log(2)
    assert tuned.weights.keys() == supervised.weights.keys()

    policy = reloaded(llama, inputs.hyperparameters, tuned.folder)
    reference = reloaded(llama, inputs.hyperparameters, supervised.folder)
    found = loss_of(margins(policy, reference, judged_rows), 0.1)
    assert found == pytest.approx(metrics["valid_loss"], rel=1e-3)
    base = reloaded(llama, inputs.hyperparameters)
    assert loss_of(margins(policy, base, judged_rows), 0.1) < 0.9 * found


def test_checkpointing_learns_the_same(llama: Path, rows: Path, tmp_path: Path) -> None:
    plain, checkpointed = (
        run(
            inputs_of(
                llama, rows, tmp_path / str(again), PREFERENCE, gradient_checkpointing=again, **SLOW
            )
        )
        for again in (False, True)
    )
    assert checkpointed.losses == pytest.approx(plain.losses, abs=1e-5)


def test_rows_of_answers_are_refused(llama: Path, rows: Path, tmp_path: Path) -> None:
    inputs = inputs_of(llama, rows, tmp_path, CHAT)
    with pytest.raises(InvalidArgument, match="line 1: is not a preference row") as refused:
        run(dataclasses.replace(inputs, preference=True))
    assert refused.value.reason == "NO_PREFERENCE_ROWS"


def test_preference_rows_are_refused_where_answers_are_learned(
    llama: Path, rows: Path, tmp_path: Path
) -> None:
    inputs = inputs_of(llama, rows, tmp_path, PREFERENCE)
    with pytest.raises(InvalidArgument, match="line 1: is a preference row") as refused:
        run(dataclasses.replace(inputs, preference=False))
    assert refused.value.reason == "PREFERENCE_ROWS"
