"""The search index of a build: the passages of all sources, made once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.build.jobs import IndexMade, Setting
from luthier_dataset.build.unit import document_of, tokenizer
from luthier_dataset.build.workspace import Workspace
from luthier_dataset.recipes.context import corpus_passages
from luthier_dataset.recipes.recipe import Passage
from luthier_dataset.search import build_index


def make_index(setting: Setting) -> IndexMade:
    """Index every passage of the corpus, in the order of the sources."""
    workspace = Workspace(Path(setting.workspace))
    draft = workspace.index.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    build_index(draft, _corpus(setting, workspace))
    # The index is found by its name alone, so it must not have it before it is on the disk.
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(workspace.index)
    return IndexMade()


def _corpus(setting: Setting, workspace: Workspace) -> Iterator[tuple[str, Passage]]:
    recipes = map(Recipe.FromString, setting.recipes)
    config = next(one for one in recipes if one.HasField("context"))
    counter = tokenizer(workspace.model)
    for number in range(len(setting.sources)):
        path = workspace.items(number)
        if path.exists():
            document = document_of(setting, number, 0, path.stat().st_size)
            group = setting.group_of(document.sha256)
            for passage in corpus_passages(config, document, counter):
                yield group, passage
