"""Recipe `questions`: the base model writes questions about each statement and answers them.

For each statement and each style, the model is asked for a question, then asked that question
with the statement as context. A pair is kept if it is consistent (Alberti et al. 2019): the answer
stands in the statement and not in the question. Every other pair is counted by its reason.

How the model is asked is a property of the model, so it is configuration: `QuestionPrompts`,
settable as LUTHIER_QUESTION_PROMPTS (JSON with any of its fields). The defaults are the forms that
the starter model was trained on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luthier.dataset.v1.dataset_pb2 import Recipe
from luthier_common.errors import InvalidArgument

from luthier_dataset.bounded import bounded_map
from luthier_dataset.documents import Document
from luthier_dataset.recipes.recipe import Harvest, Model, Row, Tools, without_conflicts

NAME = "questions"
CONCURRENCY = 24
"""Pairs in the making at a time, so that the engine can batch them."""
_LEAST_WORDS = 4
"""Shorter sentences (`See below.`) state nothing that a question could be about."""

NOT_A_QUESTION = "not_a_question"
EMPTY_ANSWER = "empty_answer"
UNFINISHED_ANSWER = "unfinished_answer"
NOT_IN_STATEMENT = "answer_not_in_statement"
IN_QUESTION = "answer_in_question"
PROMPT_REFUSED = "prompt_refused"


@dataclass(frozen=True)
class QuestionPrompts:
    """How a model is asked to write questions and to answer them from a text."""

    write: str = "Write question {style} about: {statement}"
    """User message for a question; holds `{statement}` and, with several styles, `{style}`."""
    read: str = "Context: {statement}\nQuestion: {question}"
    """User message for the answer; holds `{statement}` and `{question}`."""
    styles: int = 6
    """Styles of questions, numbered from 1."""

    def __post_init__(self) -> None:
        """Refuse templates that would ask the same thing over and over."""
        needed = ["{statement}", "{style}"] if self.styles > 1 else ["{statement}"]
        missing = [part for part in needed if part not in self.write]
        missing += [part for part in ("{statement}", "{question}") if part not in self.read]
        if missing or self.styles < 1:
            raise ValueError(f"question prompts need {', '.join(missing) or 'at least one style'}")

    def write_prompt(self, style: int, statement: str) -> str:
        """Return the message that asks for a question."""
        return _fill(self.write, style=str(style), statement=statement)

    def read_prompt(self, statement: str, question: str) -> str:
        """Return the message that asks for the answer."""
        return _fill(self.read, statement=statement, question=question)


def _fill(template: str, **values: str) -> str:
    """Replace `{name}`s in one pass: what is filled in, and any other brace, stays as it is."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


@dataclass(frozen=True)
class _Task:
    statement: str
    style: int
    source_file: str
    heading_path: tuple[str, ...]


class QuestionsMaker:
    """The recipe, for one form of prompts."""

    def __init__(self, prompts: QuestionPrompts) -> None:
        self._prompts = prompts

    async def make_rows(
        self, config: Recipe, documents: Sequence[Document], tools: Tools
    ) -> Harvest:
        """Return the consistent pairs in the order of statements, then styles."""
        wanted = config.questions.questions_per_statement
        styles = min(wanted or self._prompts.styles, self._prompts.styles)
        tasks = list(_tasks(documents, styles))
        done = 0

        async def make(task: _Task) -> Row | str:
            nonlocal done
            made = await self._pair(task, tools.model)
            done += 1
            await tools.progress(done, len(tasks))
            return made

        await tools.progress(0, len(tasks))
        pairs = await bounded_map(make, tasks, limit=CONCURRENCY)
        harvest = without_conflicts(pair for pair in pairs if isinstance(pair, Row))
        harvest.dropped += Counter(pair for pair in pairs if isinstance(pair, str))
        return harvest

    async def _pair(self, task: _Task, model: Model) -> Row | str:
        """Return a row, or the reason why there is none."""
        try:
            written = await model.ask(self._prompts.write_prompt(task.style, task.statement))
            question = written.text.strip()
            if not written.complete or not question.endswith("?"):
                return NOT_A_QUESTION
            reply = await model.ask(self._prompts.read_prompt(task.statement, question))
        except InvalidArgument:
            # In practice: the statement is longer than the model's context.
            return PROMPT_REFUSED
        answer = reply.text.strip()
        reason = inconsistency(task.statement, question, answer, complete=reply.complete)
        return reason or Row(question, answer, NAME, task.source_file, task.heading_path)


def inconsistency(statement: str, question: str, answer: str, *, complete: bool) -> str | None:
    """Return why a pair may not become a row, None if it may."""
    if not answer:
        return EMPTY_ANSWER
    if not complete:
        return UNFINISHED_ANSWER
    if answer not in statement:
        return NOT_IN_STATEMENT
    return IN_QUESTION if answer in question else None


def _tasks(documents: Sequence[Document], styles: int) -> Iterator[_Task]:
    for document in documents:
        for section in document.sections:
            for statement in filter(is_statement, section.statements):
                for style in range(1, styles + 1):
                    yield _Task(statement, style, document.file, section.heading_path)


def is_statement(sentence: str) -> bool:
    """Whether a sentence can state a fact: no question, no exclamation, no lead-in, no scrap."""
    return not sentence.endswith(("?", "!", ":")) and len(sentence.split()) >= _LEAST_WORDS
