"""Rows and texts as the base model reads them, for previews.

A chat template is foreign code and may not end, so it never runs in the service itself.
"""

from __future__ import annotations

import json
from pathlib import Path

from luthier_dataset.build.jobs import AsModel, ReadAsModel, Setting
from luthier_dataset.build.unit import tokenizer
from luthier_dataset.build.workspace import Workspace


def read_as_model(setting: Setting, task: ReadAsModel) -> AsModel:
    """Return the spans of rows and the tokens of texts; errors as for `TokenCounter.spans`."""
    counter = tokenizer(Workspace(Path(setting.workspace)).model)
    spans = [counter.spans(shape, json.loads(line)) for shape, line in task.rows]
    return AsModel(tuple(map(tuple, spans)), tuple(map(counter.count, task.texts)))
