"""The demo's six steps, reading top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from luthier_common.errors import FailedPrecondition
from openai import AsyncOpenAI
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from luthier_standalone.data_dir import Connection
from luthier_standalone.demo import building, tuning
from luthier_standalone.demo.asking import ask_all, stream_answer
from luthier_standalone.demo.examples import COMPANY, Examples, Question, load_examples
from luthier_standalone.demo.machine import machine_facts
from luthier_standalone.demo.report import Answer, Comparison, Goal, Report
from luthier_standalone.demo.scoring import is_right, judge
from luthier_standalone.gateway import Gateway

_SHOWN_ANSWERS = 20


class _Steps:
    """Announces the steps and takes their time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """Time a block under a heading."""
        self._console.print(f"\n[bold]{len(self.seconds) + 1}. {title}[/bold]")
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


async def run_demo(
    connection: Connection, out: Path, console: Console, setup_seconds: float = 0.0
) -> Report:
    """Run the main job through a platform's public API and write the report into `out`.

    `setup_seconds` is what starting the platform took; it counts. PlatformError or
    openai.APIError when a step fails.
    """
    examples = load_examples()
    base = _base_model(connection)
    steps = _Steps(console)
    if setup_seconds:
        steps.seconds["start"] = setup_seconds
    client = AsyncOpenAI(base_url=connection.rest, api_key=connection.api_key)
    async with client, Gateway(connection) as gateway:
        with steps.step("upload", f"Upload the documents of {COMPANY}"):
            file_ids = await building.upload(client, console, examples.documents)
        with steps.step("dataset", "Build a dataset: headings, and questions the model writes"):
            dataset = await building.build(gateway, console, file_ids, base)
            exam = [question.prompt for question in (*examples.exam, *examples.reworded)]
            built = await building.inspect(client, gateway, console, dataset, exam)
        with steps.step("tuning", f"Tune {base} with QLoRA, everything on auto"):
            job = await tuning.create_job(client, base, built.file_id)
            job = await tuning.follow(client, console, job)
            tuned = await tuning.outcome(client, gateway, job)
        with steps.step("chat", "Ask both models"):
            await _chat(client, console, (base, tuned.model), examples.exam[0])
        with steps.step("exam", "Examine both models"):
            exams = await _examine(client, console, (base, tuned.model), examples)
    report = Report(
        base_model=base,
        dataset=built,
        tuning=tuned,
        exam=exams["exam"].comparison,
        reworded=exams["reworded"].comparison,
        reading=exams["reading"].comparison,
        answers=exams["exam"].answers,
        seconds=steps.seconds,
        machine=machine_facts(),
    )
    with steps.step("report", "Report"):
        report.write(out)
        _show_report(console, report, out)
    return report


def _base_model(connection: Connection) -> str:
    if not connection.models:
        raise FailedPrecondition("the platform has no base model", reason="NO_BASE_MODEL")
    return connection.models[0]


async def _chat(
    client: AsyncOpenAI, console: Console, models: Sequence[str], question: Question
) -> None:
    console.print(f"  {question.prompt}")
    for model in models:
        console.print(f"  [cyan]{model}[/cyan]: ", end="")
        async for piece in stream_answer(client, model, question.prompt):
            console.print(piece, end="", markup=False, highlight=False)
        console.print()


@dataclass(frozen=True, slots=True)
class _Examination:
    """What two models answered, and how well."""

    answers: tuple[Answer, ...]
    comparison: Comparison


async def _examine(
    client: AsyncOpenAI, console: Console, models: tuple[str, str], examples: Examples
) -> dict[str, _Examination]:
    """Ask base and tuned model everything."""
    papers = {
        "exam": (f"{COMPANY}", examples.exam),
        "reworded": (f"{COMPANY}, in other words", examples.reworded),
        "reading": ("reading comprehension", examples.reading),
    }
    done = {}
    with _progress(console) as progress:

        async def ask(model: str, label: str, questions: Sequence[Question]) -> list[str]:
            task = progress.add_task(label, total=len(questions))
            prompts = [question.prompt for question in questions]
            return await ask_all(client, model, prompts, lambda: progress.advance(task))

        for name, (label, questions) in papers.items():
            before = await ask(models[0], f"{label}, base", questions)
            after = await ask(models[1], f"{label}, tuned", questions)
            done[name] = _judged(questions, before, after)
    return done


def _judged(
    questions: Sequence[Question], before: Sequence[str], after: Sequence[str]
) -> _Examination:
    expected = [question.answer for question in questions]
    answers = tuple(
        Answer(question.prompt, question.answer, *pair, is_right(pair[1], question.answer))
        for question, pair in zip(questions, zip(before, after, strict=True), strict=True)
    )
    scores = Comparison(len(questions), judge(before, expected), judge(after, expected))
    return _Examination(answers, scores)


def _show_report(console: Console, report: Report, out: Path) -> None:
    console.print(_answer_table(report.answers))
    left = len(report.answers) - _SHOWN_ANSWERS
    if left > 0:
        console.print(f"  … and {left} more in the report")
    scores = Table("examination", "questions", "exact match", "ROUGE-L", title_justify="left")
    for name, both in report.examinations():
        exact = f"{both.base.exact_match:.1%} → {both.tuned.exact_match:.1%}"
        rouge = f"{both.base.rouge_l:.3f} → {both.tuned.rouge_l:.3f}"
        scores.add_row(name, str(both.questions), exact, rouge)
    console.print(scores)
    console.print(goal_table("goals", report.goals()))
    console.print(f"  report: {out / 'report.md'}, {out / 'report.json'}, {out / 'loss.png'}")


def goal_table(title: str, goals: Sequence[Goal]) -> Table:
    """A table of figures beside what was wanted of them."""
    table = Table("figure", "measured", "wanted", "", title=title, title_justify="left")
    for goal in goals:
        mark = "[green]✓[/green]" if goal.met else "[red]✗[/red]"
        table.add_row(goal.name, goal.figure, goal.wanted, mark)
    return table


def _answer_table(answers: Sequence[Answer]) -> Table:
    table = Table("question", "base", "tuned", "", title="the exam", title_justify="left")
    for answer in answers[:_SHOWN_ANSWERS]:
        mark = "[green]✓[/green]" if answer.right else "[red]✗[/red]"
        table.add_row(answer.question, answer.base, answer.tuned, mark)
    return table


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
