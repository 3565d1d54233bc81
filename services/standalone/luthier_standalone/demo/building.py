"""Step one and two: documents in, a dataset of rows out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetRow
from luthier.dataset.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    GetDatasetRequest,
    ListDatasetRowsRequest,
)
from luthier.dataset.v1.recipe_pb2 import HeadingsRecipe, QuestionsRecipe, Recipe
from luthier_common.errors import FailedPrecondition
from luthier_common.names import id_of
from openai import AsyncOpenAI
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from luthier_standalone.demo.scoring import normal_form
from luthier_standalone.gateway import PROJECT, Gateway
from luthier_standalone.library import base_model_name

_POLL_SECONDS = 0.3
_PREVIEW_ROWS = 3


@dataclass(frozen=True, slots=True)
class BuiltDataset:
    """A READY dataset, its rows checked against the examination."""

    file_id: str
    """Usable as `training_file`."""
    rows: int
    tokens: int
    """By the base model's tokenizer, chat template applied."""
    rows_by_recipe: dict[str, int]
    dropped_by_reason: dict[str, int]
    exam_questions_among_rows: int
    """Questions of the examination whose normal form occurs in a row; must be 0."""


async def upload(client: AsyncOpenAI, console: Console, documents: Sequence[Path]) -> list[str]:
    """Upload the documents; return their file ids."""
    ids = []
    for path in documents:
        stored = await client.files.create(file=path, purpose="user_data")
        console.print(f"  {stored.filename}  {stored.bytes:,} bytes  [dim]{stored.id}[/dim]")
        ids.append(stored.id)
    return ids


async def build(
    gateway: Gateway, console: Console, file_ids: Sequence[str], base_model: str
) -> Dataset:
    """Build a dataset with both recipes; FailedPrecondition with the reason if that fails."""
    parent = f"projects/{PROJECT}"
    wanted = Dataset(
        source_files=[f"{parent}/files/{file_id}" for file_id in file_ids],
        recipes=[Recipe(headings=HeadingsRecipe()), Recipe(questions=QuestionsRecipe())],
        base_model=base_model_name(base_model),
    )
    request = CreateDatasetRequest(parent=parent, dataset=wanted)
    dataset = await gateway.datasets.CreateDataset(request)
    with _progress(console) as progress:
        task = progress.add_task("building", total=None)
        while dataset.state == Dataset.BUILDING:
            await asyncio.sleep(_POLL_SECONDS)
            dataset = await gateway.datasets.GetDataset(GetDatasetRequest(name=dataset.name))
            step = dataset.progress
            if step.total:
                progress.update(task, description=step.stage, completed=step.done, total=step.total)
        rows = dataset.statistics.rows
        progress.update(task, description="built", completed=rows, total=rows)
    if dataset.state != Dataset.READY:
        raise FailedPrecondition(
            f"the dataset could not be built: {dataset.error.message}", reason="DATASET_FAILED"
        )
    return dataset


async def inspect(
    client: AsyncOpenAI,
    gateway: Gateway,
    console: Console,
    dataset: Dataset,
    exam: Sequence[str],
) -> BuiltDataset:
    """Show a few rows, and look for exam questions in all of them."""
    listed = await gateway.datasets.ListDatasetRows(
        ListDatasetRowsRequest(parent=dataset.name, page_size=1000)
    )
    console.print(_preview(list(listed.rows)))
    file_id = id_of(dataset.file)
    content = await client.files.content(file_id)
    figures = dataset.statistics
    built = BuiltDataset(
        file_id=file_id,
        rows=figures.rows,
        tokens=figures.tokens,
        rows_by_recipe=dict(figures.rows_by_recipe),
        dropped_by_reason=dict(figures.dropped_by_reason),
        exam_questions_among_rows=count_leaks(content.text, exam),
    )
    recipes = ", ".join(f"{name} {rows}" for name, rows in sorted(built.rows_by_recipe.items()))
    console.print(
        f"  {built.rows} rows ({recipes}), {built.tokens:,} tokens, "
        f"{built.exam_questions_among_rows} exam questions among them  [dim]{file_id}[/dim]"
    )
    return built


def count_leaks(jsonl: str, exam: Sequence[str]) -> int:
    """Return how many exam questions occur, in normal form, inside a message of a row."""
    messages = [
        f" {normal_form(message['content'])} "
        for line in jsonl.splitlines()
        for message in json.loads(line)["messages"]
    ]
    if not messages:
        raise FailedPrecondition("the dataset has no rows", reason="EMPTY_DATASET")
    asked = [f" {normal_form(question)} " for question in exam]
    return sum(any(question in message for message in messages) for question in asked)


def _preview(rows: Sequence[DatasetRow]) -> Table:
    """A table of rows, of every recipe at least one."""
    table = Table(title=f"{_PREVIEW_ROWS} rows", title_justify="left")
    for column in ("recipe", "prompt", "answer", "tokens"):
        table.add_column(column, overflow="fold")
    by_recipe = {row.recipe: row for row in reversed(rows)}
    chosen = list(by_recipe.values())
    chosen += [row for row in rows[len(rows) // 2 :] if row not in chosen]
    for row in chosen[:_PREVIEW_ROWS]:
        prompt, answer = row.messages[-2].content, row.messages[-1].content
        table.add_row(row.recipe, prompt, answer, str(row.token_count))
    return table


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
