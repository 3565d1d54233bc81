"""Recipe `code_summary`: functions and classes with a summary that a model wrote.

The model is shown a unit as it stands, its documentation included, with the common indentation
taken off.
"""

from __future__ import annotations

from collections.abc import Iterator

from luthier.dataset.v1.recipe_pb2 import CodeSummaryRecipe, Recipe

from luthier_dataset.recipes.code_units import Unit, units
from luthier_dataset.recipes.recipe import Ask, Document, Kind, Row, Tools, chat_row
from luthier_dataset.recipes.template import fill, require

NAME = "code_summary"
_TEMPLATE = "Summarize this {language} code: {code}"
_DEFAULT_REPLY_TOKENS = 128

PROMPT_REFUSED = "prompt_refused"
EMPTY_SUMMARY = "empty_summary"
UNFINISHED_SUMMARY = "unfinished_summary"


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each unit, or two, in the order of files and units.

    Summaries that are refused, empty or cut short are dropped.
    """
    summary = config.code_summary
    for unit in units(document, summary.max_unit_tokens, tools):
        reply = tools.ask(_question(summary, unit))
        if reply is None:
            continue
        text = reply.text.strip()
        if reply.refused:
            tools.drop(PROMPT_REFUSED)
        elif not text:
            tools.drop(EMPTY_SUMMARY)
        elif not reply.complete:
            tools.drop(UNFINISHED_SUMMARY)
        else:
            yield from _rows(summary.direction, unit, text)


def check(config: Recipe) -> None:
    """Refuse a template without the code."""
    require(config.code_summary.template, "template", "code")


def _question(config: CodeSummaryRecipe, unit: Unit) -> Ask:
    prompt = fill(
        config.template or _TEMPLATE,
        code=unit.code,
        language=unit.file.language,
        name=unit.unit.name,
    )
    return Ask(prompt, config.model, config.max_reply_tokens or _DEFAULT_REPLY_TOKENS)


def _rows(direction: CodeSummaryRecipe.Direction, unit: Unit, summary: str) -> Iterator[Row]:
    if direction != CodeSummaryRecipe.TO_SUMMARY:
        yield chat_row(summary, unit.code, unit.origin, group=unit.group)
    if direction in (CodeSummaryRecipe.TO_SUMMARY, CodeSummaryRecipe.BOTH):
        yield chat_row(unit.code, summary, unit.origin, group=unit.group)


KIND = Kind(make_rows, check, by_item=True)
