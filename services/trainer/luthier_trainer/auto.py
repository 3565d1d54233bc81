"""The `auto` rule: tuning settings from the sizes of the model and of the data.

Reference points, all of them on the curves, none of them a special case:

* QLoRA (Dettmers et al. 2023, table 9): learning rate 2e-4 at 7-13 B, 1e-4 at 33-65 B, batch 16.
  2e-4 * (7e9 / N) ** (1 / 3), at least 1e-4, gives 2e-4 at 7 B, 1.2e-4 at 33 B, 1e-4 at 65 B, and
  3e-3 at 2 M, where the shipped starter learns more than with 1e-3 or 2e-3 (ADR 9).
* Small models need more passes over a fact: Allen-Zhu & Li 2024 (Physics of Language Models 3.3)
  count about 2 bits of knowledge a weight after 1,000 exposures and 1 bit after 100. OpenAI's
  hosted tuning used 3 epochs; 3 times the same factor gives 3 at 7 B and about 45 at 2 M.
* LoRA equals full tuning while the adapter's capacity exceeds the data's information, about one
  bit a token, on all linear layers and with small batches, at a learning rate that does not
  depend on the rank (Schulman et al. 2025, "LoRA Without Regret").
* Replay of general rows, 5 to 25 %, is the standard cure for forgetting (Biderman et al. 2024,
  "LoRA Learns Less and Forgets Less", measure how much there is to cure).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

_REFERENCE_PARAMETERS = 7e9
_EXPONENT = 1 / 3
_REFERENCE_LEARNING_RATE = 2e-4
_REFERENCE_EPOCHS = 3
_BITS_PER_WEIGHT = 2
_LEAST_RANK, _MOST_RANK = 8, 64
_MOST_TRAINABLE_SHARE = 0.10
_MOST_BATCH = 32
_LEAST_STEPS_PER_EPOCH = 8
_MOST_ROW_VISITS = 100_000
_RETAIN_SHARE = 0.25


@dataclass(frozen=True)
class Sizes:
    """What the rule looks at, and nothing else."""

    parameters: int
    """Weights of the base model."""
    lora_parameters_per_rank: int
    """Weights that LoRA of rank 1 adds on all linear layers."""
    rows: int
    """Rows of the training file."""
    tokens: int
    """Tokens of those rows; an estimate will do."""
    ships_general_rows: bool
    """Whether the base model has rows to retain its abilities with."""


@dataclass(frozen=True)
class Choice:
    """What the rule chooses."""

    rank: int
    alpha: int
    epochs: int
    batch_size: int
    """Rows of a step, those of the retain share not counted."""
    learning_rate: float
    retain_share: float
    reasons: Mapping[str, str]
    """A sentence for each field of `Hyperparameters`."""


def choose(sizes: Sizes) -> Choice:
    """Apply the rule. Every number is monotone in each of the sizes."""
    factor = max(0.5, (_REFERENCE_PARAMETERS / max(1, sizes.parameters)) ** _EXPONENT)
    rank, why_rank = _rank(sizes)
    epochs, why_epochs = _epochs(sizes, factor)
    batch_size = min(_MOST_BATCH, _power_of_two_at_most(sizes.rows / _LEAST_STEPS_PER_EPOCH))
    learning_rate = float(f"{_REFERENCE_LEARNING_RATE * factor:.3g}")
    retain_share = _RETAIN_SHARE if sizes.ships_general_rows else 0.0
    general = "general rows with the base model" if retain_share else "no general rows"
    reasons = {
        "epoch_count": f"{epochs} epochs: {why_epochs}",
        "batch_size": f"batches of {batch_size} rows: {sizes.rows} rows give at least "
        f"{_LEAST_STEPS_PER_EPOCH} steps an epoch where they can",
        "learning_rate_multiplier": f"learning rate {learning_rate:g}: 2e-4 at 7 B, more for "
        f"smaller models; this is {_model(sizes)}",
        "lora_rank": f"rank {rank}: {why_rank}",
        "lora_alpha": _why_alpha(rank),
        "retain_share": f"retain share {retain_share:g}: there are {general}",
    }
    return Choice(rank, 2 * rank, epochs, batch_size, learning_rate, retain_share, reasons)


def with_rank(choice: Choice, rank: int) -> Choice:
    """Return the choice for who has set the rank: alpha follows it."""
    reasons = {**choice.reasons, "lora_alpha": _why_alpha(rank)}
    return replace(choice, rank=rank, alpha=2 * rank, reasons=reasons)


def _rank(sizes: Sizes) -> tuple[int, str]:
    per_rank = max(1, sizes.lora_parameters_per_rank)
    wanted = _power_of_two_at_least(sizes.tokens / (_BITS_PER_WEIGHT * per_rank))
    ceiling = _power_of_two_at_most(_MOST_TRAINABLE_SHARE * sizes.parameters / per_rank)
    rank = min(max(_LEAST_RANK, wanted), _MOST_RANK, ceiling)
    if rank < min(max(_LEAST_RANK, wanted), _MOST_RANK):
        return rank, "a higher one would tune more than a tenth of the base's weights"
    data = f"{sizes.tokens:,} tokens of one bit each, at two bits a weight"
    if rank < wanted:
        return rank, f"the most that is chosen; {data}, would fill more"
    if rank > wanted:
        return rank, f"the least that is chosen; {data}, would fit into less"
    return rank, f"it holds about {data}"


def _epochs(sizes: Sizes, factor: float) -> tuple[int, str]:
    wanted = round(_REFERENCE_EPOCHS * factor)
    most = math.ceil(_MOST_ROW_VISITS / max(1, sizes.rows))
    if most < wanted:
        return most, f"of {sizes.rows} rows, more would be above {_MOST_ROW_VISITS:,} readings"
    if sizes.parameters > _REFERENCE_PARAMETERS:
        return wanted, f"small models need more passes over a fact than {_model(sizes)}"
    return wanted, f"{_model(sizes)} needs more passes over a fact than one of 7 B does (3)"


def _model(sizes: Sizes) -> str:
    millions = float(f"{sizes.parameters / 1e6:.3g}")
    size = f"{millions:g} M" if millions < 1000 else f"{millions / 1000:.12g} B"
    return f"a model of {size} weights"


def _why_alpha(rank: int) -> str:
    return f"alpha {2 * rank}: twice the rank"


def _power_of_two_at_most(value: float) -> int:
    return 1 << max(0, math.floor(math.log2(max(1.0, value))))


def _power_of_two_at_least(value: float) -> int:
    return 1 << max(0, math.ceil(math.log2(max(1.0, value))))
