"""Preference tuning: the tensors of its steps, and trl's DPO as the trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from luthier_trainer.run.output_head import Tensors, score_whole
from luthier_trainer.run.rows import Row
from luthier_trainer.run.trainers import StepTrainer

_MULTIPLE = 8


class PreferenceCollator:
    """Pads the conversations of a step: with the preferred answers first, then with the others."""

    def __init__(self, pad_token: int) -> None:
        self._collate = DataCollatorForPreference(pad_token, pad_to_multiple_of=_MULTIPLE)
        self.tokens = 0
        """Tokens of the rows handed out so far, prompts counted twice as they are read."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `completion_mask`, (2 x rows, tokens) each."""
        tensors: dict[str, torch.Tensor] = self._collate(list(rows))
        self.tokens += int(tensors["attention_mask"].sum())
        return tensors


class PreferenceTrainer(StepTrainer, DPOTrainer):  # type: ignore[misc]
    """Preferences, learned by trl's DPO."""

    def __init__(self, **options: Any) -> None:
        model = options["model"]
        given = {
            name: weight.clone()
            for name, weight in model.named_parameters()
            if weight.requires_grad
        }
        super().__init__(**options)
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:
                # trl rounds adapters of quantized models to bfloat16, where steps of a small
                # learning rate come to nothing; what is stored and served is float32.
                weight.data = given[name] if name in given else weight.data.float()

    def score(self, model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
        """See `StepTrainer`; `right` counts pairs whose preferred answer has the higher reward."""
        pairs = self.items(inputs)
        mode = "train" if self.model.training else "eval"
        loss = self._compute_loss(model, inputs, return_outputs=False)
        told, learned = self._metrics[mode], int(inputs["completion_mask"][:pairs].sum())
        accuracy, margin, right = (
            told[name][-1]
            for name in ("mean_token_accuracy", "rewards/margins", "rewards/accuracies")
        )
        told.clear()
        sums = {
            "correct": accuracy * learned,
            "tokens": learned,
            "margin": margin * pairs,
            "right": right * pairs,
            "items": pairs,
        }
        return {"loss": loss * pairs, **{name: torch.tensor(value) for name, value in sums.items()}}

    def score_tokens(self, model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
        """See `StepTrainer`."""
        return score_whole(model, inputs)

    def figures(self, sums: Counter[str]) -> dict[str, float]:
        """See `StepTrainer`."""
        if "right" not in sums:  # rows of answers
            return super().figures(sums)
        pairs = max(1.0, sums["items"])
        rewards = {
            "reward_accuracy": sums["right"] / pairs,
            "reward_margin": sums["margin"] / pairs,
        }
        return super().figures(sums) | rewards

    def items(self, inputs: Tensors) -> int:
        """See `StepTrainer`."""
        return len(inputs["input_ids"]) // 2

    def parts(self, inputs: Tensors, lines: int) -> list[Tensors]:
        """See `StepTrainer`; preferred answers are the first half of a batch, the others behind."""
        if "completion_mask" not in inputs:  # rows of answers
            return super().parts(inputs, lines)
        pairs, size = self.items(inputs), max(1, lines // 2)
        return [
            {
                name: torch.cat(
                    [values[:pairs][start : start + size], values[pairs:][start : start + size]]
                )
                for name, values in inputs.items()
            }
            for start in range(0, pairs, size)
        ]

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # the rows are tokens already
