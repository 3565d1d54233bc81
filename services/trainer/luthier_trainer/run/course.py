"""What a run's trainer works with, and how far it has got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from luthier_trainer.run.data import Collator, MixedSampler
from luthier_trainer.run.evidence import Asker
from luthier_trainer.run.report import Board
from luthier_trainer.run.rows import Row


@dataclass
class Course:
    """What a trainer is given besides its library's own arguments."""

    sampler: MixedSampler
    board: Board
    folder: Path
    """Where the best weights go."""
    states: Path
    """Where resume states go."""
    judged: Sequence[Row]
    """Validation rows; may be empty."""
    judging: Collator
    """Its own, so that their tokens are not counted as learned."""
    asker: Asker
    """Has questions, where the validation rows ask any."""
    regression: Sequence[Row]
    """Rows that show what must not be forgotten; may be empty."""
    regression_collator: Collator
    lines: int
    """Most lines of a forward pass; 0 is all of a step."""
    line_tokens: int = field(default=0, kw_only=True)
    """Most tokens of a forward pass of one line that rows share; 0 is all of the line."""
    mixed: torch.dtype | None
    """The type of autocast without a GPU; None for none."""
    snapshot: Callable[[Any, Path], object] | None
    """Saves the adapter to a folder; None where there is none to publish."""
    loss_scale: float = field(default=1.0, kw_only=True)
    """What losses are multiplied by on the way back, so that float16 holds small gradients."""
    sums: Counter[str] = field(default_factory=Counter)
    """What the training steps since the last log have scored."""
