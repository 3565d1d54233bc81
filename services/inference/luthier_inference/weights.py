"""What names and shapes of a model's tensors tell: its weights, and the layers that LoRA adapts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

Shapes = Mapping[str, tuple[int, ...]]
"""Of every tensor of a model, by its name."""

_HEAD = re.compile(r"\b(lm_head|embed_out)\.weight$")
# T5 keeps the table of its relative positions as an embedding, under the name of a bias.
_EMBEDDING = re.compile(r"embed|\bwte\b|\bwpe\b|\bshared\b|relative_attention_bias")
_T5_EMBEDDING = "shared.weight"
_T5_COPIES = frozenset({"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"})
_MASK_DIMENSIONS = 4


def parameter_count(shapes: Shapes, *, tied: bool) -> int:
    """Return the weights of a model, those that it shares between layers once.

    `tied` says that the output head is the input embedding; some snapshots store it twice.
    """
    copies = set(_copies(shapes, tied=tied))
    return sum(
        math.prod(shape)
        for name, shape in shapes.items()
        # Older snapshots of GPT-2 and GPT-NeoX hold their attention masks, too.
        if name not in copies and len(shape) < _MASK_DIMENSIONS
    )


def lora_parameters_per_rank(shapes: Shapes) -> int:
    """Return what LoRA of rank 1 adds on all linear layers: the sum of their inputs and outputs.

    As peft's `all-linear` has it, that is without the output head.
    """
    return sum(sum(shape) for _, shape in linear_weights(shapes))


def linear_weights(shapes: Shapes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes of the linear layers' matrices, but for the output head's."""
    for name, shape in shapes.items():
        if len(shape) == 2 and not _HEAD.search(name) and not _EMBEDDING.search(name):
            yield name, shape


def _copies(shapes: Shapes, *, tied: bool) -> Iterator[str]:
    if _T5_EMBEDDING in shapes:
        yield from _T5_COPIES
    embeddings = {
        shape
        for name, shape in shapes.items()
        if _EMBEDDING.search(name) and not _HEAD.search(name)
    }
    for name, shape in shapes.items():
        if tied and _HEAD.search(name) and shape in embeddings:
            yield name
