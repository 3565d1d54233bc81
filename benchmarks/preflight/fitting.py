"""The two constants of the estimator for runs without a GPU, by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from luthier_trainer.preflight.inventory import Inventory
from luthier_trainer.preflight.memory import CPU, Machine, estimate
from luthier_trainer.preflight.setup import Setup

Case = tuple[Inventory, Setup, int]
"""A model, a setup, and the peak that was measured."""


def fitted(cases: Sequence[Case]) -> Machine:
    """Return the constants that leave the least squares of relative errors."""
    bare = replace(CPU, fixed_bytes=0, heap_share=0.0)
    whole = replace(bare, heap_share=1.0)
    rows, rest = [], []
    for inventory, setup, peak in cases:
        without = estimate(inventory, setup, bare).total_bytes
        heap = estimate(inventory, setup, whole).total_bytes - without
        rows.append([1 / peak, heap / peak])
        rest.append((peak - without) / peak)
    (fixed, share), *_ = np.linalg.lstsq(np.array(rows), np.array(rest), rcond=None)
    return replace(CPU, fixed_bytes=round(float(fixed)), heap_share=float(share))
