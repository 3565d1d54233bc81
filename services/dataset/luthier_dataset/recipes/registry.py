"""All recipes by the name of their field in the proto message `Recipe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from luthier.dataset.v1.dataset_pb2 import Recipe

from luthier_dataset.documents import Document
from luthier_dataset.recipes import headings, questions
from luthier_dataset.recipes.recipe import Harvest, Tools


class MakeRows(Protocol):
    """A recipe: documents in, rows out; the same rows every time the model answers the same."""

    async def __call__(
        self, config: Recipe, documents: Sequence[Document], tools: Tools, /
    ) -> Harvest:
        """Return the rows."""
        ...


def registry(prompts: questions.QuestionPrompts) -> Mapping[str, MakeRows]:
    """Return every recipe there is."""
    return {
        headings.NAME: headings.make_rows,
        questions.NAME: questions.QuestionsMaker(prompts).make_rows,
    }
