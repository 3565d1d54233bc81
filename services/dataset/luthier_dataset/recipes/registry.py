"""All recipes by the name of their field in the proto message `Recipe`."""

from __future__ import annotations

from collections.abc import Mapping

from luthier_dataset.recipes import (
    code_metadata,
    code_raw,
    code_summary,
    context,
    conversations,
    headings,
    keywords,
    pairs,
    questions,
    raw,
    rows,
    semantic,
)
from luthier_dataset.recipes.recipe import Kind


def registry(prompts: questions.QuestionPrompts) -> Mapping[str, Kind]:
    """Return every recipe there is."""
    return {
        headings.NAME: headings.KIND,
        questions.NAME: questions.kind(prompts),
        raw.NAME: raw.KIND,
        keywords.NAME: keywords.KIND,
        context.NAME: context.kind(prompts),
        semantic.NAME: semantic.KIND,
        conversations.NAME: conversations.KIND,
        pairs.NAME: pairs.KIND,
        code_summary.NAME: code_summary.KIND,
        code_metadata.NAME: code_metadata.KIND,
        code_raw.NAME: code_raw.KIND,
        rows.NAME: rows.KIND,
    }
