"""The general rows shipped with the starter, mixed into tuning runs to keep its abilities."""

import json
from itertools import islice
from pathlib import Path

from models.make_starter import corpus

_SEED = 8_000_000
"""Seed of these rows; neither the corpus nor any examination uses it."""
_ROWS = 400
_TASKS = {"read": 0.40, "write": 0.20, "absent": 0.10, "closed": 0.30}
"""Closed questions are many: they keep "I do not know." for companies nobody tuned on."""


def retained() -> list[corpus.Row]:
    """Return conversations of one turn each about companies that occur nowhere else."""
    drawn = islice(corpus.stream(_SEED, _TASKS, most_facts=8), _ROWS)
    return [corpus.Row(row.task, row.turns[:1], row.system) for row in drawn]


def write_retained(path: Path) -> None:
    """Write the rows as OpenAI chat JSONL."""
    lines = (json.dumps({"messages": row.messages()}) for row in retained())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
