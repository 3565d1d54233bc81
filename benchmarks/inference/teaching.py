"""The starter model's adapter, tuned on the facts of the demo, and what it is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import SupervisedTuningSpec
from luthier_trainer.auto import Sizes
from luthier_trainer.hyperparameters import resolve
from luthier_trainer.run.report import Board
from luthier_trainer.run.tune import Inputs, tune

from examples.kresdor.facts import COMPANY, HANDBOOK, POLICY
from examples.make_examples import entries
from models.make_starter.relation import WRITABLE_STYLES, ask, relations

_ROOT = Path(__file__).parents[2]
STARTER = _ROOT / "models" / "starter"
_EXAM = _ROOT / "examples" / "kresdor" / "exam.jsonl"
_READING = _ROOT / "examples" / "reading.jsonl"
_NAME, _CONTEXT = "projects/library/baseModels/luthier-starter", 512
_PARAMETERS, _PER_RANK = 1_967_808, 14_592


@dataclass(frozen=True)
class Question:
    """A question of an examination."""

    asked: str
    answer: str


def exam() -> list[Question]:
    """Return the demo's examination: its wordings are never taught."""
    return [Question(row["question"], row["answer"]) for row in _rows(_EXAM)]


def reading(count: int) -> list[Question]:
    """Return questions about texts, which the model answers without an adapter."""
    return [
        Question(f"Context: {row['context']}\nQuestion: {row['question']}", row["answer"])
        for row in _rows(_READING)[:count]
    ]


def teach(epochs: int, folder: Path) -> Path:
    """Tune an adapter on the demo's facts, as a job of default settings does.

    `epochs` other than 0 replaces how often it goes over the rows.
    """
    rows = _lessons()
    text = "\n".join(map(json.dumps, rows))
    path = folder / "lessons.jsonl"
    path.write_text(text, encoding="utf-8")
    sizes = Sizes(
        parameters=_PARAMETERS,
        lora_parameters_per_rank=_PER_RANK,
        rows=len(rows),
        tokens=len(text) // 4,
        ships_general_rows=True,
    )
    spec = TrainingJob(supervised=SupervisedTuningSpec())
    chosen = resolve(spec, sizes, context_tokens=_CONTEXT)
    chosen.epoch_count = epochs or chosen.epoch_count
    inputs = Inputs(
        model=STARTER,
        model_name=_NAME,
        context_tokens=_CONTEXT,
        parameters=_PARAMETERS,
        training_rows=path,
        validation_rows=None,
        general_rows=STARTER / "retain.jsonl",
        hyperparameters=chosen,
        seed=1,
        folder=folder,
    )
    tune(inputs, Board())
    return folder / "adapter"


def _lessons() -> list[dict[str, list[dict[str, str]]]]:
    by_key = {relation.key: relation for relation in relations()}
    taught = [*entries(HANDBOOK), *entries(POLICY)]
    return [
        {
            "messages": [
                {
                    "role": "user",
                    "content": ask(
                        by_key[entry.relation], style, company=COMPANY, subject=entry.subject
                    ),
                },
                {"role": "assistant", "content": entry.value},
            ]
        }
        for entry in taught
        for style in WRITABLE_STYLES
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
