"""Recipe `questions`: a model writes questions about each passage and answers them from it.

For each passage and each style, the model is asked for a question, then asked that question with
the passage as context. A pair is kept if it is consistent (Alberti et al. 2019): the answer stands
in the passage and not in the question; and if the judge accepts it, where there is one. Every other
pair is counted by its reason.

How the model is asked is a property of the model, so it is configuration: `QuestionPrompts`,
settable as LUTHIER_QUESTION_PROMPTS (JSON with any of its fields). The defaults are the forms that
the starter model was trained on; a dataset may have its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from luthier.dataset.v1.recipe_pb2 import Chunking, Judge, QuestionsRecipe, Recipe

from luthier_dataset.recipes.passages import Part, check_chunking, passages
from luthier_dataset.recipes.recipe import (
    Ask,
    Document,
    Kind,
    Origin,
    Reply,
    Row,
    Tools,
    chat_row,
)
from luthier_dataset.recipes.template import fill, require

NAME = "questions"
_DEFAULT_REPLY_TOKENS = 64
_LEAST_WORDS = 4
"""Shorter sentences (`See below.`) state nothing that a question could be about."""

NOT_A_QUESTION = "not_a_question"
EMPTY_ANSWER = "empty_answer"
UNFINISHED_ANSWER = "unfinished_answer"
NOT_IN_STATEMENT = "answer_not_in_statement"
IN_QUESTION = "answer_in_question"
PROMPT_REFUSED = "prompt_refused"
JUDGE_REFUSED = "judge_refused"


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
        return fill(self.write, style=str(style), statement=statement)

    def read_prompt(self, statement: str, question: str) -> str:
        """Return the message that asks for the answer."""
        return fill(self.read, statement=statement, question=question)


class Pair(NamedTuple):
    """A question, its answer and the passage that both are about."""

    question: str
    answer: str
    part: Part


class Writer:
    """Writes pairs as a recipe is configured, by the model behind `tools`."""

    def __init__(self, config: QuestionsRecipe, prompts: QuestionPrompts, tools: Tools) -> None:
        self._config = config
        self._tools = tools
        wanted = config.questions_per_statement or prompts.styles
        # The service's prompts know so many styles; a template of one's own takes any number.
        self._styles = wanted if config.write_template else min(wanted, prompts.styles)
        self._prompts = QuestionPrompts(
            config.write_template or prompts.write,
            config.read_template or prompts.read,
            self._styles,
        )

    def pairs(self, parts: Iterable[Part]) -> Iterator[Pair]:
        """Yield the pairs that are kept, by passage, then style, but for those not yet written.

        Passages are gone through to the end, so that all that can be asked is asked at once.
        """
        for part in parts:
            for style in range(1, self._styles + 1):
                made = self._pair(part, style)
                if isinstance(made, str):
                    self._tools.drop(made)
                elif made is not None:
                    yield made

    def _pair(self, part: Part, style: int) -> Pair | str | None:
        """Return a pair, the reason why there is none, or None while a reply is to come."""
        written = self._ask(self._prompts.write_prompt(style, part.text))
        if written is None:
            return None
        if written.refused:
            return PROMPT_REFUSED
        question = written.text.strip()
        if not written.complete or not question.endswith("?"):
            return NOT_A_QUESTION
        if self._config.answer == QuestionsRecipe.PASSAGE:
            return self._judged(Pair(question, part.text, part))
        reply = self._ask(self._prompts.read_prompt(part.text, question))
        if reply is None:
            return None
        if reply.refused:
            return PROMPT_REFUSED
        answer = reply.text.strip()
        reason = inconsistency(
            part.text,
            question,
            answer,
            complete=reply.complete,
            free=self._config.allow_free_answers,
        )
        return reason or self._judged(Pair(question, answer, part))

    def _judged(self, pair: Pair) -> Pair | str | None:
        judge = self._config.judge
        if not judge.template:
            return pair
        prompt = fill(
            judge.template, statement=pair.part.text, question=pair.question, answer=pair.answer
        )
        reply = self._ask(prompt, judge.model)
        if reply is None:
            return None
        if reply.refused:
            return PROMPT_REFUSED
        accept = (judge.accept or "yes").casefold()
        return pair if reply.text.strip().casefold().startswith(accept) else JUDGE_REFUSED

    def _ask(self, prompt: str, model: str = "") -> Reply | None:
        tokens = self._config.max_reply_tokens or _DEFAULT_REPLY_TOKENS
        return self._tools.ask(Ask(prompt, model or self._config.model, tokens))


def inconsistency(
    statement: str, question: str, answer: str, *, complete: bool, free: bool = False
) -> str | None:
    """Return why a pair may not become a row, None if it may.

    `free` answers need not stand in the statement.
    """
    if not answer:
        return EMPTY_ANSWER
    if not complete:
        return UNFINISHED_ANSWER
    if not free and answer not in statement:
        return NOT_IN_STATEMENT
    return IN_QUESTION if answer in question else None


def is_statement(sentence: str) -> bool:
    """Whether a sentence can state a fact: no question, no exclamation, no lead-in, no scrap."""
    return not sentence.endswith(("?", "!", ":")) and len(sentence.split()) >= _LEAST_WORDS


def check_questions(config: QuestionsRecipe, prompts: QuestionPrompts, prefix: str = "") -> None:
    """Raise ValueError for templates that lack a part and chunks that cannot be."""
    wanted = config.questions_per_statement or prompts.styles
    style = ("style",) if wanted > 1 else ()
    require(config.write_template, f"{prefix}write_template", "statement", *style)
    require(config.read_template, f"{prefix}read_template", "statement", "question")
    if config.HasField("judge"):
        _check_judge(config.judge, f"{prefix}judge.template")
    check_chunking(config.chunking, f"{prefix}chunking")


def _check_judge(judge: Judge, field: str) -> None:
    if not judge.template:
        raise ValueError(f"{field}: must be set")
    require(judge.template, field, "statement", "question", "answer")


def kind(prompts: QuestionPrompts) -> Kind:
    """Return the recipe, for the prompts of a service."""

    def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
        """Yield the consistent pairs in the order of passages, then styles."""
        questions = config.questions
        for pair in Writer(questions, prompts, tools).pairs(_parts(questions, document, tools)):
            origin = Origin(document.file, pair.part.heading_path, pair.part.place)
            yield chat_row(pair.question, pair.answer, origin)

    def check(config: Recipe) -> None:
        check_questions(config.questions, prompts)

    return Kind(make_rows, check, one_answer=True)


def _parts(config: QuestionsRecipe, document: Document, tools: Tools) -> Iterator[Part]:
    """Yield the passages, of statements those that can state a fact."""
    parts = passages(document, config.chunking, tools.tokenizer, Chunking.STATEMENT)
    if (config.chunking.boundary or Chunking.STATEMENT) != Chunking.STATEMENT:
        return parts
    return (part for part in parts if is_statement(part.text))
