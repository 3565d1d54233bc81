"""Tune a causal model without chat template on instructions: ``python -m examples.alpaca``.

QLoRA in NF4, as the founding text tuned Falcon-7B; README.md beside this file has the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice

from openai import OpenAI

from examples import jobs
from examples.alpaca.instructions import prompt_of, records

_SEED = 2


def pairs(options: argparse.Namespace) -> list[jobs.Pair]:
    """Return the rows: of a file in Alpaca's form, or made here."""
    told = jobs.read_records(options.data) if options.data else islice(records(_SEED), options.rows)
    return [{"prompt": prompt_of(record), "completion": record["output"]} for record in told]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Run the job, print what the model answers before and after, and return all figures."""
    parser = argparse.ArgumentParser(prog="python -m examples.alpaca", description=__doc__)
    parser.add_argument("--model", default="bare-starter", help="a causal model of the platform")
    parser.add_argument(
        "--target-modules",
        default="all-linear",
        help="where LoRA goes; Falcon's are query_key_value,dense,dense_h_to_4h,dense_4h_to_h",
    )
    parser.add_argument(
        "--compute-precision",
        choices=("fp32", "bf16", "fp16"),
        help="auto: bf16 on a GPU that has it, else fp32; fp16 for GPUs without bf16",
    )
    jobs.add_options(parser)
    options = parser.parse_args(arguments)
    where = jobs.connection(options)
    chosen = {
        "base_precision": "nf4",
        "double_quantization": True,
        "compute_precision": options.compute_precision,
        "target_modules": options.target_modules,
        "n_epochs": options.epochs,
        "learning_rate_multiplier": options.learning_rate_multiplier,
    }
    with OpenAI(base_url=where.base_url, api_key=where.api_key) as client:
        job = jobs.tune(client, pairs(options), chosen, model=options.model, suffix="alpaca")
    measured = jobs.figures(where, job)
    jobs.show(job, measured)
    return measured


if __name__ == "__main__":
    main()
