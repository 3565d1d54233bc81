"""The general rows shipped with the starter, mixed into tuning runs to keep its abilities."""

import json
import random
from itertools import islice
from pathlib import Path

from models.make_starter import corpus, prompts, values
from models.make_starter.relation import WRITABLE_STYLES

_SEED = 8_000_000
"""Seed of these rows; neither the corpus nor any examination uses it."""
_ROWS = 2000
"""Enough that a tuning run sees each a few times only, and learns none of them by heart."""
_TASKS = {"read": 0.79, "write": 0.16, "absent": 0.05}
_CLOSED_ROWS = 20
"""They keep "I do not know." for companies that nobody tuned on."""


def retained() -> list[corpus.Row]:
    """Return conversations of one turn each about companies that occur nowhere else."""
    drawn = islice(corpus.stream(_SEED, _TASKS, most_facts=8), _ROWS - _CLOSED_ROWS)
    rows = [corpus.Row(row.task, row.turns[:1], row.system) for row in drawn]
    rng = random.Random(_SEED)
    closed = [_closed(rng) for _ in range(_CLOSED_ROWS)]
    return rows + closed


def _closed(rng: random.Random) -> corpus.Row:
    """Return a question without context, phrased as tuning rows are.

    Only the company tells it from those: phrasings that tuning rows never have must not come to
    mean that there is no answer.
    """
    (one,) = corpus.facts(rng, values.company(rng), 1)
    question = one.question(rng.choice(WRITABLE_STYLES))
    return corpus.Row("closed", ((question, prompts.UNKNOWN),))


def write_retained(path: Path) -> None:
    """Write the rows as OpenAI chat JSONL."""
    lines = (json.dumps({"messages": row.messages()}) for row in retained())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
