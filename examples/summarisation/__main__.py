"""Tune an encoder-decoder on dialogues and their summaries: ``python -m examples.summarisation``.

The settings are those of the FLAN-T5 walk-through; README.md beside this file has the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from typing import Any

from openai import OpenAI

from examples import jobs
from examples.summarisation.dialogues import PROMPT, conversations

WALK_THROUGH: dict[str, Any] = {
    "lora_rank": 32,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "target_modules": "q,v",
    "n_epochs": 10,
    # LoRA, not QLoRA.
    "base_precision": "fp32",
}
_SEED = 1
"""Of the conversations; the small base model was trained on those of another."""


def pairs(options: argparse.Namespace) -> list[jobs.Pair]:
    """Return the rows: of a file of `dialogue` and `summary`, or made here."""
    if options.data:
        told = [(one["dialogue"], one["summary"]) for one in jobs.read_records(options.data)]
    else:
        made = islice(conversations(_SEED), options.rows)
        told = [(one.dialogue, one.summary) for one in made]
    return [
        {"prompt": PROMPT.format(dialogue=dialogue), "completion": summary}
        for dialogue, summary in told
    ]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Run the job, print ROUGE before and after, and return all figures."""
    parser = argparse.ArgumentParser(prog="python -m examples.summarisation", description=__doc__)
    parser.add_argument("--model", default="small-t5", help="an encoder-decoder of the platform")
    jobs.add_options(parser)
    options = parser.parse_args(arguments)
    where = jobs.connection(options)
    chosen = WALK_THROUGH | {"learning_rate_multiplier": options.learning_rate_multiplier}
    if options.epochs:
        chosen["n_epochs"] = options.epochs
    with OpenAI(base_url=where.base_url, api_key=where.api_key) as client:
        job = jobs.tune(client, pairs(options), chosen, model=options.model, suffix="summaries")
    measured = jobs.figures(where, job)
    jobs.show(job, measured)
    return measured


if __name__ == "__main__":
    main()
