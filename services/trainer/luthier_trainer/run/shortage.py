"""When the device's memory is short."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from luthier_common.errors import FailedPrecondition

_SHORT = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says in errors that have no type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: of a GPU, or of the machine."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in _SHORT
    )


@contextlib.contextmanager
def holding(what: str) -> Iterator[None]:
    """FailedPrecondition where the memory does not hold `what`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise too_large(what, str(error)) from error


def too_large(what: str, short: str) -> FailedPrecondition:
    """Return the error for what cannot be made smaller; `short` is what the device said."""
    return FailedPrecondition(
        f"the device's memory does not hold {what}: {short}; try gradient_checkpointing, a "
        "smaller max_row_tokens or a lower base_precision",
        reason="OUT_OF_MEMORY",
    )
