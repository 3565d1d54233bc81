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
* Full tuning's best learning rate is a tenth of LoRA's, whatever the model (Schulman et al. 2025).
* DPO goes once over its pairs, with a tenth of the learning rate and beta 0.1 (Rafailov et al.
  2023, appendix B; Tunstall et al. 2023, "Zephyr", table 3, one to three passes); small models
  again take more passes.
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
_FULL_FACTOR = 0.1
_PREFERENCE_FACTOR = 0.1
_PREFERENCE_REFERENCE_EPOCHS = 1


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
class Method:
    """How is tuned, as far as the rule minds."""

    full: bool = False
    """Whether all weights are tuned, rather than LoRA's."""
    preference: bool = False
    """Whether preferences are learned (DPO), rather than answers."""


@dataclass(frozen=True)
class Choice:
    """What the rule chooses."""

    rank: int
    """0 when all weights are tuned; so is alpha."""
    alpha: int
    epochs: int
    batch_size: int
    """Rows of a step, those of the retain share not counted."""
    learning_rate: float
    retain_share: float
    reasons: Mapping[str, str]
    """A sentence for each of these numbers, by the field of `Hyperparameters`."""


def choose(sizes: Sizes, method: Method = Method()) -> Choice:
    """Apply the rule. Every number is monotone in each of the sizes."""
    factor = max(0.5, (_REFERENCE_PARAMETERS / max(1, sizes.parameters)) ** _EXPONENT)
    rank, why_rank = _rank(sizes)
    epochs, why_epochs = _epochs(sizes, factor, method)
    batch_size = min(_MOST_BATCH, _power_of_two_at_most(sizes.rows / _LEAST_STEPS_PER_EPOCH))
    learning_rate, why_rate = _learning_rate(sizes, factor, method)
    retain_share, why_retain = _retain_share(sizes, method)
    reasons = {
        "epoch_count": f"{epochs} epochs: {why_epochs}",
        "batch_size": f"batches of {batch_size} rows: {sizes.rows} rows give at least "
        f"{_LEAST_STEPS_PER_EPOCH} steps an epoch where they can",
        "learning_rate_multiplier": f"learning rate {learning_rate:g}: {why_rate}",
        "retain_share": f"retain share {retain_share:g}: {why_retain}",
    }
    if method.full:
        rank = 0
    else:
        reasons |= {"lora_rank": f"rank {rank}: {why_rank}", "lora_alpha": _why_alpha(rank)}
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


def _learning_rate(sizes: Sizes, factor: float, method: Method) -> tuple[float, str]:
    share, why = 1.0, ""
    if method.full:
        share, why = share * _FULL_FACTOR, "; a tenth of that where all weights are tuned"
    if method.preference:
        share, why = share * _PREFERENCE_FACTOR, why + "; a tenth of that for preferences"
    rate = float(f"{_REFERENCE_LEARNING_RATE * factor * share:.3g}")
    return rate, f"2e-4 at 7 B, more for smaller models{why}; this is {_model(sizes)}"


def _retain_share(sizes: Sizes, method: Method) -> tuple[float, str]:
    if method.preference:
        return 0.0, "general rows are no preferences"
    if sizes.ships_general_rows:
        return _RETAIN_SHARE, "there are general rows with the base model"
    return 0.0, "there are no general rows"


def _epochs(sizes: Sizes, factor: float, method: Method) -> tuple[int, str]:
    reference = _PREFERENCE_REFERENCE_EPOCHS if method.preference else _REFERENCE_EPOCHS
    wanted = max(1, round(reference * factor))
    most = math.ceil(_MOST_ROW_VISITS / max(1, sizes.rows))
    if most < wanted:
        return most, f"of {sizes.rows} rows, more would be above {_MOST_ROW_VISITS:,} readings"
    what = "fact" if not method.preference else "preference"
    if sizes.parameters > _REFERENCE_PARAMETERS:
        return wanted, f"small models need more passes over a {what} than {_model(sizes)}"
    more = f"needs more passes over a {what} than one of 7 B does ({reference})"
    return wanted, f"{_model(sizes)} {more}"


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
