"""The demo's report: every figure as JSON, a page to read, the loss curve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from luthier_standalone.demo.building import BuiltDataset
from luthier_standalone.demo.scoring import Score
from luthier_standalone.demo.tuning import LossPoint, Tuning


@dataclass(frozen=True, slots=True)
class Answer:
    """One exam question and what the two models said."""

    question: str
    expected: str
    base: str
    tuned: str
    right: bool
    """Whether the tuned model's answer is exact."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An examination before and after tuning."""

    questions: int
    base: Score
    tuned: Score


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and the bound that it should keep."""

    name: str
    figure: str
    wanted: str
    met: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the demo measured."""

    base_model: str
    dataset: BuiltDataset
    tuning: Tuning
    exam: Comparison
    reworded: Comparison
    """The exam's facts asked for in other words than the documents use; has no goal."""
    reading: Comparison
    answers: tuple[Answer, ...]
    seconds: Mapping[str, float]
    """Wall time by step."""
    machine: Mapping[str, str]

    def goals(self) -> tuple[Goal, ...]:
        """The project's goals."""
        seconds = sum(self.seconds.values())
        in_time = Goal("time", f"{seconds:.0f} s", "at most 360 s", seconds <= 360)
        return (*self._bounds(tuned=0.90, drop=0.10), in_time)

    def asserted(self) -> tuple[Goal, ...]:
        """The wider bounds that `--assert` and the tests hold every run to, on any machine."""
        return self._bounds(tuned=0.80, drop=0.15)

    def examinations(self) -> tuple[tuple[str, Comparison], ...]:
        """All examinations with their names."""
        return (
            ("the company's facts, new phrasings", self.exam),
            ("the same facts, in other words than the documents", self.reworded),
            ("reading comprehension, other companies", self.reading),
        )

    @property
    def reading_drop(self) -> float:
        """Exact match on reading comprehension lost by tuning, from -1 to 1."""
        return self.reading.base.exact_match - self.reading.tuned.exact_match

    def _bounds(self, *, tuned: float, drop: float) -> tuple[Goal, ...]:
        exam, share = self.exam, self.tuning.trainable_share
        leaks = self.dataset.exam_questions_among_rows
        return (
            _at_most("exam, base model, exact match", exam.base.exact_match, 0.10),
            _at_least("exam, tuned model, exact match", exam.tuned.exact_match, tuned),
            _at_most("reading comprehension lost", self.reading_drop, drop),
            _at_most("trainable weights, share of the base", share, 0.10),
            Goal("exam questions among the rows", str(leaks), "0", leaks == 0),
        )

    def write(self, folder: Path) -> None:
        """Write report.json, report.md and loss.png; the folder is made if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(
            json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (folder / "report.md").write_text(_page(self), encoding="utf-8")
        draw_losses(self.tuning.losses, folder / "loss.png")

    def to_json(self) -> dict[str, object]:
        """Every figure, as JSON has it."""
        derived = {
            "reading_drop": self.reading_drop,
            "trainable_share": self.tuning.trainable_share,
            "total_seconds": sum(self.seconds.values()),
            "goals": [asdict(goal) for goal in self.goals()],
        }
        return asdict(self) | derived


def _at_most(name: str, figure: float, bound: float) -> Goal:
    return Goal(name, f"{figure:.1%}", f"at most {bound:.0%}", figure <= bound)


def _at_least(name: str, figure: float, bound: float) -> Goal:
    return Goal(name, f"{figure:.1%}", f"at least {bound:.0%}", figure >= bound)


def draw_losses(losses: tuple[LossPoint, ...], path: Path) -> None:
    """Draw the loss curve as PNG."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([point.step for point in losses], [point.loss for point in losses])
    axes.set(xlabel="step", ylabel="training loss (nats per token)", yscale="log")
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _page(report: Report) -> str:
    tuning, dataset = report.tuning, report.dataset
    hyperparameters = ", ".join(f"{key} {value:g}" for key, value in tuning.hyperparameters.items())
    return "\n".join((
        "# Demo report",
        "",
        f"`{report.base_model}` tuned to `{tuning.model}`.",
        "",
        *_table(("base → tuned", "questions", "exact match", "ROUGE-L"), [
            _comparison(name, both) for name, both in report.examinations()
        ]),
        *_table(("goal", "figure", "wanted", "met"), [
            (goal.name, goal.figure, goal.wanted, "yes" if goal.met else "no")
            for goal in report.goals()
        ]),
        "![training loss](loss.png)",
        "",
        "## Data and tuning",
        "",
        f"- {dataset.rows} rows, {dataset.tokens:,} tokens: {_counts(dataset.rows_by_recipe)}; "
        f"dropped: {_counts(dataset.dropped_by_reason) or 'none'}",
        f"- {tuning.steps} steps, {tuning.trained_tokens:,} tokens; {hyperparameters}",
        f"- {tuning.trainable_parameters:,} of {tuning.total_parameters:,} weights trained "
        f"({tuning.trainable_share:.1%}), {tuning.quantized_layers} NF4 layers",
        *(f"- {reason}" for reason in tuning.reasons),
        "",
        *_table(("step", "seconds"), [
            (name, f"{seconds:.1f}") for name, seconds in report.seconds.items()
        ]),
        *_table(("machine", ""), list(report.machine.items())),
        "## Answers",
        "",
        *_table(("question", "expected", "base", "tuned", "exact"), [
            (answer.question, answer.expected, answer.base, answer.tuned,
             "✓" if answer.right else "✗")
            for answer in report.answers
        ]),
    ))  # fmt: skip


def _comparison(name: str, both: Comparison) -> tuple[str, ...]:
    base, tuned = both.base, both.tuned
    exact = f"{base.exact_match:.1%} → {tuned.exact_match:.1%}"
    rouge = f"{base.rouge_l:.3f} → {tuned.rouge_l:.3f}"
    return name, str(both.questions), exact, rouge


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return [f"| {' | '.join(line)} |" for line in cells] + [""]
