"""Recipe `context`: a question, passages found in the corpus, the answer.

For models that answer from retrieved text. The passage that the question is about stands at a
random place among those that a search (BM25) finds for it, as in RAFT (Zhang et al. 2024). Where
rows are held out, a search stays among documents that the split keeps together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from luthier.dataset.v1.recipe_pb2 import ContextRecipe, Recipe

from luthier_dataset.readers.items import Item, Record
from luthier_dataset.recipes.passages import check_chunking, passages
from luthier_dataset.recipes.questions import QuestionPrompts, Writer, check_questions
from luthier_dataset.recipes.recipe import (
    Document,
    Kind,
    Origin,
    Passage,
    Row,
    Tools,
    chat_row,
)
from luthier_dataset.recipes.template import fill, require
from luthier_dataset.tokens import TokenCounter

NAME = "context"
NO_PASSAGES = "no_passages"
_DEFAULT_PASSAGES = 3
_DEFAULT_TEMPLATE = "Context: {passages}\nQuestion: {question}"


def corpus_passages(
    config: Recipe, document: Document, tokenizer: TokenCounter
) -> Iterator[Passage]:
    """Yield what a document adds to the search index.

    Rows of questions and answers, where the recipe takes those, are no passages: each would be
    found for its own question and give the answer away.
    """
    context = config.context

    def items() -> Iterator[Item]:
        return (item for item in document.items() if _question(context, item) is None)

    read = Document(document.file, document.title, document.sha256, items)
    for text, path, place in passages(read, context.chunking, tokenizer):
        yield Passage(text, Origin(document.file, path, place))


def kind(prompts: QuestionPrompts) -> Kind:
    """Return the recipe, for the prompts of a service."""

    def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
        """Yield rows in the order of the document."""
        context = config.context
        if context.question_field:
            yield from _given(context, document, tools)
        else:
            yield from _written(context, prompts, document, tools)

    def check(config: Recipe) -> None:
        context = config.context
        if bool(context.question_field) != bool(context.answer_field):
            raise ValueError("answer_field: set both question_field and answer_field, or neither")
        if context.questions.HasField("chunking"):
            raise ValueError("questions.chunking: set chunking of the context recipe instead")
        require(context.template, "template", "passages", "question")
        check_questions(context.questions, prompts, "questions.")
        check_chunking(context.chunking, "chunking")

    return Kind(make_rows, check, searches=True, one_answer=True)


def _written(
    context: ContextRecipe, prompts: QuestionPrompts, document: Document, tools: Tools
) -> Iterator[Row]:
    """Yield a row for each pair that the model wrote about a passage."""
    parts = passages(document, context.chunking, tools.tokenizer)
    for pair in Writer(context.questions, prompts, tools).pairs(parts):
        text, path, place = pair.part
        source = Passage(text, Origin(document.file, path, place))
        others = _others(context, tools, pair.question, source)[: _most(context) - 1]
        spot = tools.random(f"{document.sha256}/{place.start}/{pair.question}")
        found = list(others)
        found.insert(spot.randrange(len(others) + 1), source)
        yield _row(context, pair.question, pair.answer, found, source.origin, *_origins(others))


def _given(context: ContextRecipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each question and answer of a table, with what is found for it."""
    for item in document.items():
        pair = _question(context, item)
        if pair is None or not isinstance(item, Record):
            continue
        best = tools.search(pair[0], 1)
        if not best:
            tools.drop(NO_PASSAGES)
            continue
        # What is found, not the table, is what a split must keep together.
        beside = best[0].origin.file
        found = tools.search(pair[0], _most(context), beside=beside)
        origin = Origin(document.file, item.heading_path, item.place)
        row = _row(context, *pair, found, origin, *_origins(found))
        yield msgspec.structs.replace(row, group=tools.group_of(beside))


def _question(context: ContextRecipe, item: Item) -> tuple[str, str] | None:
    """Return question and answer of a record that has both."""
    if not context.question_field or not isinstance(item, Record):
        return None
    question, answer = (
        _text(item.fields.get(field)) for field in (context.question_field, context.answer_field)
    )
    return (question, answer) if question and answer else None


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _others(context: ContextRecipe, tools: Tools, question: str, source: Passage) -> list[Passage]:
    found = tools.search(question, _most(context), beside=source.origin.file)
    return [passage for passage in found if passage.text != source.text]


def _most(context: ContextRecipe) -> int:
    return context.passages or _DEFAULT_PASSAGES


def _origins(found: list[Passage]) -> list[Origin]:
    return [passage.origin for passage in found]


def _row(
    context: ContextRecipe,
    question: str,
    answer: str,
    found: list[Passage],
    source: Origin,
    *others: Origin,
) -> Row:
    joined = "\n\n".join(passage.text for passage in found)
    prompt = fill(context.template or _DEFAULT_TEMPLATE, passages=joined, question=question)
    return chat_row(prompt, answer, source, *others)
