"""Make the starter model: ``python -m models.make_starter``."""

import argparse
import json
import logging
from itertools import islice
from pathlib import Path

from models.make_starter import corpus
from models.make_starter.evaluation import report
from models.make_starter.retain import write_retained
from models.make_starter.tokenizer import save_tokenizer, train_tokenizer
from models.make_starter.training import Plan, train

_TOKENIZER_ROWS = 20_000
"""Rows, spread over the corpus, that the tokenizer is trained on."""
_REPORT_SEED = 7_000_000
"""Seed of the evaluation rows; the corpus uses seeds near the plan's."""


def main() -> None:
    """Train a model into a folder and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models/starter"))
    parser.add_argument("--rows", type=int, default=Plan().rows, help="rows of the corpus")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = Plan(rows=arguments.rows)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sample = islice(
        corpus.texts(plan.seed, plan.rows), None, None, max(1, plan.rows // _TOKENIZER_ROWS)
    )
    tokenizer = train_tokenizer(sample, plan.vocabulary)
    save_tokenizer(tokenizer, arguments.out)
    write_retained(arguments.out / "retain.jsonl")
    for progress, model in train(plan, tokenizer, arguments.out):
        count = 600 if progress == 1.0 else 90
        model.train(False)
        figures = report(model, tokenizer, _REPORT_SEED, count)
        model.train()
        rounded = {name: round(share, 3) for name, share in figures.items()}
        logging.info("%.0f %% of the corpus: %s", 100 * progress, json.dumps(rounded))


if __name__ == "__main__":
    main()
