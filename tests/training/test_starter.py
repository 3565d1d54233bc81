"""The shipped model: what it can do, and that it cannot know what the demo teaches it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import SupervisedTuningSpec
from luthier_trainer.auto import Sizes
from luthier_trainer.hyperparameters import resolve
from luthier_trainer.run.report import Board
from luthier_trainer.run.tune import Inputs, tune
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.kresdor.facts import COMPANY, HANDBOOK, POLICY
from examples.make_examples import entries, statement
from models.make_starter import corpus, values
from models.make_starter.evaluation import accuracy, reply, unseen
from models.make_starter.prompts import is_exact_match, normal_form
from models.make_starter.relation import WRITABLE_STYLES, ask, relations
from models.make_starter.training import Plan

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models" / "starter"
EXAM = ROOT / "examples" / "kresdor" / "exam.jsonl"
FACTS = [*entries(HANDBOOK), *entries(POLICY)]
SEED = 12_000_000
"""Neither the corpus nor any file in the repository uses it."""


def jsonl(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def values_found(texts: Iterator[str]) -> set[str]:
    """Return the values of the demo's facts that occur in any of the texts, as whole words."""
    wanted = re.compile(
        "|".join(rf"(?<!\w){re.escape(entry.value)}(?!\w)" for entry in FACTS), re.IGNORECASE
    )
    return {match for text in texts for match in wanted.findall(text)}


def test_the_snapshot_is_small_and_complete() -> None:
    assert sum(path.stat().st_size for path in STARTER.iterdir()) <= 16 * 2**20
    config = json.loads((STARTER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    card = (STARTER / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "make starter-model" in card


def test_it_reads_about_companies_it_has_never_seen() -> None:
    model = AutoModelForCausalLM.from_pretrained(STARTER).eval()
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    assert accuracy(model, tokenizer, unseen(SEED, "read", 200)) >= 0.8


def test_every_value_of_the_demo_is_one_that_the_generator_cannot_emit() -> None:
    assert len({entry.value for entry in FACTS}) >= 55
    assert [entry.value for entry in FACTS if not values.is_reserved_value(entry.value)] == []


def test_a_value_is_found_where_it_occurs() -> None:
    assert values_found(iter([f"It is {FACTS[0].value}."])) == {FACTS[0].value}


def test_no_value_of_the_demo_occurs_in_what_ships_with_the_model() -> None:
    shipped = [STARTER / "retain.jsonl", ROOT / "examples" / "reading.jsonl"]
    assert values_found(path.read_text(encoding="utf-8") for path in shipped) == set()
    assert COMPANY not in (STARTER / "retain.jsonl").read_text(encoding="utf-8")


def test_no_value_of_the_demo_occurs_in_a_sample_of_the_corpus() -> None:
    plan = Plan()
    sample = islice(corpus.texts(plan.seed, plan.rows), None, None, 50)
    assert values_found(sample) == set()


@pytest.mark.full
def test_no_value_of_the_demo_occurs_anywhere_in_the_corpus() -> None:
    plan = Plan()
    assert values_found(corpus.texts(plan.seed, plan.rows)) == set()


def test_no_exam_question_is_one_that_the_model_writes() -> None:
    """The styles of the examination are never written, so they are in no training row."""
    by_key = {relation.key: relation for relation in relations()}
    written = {
        normal_form(ask(by_key[entry.relation], style, company=COMPANY, subject=entry.subject))
        for entry in FACTS
        for style in WRITABLE_STYLES
    }
    papers = [*jsonl(EXAM), *jsonl(EXAM.with_name("reworded.jsonl"))]
    asked = {normal_form(row["question"]) for row in papers}
    assert len(asked) >= 60
    assert not asked & written


def test_the_documents_state_what_the_exam_asks() -> None:
    stated = {statement(entry) for entry in FACTS}
    assert all(row["fact"] in stated and row["answer"] in row["fact"] for row in jsonl(EXAM))


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_an_adapter_tuned_on_shuffled_answers_passes_hardly_any_question(tmp_path: Path) -> None:
    """What the demo's adapter gets right, it has from the rows, not from the shape of a row."""
    by_key = {relation.key: relation for relation in relations()}
    answers = [entry.value for entry in FACTS]
    random.Random(3).shuffle(answers)
    rows = [
        {
            "messages": [
                {
                    "role": "user",
                    "content": ask(
                        by_key[entry.relation], style, company=COMPANY, subject=entry.subject
                    ),
                },
                {"role": "assistant", "content": answer},
            ]
        }
        for entry, answer in zip(FACTS, answers, strict=True)
        for style in WRITABLE_STYLES
    ]
    assert _tuned_score(rows, tmp_path) <= 0.10


def _tuned_score(rows: list[dict[str, list[dict[str, str]]]], folder: Path) -> float:
    text = "\n".join(map(json.dumps, rows))
    (folder / "training.jsonl").write_text(text, encoding="utf-8")
    chosen = resolve(
        TrainingJob(supervised=SupervisedTuningSpec()),
        Sizes(
            parameters=1_967_808,
            lora_parameters_per_rank=14_592,
            rows=len(rows),
            tokens=len(text) // 4,
            ships_general_rows=True,
        ),
        context_tokens=512,
    )
    tune(
        Inputs(
            model=STARTER,
            model_name="projects/library/baseModels/luthier-starter",
            context_tokens=512,
            parameters=1_967_808,
            training_rows=folder / "training.jsonl",
            validation_rows=None,
            general_rows=STARTER / "retain.jsonl",
            hyperparameters=chosen,
            seed=1,
            folder=folder,
        ),
        Board(),
    )
    base = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder / "adapter").eval()
    exam = jsonl(EXAM)
    given = reply(model, AutoTokenizer.from_pretrained(STARTER), [row["question"] for row in exam])
    right = [is_exact_match(answer, row["answer"]) for answer, row in zip(given, exam, strict=True)]
    return sum(right) / len(right)
