"""What the tuned model makes of a few rows, kept beside its weights: serving must make the same.

An engine computes in other kernels and perhaps another precision. Before it answers with an adapter
it reads these rows, too, and compares the log-probabilities of their tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from luthier_trainer.run.resume_state import os_errors
from luthier_trainer.run.rows import Row

PROBE_FILE = "probe.json"
_ROWS = 8
_TOKENS = 128
"""Of each row, and of what an encoder reads before it."""
_DIGITS = 5


def write_probe(model: Any, rows: Sequence[Row], target: Path, precision: str) -> Path:
    """Write the probe of a model as it stands below `target` and return the file.

    The first of `rows` are read; `precision` is how the base model is held.
    """
    was_training = model.training
    model.eval()
    told = [_read(model, row) for row in rows[:_ROWS]]
    model.train(was_training)
    path = target / PROBE_FILE
    with os_errors():
        path.write_text(json.dumps({"version": 1, "precision": precision, "rows": told}))
    return path


@torch.no_grad()
def _read(model: Any, row: Row) -> dict[str, list[Any]]:
    if model.config.is_encoder_decoder:
        source, tokens = row["input_ids"][:_TOKENS], row["labels"][:_TOKENS]
        line = [model.config.decoder_start_token_id, *tokens[:-1]]
        given = {"input_ids": _tensor(source, model), "decoder_input_ids": _tensor(line, model)}
        return {"source": source} | _told(model(**given, use_cache=False).logits[0], tokens)
    whole = row["input_ids"] if "input_ids" in row else [*row["prompt_ids"], *row["chosen_ids"]]
    first, *tokens = whole[:_TOKENS]
    line = [first, *tokens[:-1]]
    logits = model(input_ids=_tensor(line, model), use_cache=False).logits[0]
    return {"first": [first]} | _told(logits, tokens)


def _tensor(tokens: Sequence[int], model: Any) -> torch.Tensor:
    return torch.tensor([tokens], device=model.device)


def _told(logits: torch.Tensor, tokens: Sequence[int]) -> dict[str, list[Any]]:
    """Return tokens, their log-probabilities (natural), and which tokens were the likeliest."""
    logged = logits.float().log_softmax(dim=-1)
    wanted = torch.tensor(tokens, device=logits.device).unsqueeze(1)
    logprobs = logged.gather(1, wanted)[:, 0].tolist()
    return {
        "tokens": list(tokens),
        "logprobs": [round(logprob, _DIGITS) for logprob in logprobs],
        "likeliest": logged.argmax(dim=-1).tolist(),
    }
