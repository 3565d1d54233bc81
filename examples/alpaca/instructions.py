"""Alpaca's form: instructions, perhaps with an input, and outputs; and the prompts made of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from models.make_starter import corpus, prompts, values
from models.make_starter.relation import WRITABLE_STYLES

TEMPLATE = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
TEMPLATE_WITHOUT_INPUT = "### Instruction:\n{instruction}\n\n### Response:\n"
_READING_SHARE = 0.75
_MOST_FACTS = 4


def prompt_of(record: Mapping[str, str]) -> str:
    """Return the prompt of a record; one without an input has a template of its own."""
    template = TEMPLATE if record.get("input") else TEMPLATE_WITHOUT_INPUT
    return template.format_map(record)


def records(seed: int) -> Iterator[dict[str, str]]:
    """Yield instructions about fictional companies without end; the same seed gives the same.

    Most ask for a figure that the input tells; the others have no input.
    """
    rng = random.Random(seed)
    while True:
        known = corpus.facts(rng, values.company(rng), rng.randint(1, _MOST_FACTS))
        fact, style = rng.choice(known), rng.choice(WRITABLE_STYLES)
        if rng.random() < _READING_SHARE:
            told = " ".join(one.statement for one in known)
            yield {"instruction": fact.question(style), "input": told, "output": fact.value}
        else:
            instruction = prompts.write_prompt(style, fact.statement)
            yield {"instruction": instruction, "input": "", "output": fact.question(style)}
