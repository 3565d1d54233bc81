"""A batch of answers written together, token by token, over one key-value cache."""

from __future__ import annotations

from typing import Any

import torch

from luthier_inference.engine.model import Model
from luthier_inference.engine.row import Piece, Row
from luthier_inference.engine.sampling import choose


class Batch:
    """Rows that began together; finished and cancelled ones leave at once. For one thread."""

    def __init__(self, model: Model, rows: list[Row], end_tokens: frozenset[int]) -> None:
        self._model = model
        self._ends = end_tokens
        self.rows = rows
        longest = max(len(row.prompt) for row in rows)
        # Padding goes to the left, so that all rows write into the same column.
        padded = [[0] * (longest - len(row.prompt)) + row.prompt for row in rows]
        masks = [[0] * (longest - len(row.prompt)) + [1] * len(row.prompt) for row in rows]
        self._input = torch.tensor(padded, device=model.device)
        self._mask = torch.tensor(masks, device=model.device)
        self._positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
        self._cache: Any = None

    @torch.inference_mode()
    def step(self) -> list[tuple[Row, Piece]]:
        """Write one token into every row, and return what each step gave to whom."""
        self._keep([not row.cancelled for row in self.rows])
        if not self.rows:
            return []
        tokens = choose(self._logits(), [row.sampling for row in self.rows])
        pieces = [
            row.advance(token, ends=token in self._ends)
            for row, token in zip(self.rows, tokens, strict=True)
        ]
        stepped = list(zip(self.rows, pieces, strict=True))
        self._extend(tokens)
        self._keep([piece.finish is None for piece in pieces])
        return stepped

    def _logits(self) -> torch.Tensor:
        output = self._model.forward(
            [row.adapter for row in self.rows],
            input_ids=self._input,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _extend(self, tokens: list[int]) -> None:
        self._input = torch.tensor(tokens, device=self._model.device).unsqueeze(1)
        self._mask = torch.cat([self._mask, torch.ones_like(self._input)], dim=1)
        self._positions = self._positions[:, -1:] + 1

    def _keep(self, kept: list[bool]) -> None:
        """Take the other rows out of the batch."""
        if all(kept):
            return
        self.rows = [row for row, keep in zip(self.rows, kept, strict=True) if keep]
        indices = torch.tensor(kept, device=self._model.device).nonzero().squeeze(1)
        self._input, self._mask = self._input[indices], self._mask[indices]
        self._positions = self._positions[indices]
        if self._cache is not None:
            self._cache.batch_select_indices(indices)
