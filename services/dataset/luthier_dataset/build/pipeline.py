"""Steers one build: reads the sources, makes the units, asks models, finishes.

Everything that is done is on disk before the next step, so a build that is run again, after a
crash or a restart, goes on where it stopped. Nothing here depends on the number of workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import msgspec
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier_common.errors import FailedPrecondition, Internal, InvalidArgument, ResourceExhausted
from luthier_common.names import project_of

from luthier_dataset.bounded import bounded_map
from luthier_dataset.build.jobs import (
    DISK_FULL,
    UNIT_FILES,
    Answer,
    AsModel,
    Finish,
    Finished,
    IndexMade,
    Job,
    MakeIndex,
    MakeUnit,
    ReadAsModel,
    Refused,
    Setting,
    Task,
    UnitMade,
)
from luthier_dataset.build.replies import Question, Recorded, Replies, read_questions, read_used
from luthier_dataset.build.workspace import Workspace, finish, finished, sizes_of
from luthier_dataset.documents import Documents, unreadable
from luthier_dataset.inference import Inference
from luthier_dataset.pool import ChildDied, Pool
from luthier_dataset.readers.items import Remark
from luthier_dataset.readers.job import Reading
from luthier_dataset.recipes.recipe import Kind, Reply

Report = Callable[[str, int, int], Awaitable[None]]
"""Told the stage, its steps done and its steps in all; cheap to call for each step."""

_QUESTIONS_AT_ONCE = 24
"""So that an engine can batch them."""
_PATIENCE_SECONDS = 60.0
"""A build whose model is away for longer makes room for others, and is tried again."""
_UNITS_AHEAD = 8
"""Units waiting for a model while others are worked on."""

logger = logging.getLogger(__name__)
A = TypeVar("A", UnitMade, IndexMade, Finished, AsModel)


@dataclass(frozen=True)
class Plan:
    """What one build works with."""

    dataset: Dataset
    setting: Setting
    kinds: Sequence[Kind]
    """Of each recipe."""
    workspace: Workspace
    documents: Documents
    workers: Pool
    inference: Inference
    report: Report
    at_once: int
    """Sources read, or units worked on, at a time."""


class Pipeline:
    """The steps of one build."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._dataset = plan.dataset
        self._workspace = plan.workspace
        self._asking = asyncio.Semaphore(_QUESTIONS_AT_ONCE)
        self._shapes: dict[str, str] = {}
        self._replies = Replies(plan.workspace.replies, writable=True)
        # Every unit says again what it used, but for those of another version of the code.
        self._replies.forget_used()

    async def read(self, *, most_bytes: int = 0) -> list[Reading]:
        """Read every source, unless that is done; FailedPrecondition for an unreadable one.

        `most_bytes` as for `ReadJob`.
        """
        done = 0
        sources = list(self._dataset.sources)

        async def read(number: int) -> Reading:
            nonlocal done
            target = self._workspace.items(number)
            reading = finished(target, Reading)
            if reading is None or reading.cuts[-1:] not in ((), sizes_of(target, (target.suffix,))):
                reading = await self._plan.documents.read(
                    sources[number], target, most_bytes=most_bytes
                )
                if reading.unreadable:
                    # What was read before the end is no part of the corpus.
                    target.unlink(missing_ok=True)
                finish(target, reading)
            if reading.unreadable and not self._dataset.skip_unreadable:
                raise unreadable(sources[number], reading.unreadable)
            done += 1
            await self._plan.report("Reading documents", done, len(sources))
            return reading

        await self._plan.report("Reading documents", 0, len(sources))
        readings = await bounded_map(read, range(len(sources)), limit=self._plan.at_once)
        # Their children shall not lie in memory while those that make rows work.
        await self._plan.documents.close()
        return readings

    async def index(self) -> None:
        """Index the corpus, if a recipe searches it and unless that is done."""
        if any(kind.searches for kind in self._plan.kinds) and not self._workspace.index.exists():
            await self._plan.report("Indexing passages", 0, 1)
            await self._run(MakeIndex(), IndexMade)

    def units(self, readings: Sequence[Reading], *, by_part: bool = False) -> list[MakeUnit]:
        """Return the units in the order of their rows.

        `by_part` cuts every source at its parts, also under recipes that look at it whole.
        """
        return [
            unit
            for recipe, kind in enumerate(self._plan.kinds)
            for source, reading in enumerate(readings)
            for unit in _units(recipe, source, reading, by_part=by_part or kind.by_item)
        ]

    async def make(self, units: Sequence[MakeUnit]) -> None:
        """Make the rows of every unit, unless that is done."""
        done = 0

        async def make(unit: MakeUnit) -> None:
            nonlocal done
            path = self._workspace.unit(unit.recipe, unit.source, unit.part)
            made = finished(path, UnitMade)
            if made is not None and made.sizes != sizes_of(path, UNIT_FILES):
                made = None
            while made is None:
                answer = await self.run_unit(unit)
                if answer.asked:
                    await self.answer(read_questions(path), patience=_PATIENCE_SECONDS)
                else:
                    made = answer
            self._replies.use(read_used(path))
            self._check_shapes(made, unit)
            done += 1
            await self._plan.report(self._stage(unit), done, len(units))

        await bounded_map(make, units, limit=self._plan.at_once + _UNITS_AHEAD)

    async def run_unit(self, unit: MakeUnit) -> UnitMade:
        """Run a unit once with the replies that there are."""
        return await self._run(unit, UnitMade)

    async def answer(
        self, questions: Sequence[Question], *, patience: float | None = None
    ) -> list[Reply]:
        """Ask models, record each reply as it comes, and return them in order.

        `patience` as for `RemoteModel.ask`.
        """

        done = 0

        async def answer(question: Question) -> Reply:
            nonlocal done
            async with self._asking:
                reply = await self._reply(question, patience)
            self._replies.put([Recorded(question.key, reply)])
            done += 1
            # Also how the build notices that its dataset was deleted.
            await self._plan.report("Asking models", done, len(questions))
            return reply

        return await bounded_map(answer, questions, limit=_QUESTIONS_AT_ONCE)

    async def as_model(self, rows: Sequence[tuple[str, str]], texts: Sequence[str]) -> AsModel:
        """Return rows (shape and line of each) and texts as the base model reads them."""
        return await self._run(ReadAsModel(tuple(rows), tuple(texts)), AsModel)

    async def finish(
        self, units: Sequence[MakeUnit], readings: Sequence[Reading], actions: dict[int, int]
    ) -> Finished:
        """Judge all rows and write the artifacts, unless nothing may come out."""
        await self._plan.report("Comparing and storing rows", 0, 1)
        remarks: Counter[str] = Counter()
        examples: list[tuple[int, Remark]] = []
        for source, reading in enumerate(readings):
            remarks.update(reading.remarks)
            examples += [(source, remark) for remark in reading.examples]
            if reading.unreadable:
                remarks["unreadable_document"] += 1
                examples.append((source, Remark("unreadable_document", reading.unreadable)))
        task = Finish(
            tuple((unit.recipe, unit.source, unit.part) for unit in units),
            actions,
            self._dataset.split.validation_share,
            dict(remarks),
            tuple(examples),
        )
        # One worker does the rest; the others shall not lie in memory meanwhile.
        await self._plan.workers.close()
        return await self._run(task, Finished)

    def close(self) -> None:
        """Close the files."""
        self._replies.close()

    async def _reply(self, question: Question, patience: float | None) -> Reply:
        ask = question.ask
        digest = self._plan.setting.digests[ask.model]
        model = self._plan.inference.model(project_of(self._dataset.name), ask.model, digest)
        try:
            return await model.ask(ask.prompt, ask.max_tokens, patience=patience)
        except InvalidArgument as error:
            # In practice: the prompt is longer than the model's context.
            return Reply("", complete=False, refused=error.message)

    async def _run(self, task: Task, wanted: type[A]) -> A:
        job = Job(self._plan.setting, task)
        try:
            answered = await self._on_worker(msgspec.json.encode(job), job.seconds)
        except TimeoutError as error:
            raise self._too_long(task, job.seconds) from error
        answer: Answer = msgspec.json.decode(answered, type=Answer)
        if isinstance(answer, Refused):
            if answer.reason == DISK_FULL:
                raise ResourceExhausted(answer.message, reason=answer.reason)
            raise FailedPrecondition(answer.message, reason=answer.reason)
        assert isinstance(answer, wanted)
        return answer

    async def _on_worker(self, job: bytes, seconds: float) -> bytes:
        try:
            return await self._plan.workers.run(job, timeout=seconds)
        except ChildDied as death:
            # Perhaps the machine was short of memory for a moment.
            logger.warning("a worker of the build ended; trying once more: %s", death)
        try:
            return await self._plan.workers.run(job, timeout=seconds)
        except ChildDied as death:
            raise Internal(f"a worker of the build ended: {death}", reason="WORKER_DIED") from death

    def _too_long(self, task: Task, seconds: float) -> FailedPrecondition:
        if not isinstance(task, MakeUnit):
            why = f"a step of the build took longer than {seconds:.0f} seconds"
            return FailedPrecondition(why, reason="STEP_TIMEOUT")
        source = self._dataset.sources[task.source]
        return FailedPrecondition(
            f"{self._recipe(task)} took longer than {seconds:.0f} seconds over "
            f"{source.display_name} ({source.file}); either the base model's chat template does "
            "not end or the document is too long for this recipe",
            reason="UNIT_TIMEOUT",
            metadata={"file": source.file},
        )

    def _check_shapes(self, made: UnitMade, unit: MakeUnit) -> None:
        """Refuse rows of two shapes as soon as both are there: a training file has one."""
        for shape in made.shapes:
            self._shapes.setdefault(shape, self._recipe(unit))
        if len(self._shapes) > 1:
            parts = ", ".join(f"{shape} rows by {recipe}" for shape, recipe in self._shapes.items())
            raise FailedPrecondition(
                f"the recipes make rows of different shapes ({parts}), which one training file "
                "cannot hold; make a dataset of each",
                reason="MIXED_SHAPES",
                field="dataset.recipes",
            )

    def _stage(self, unit: MakeUnit) -> str:
        return f"Making rows: {self._recipe(unit)}"

    def _recipe(self, unit: MakeUnit) -> str:
        return self._dataset.recipes[unit.recipe].WhichOneof("recipe") or ""


def _units(recipe: int, source: int, reading: Reading, *, by_part: bool) -> list[MakeUnit]:
    if not reading.cuts:
        return []
    cuts = reading.cuts if by_part else (reading.cuts[0], reading.cuts[-1])
    parts = enumerate(pairwise(cuts))
    return [MakeUnit(recipe, source, part, start, end) for part, (start, end) in parts]
