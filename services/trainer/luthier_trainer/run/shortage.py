"""When the device's memory is short."""

from __future__ import annotations

import torch
from luthier_common.errors import FailedPrecondition


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: of a GPU, or of the machine."""
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "can't allocate memory" in str(error)


def too_large(what: str, short: str) -> FailedPrecondition:
    """Return the error for what cannot be made smaller; `short` is what the device said."""
    return FailedPrecondition(
        f"the device's memory does not hold {what}: {short}; try gradient_checkpointing, a "
        "smaller max_row_tokens or a lower base_precision",
        reason="OUT_OF_MEMORY",
    )
