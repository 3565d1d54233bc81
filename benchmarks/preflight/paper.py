"""The memory that the founding paper measured, and what the preflight estimates for it.

One set of assumptions for all rows, since the paper does not give these settings. It measured on
an A100 with 80 GB, as `nvidia-smi` shows it: in units of 2**30 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from luthier.trainer.v1.tuning_pb2 import Optimizer, Precision
from luthier_trainer.preflight.inventory import Inventory, Tensor, take_inventory
from luthier_trainer.preflight.memory import CUDA, estimate
from luthier_trainer.preflight.servability import serving_bytes
from luthier_trainer.preflight.setup import Setup, target_names

UNIT = 2**30
LINES, LINE_TOKENS, RANK = 8, 2048, 8
TOLERANCE = 0.2
ASSUMPTIONS = (
    f"sequences of {LINE_TOKENS:,} tokens (the shorter of the two that the paper names for full "
    f"tuning), {LINES} a pass (the default of transformers' trainer)",
    "activations computed again in the backward pass (what peft's "
    "`prepare_model_for_kbit_training` turns on)",
    "LoRA: base weights in 8 bits; QLoRA: in NF4 with double quantization; computed in float16. "
    "With base weights in float16, 13B LoRA's 26 GB would be the weights alone",
    f"rank {RANK} on `q_proj` and `v_proj`, the paper's modules; AdamW with 32-bit state",
    "the logits of all tokens at once, as trainers of that time held them (ours does not)",
    "inference: weights and a CUDA context, no requests",
    "full tuning: weights, gradients and AdamW's state in float16, one sequence a pass",
)


@dataclass(frozen=True)
class Shape:
    """The public configuration of a Llama model."""

    hidden: int
    layers: int
    inner: int
    heads: int
    pairs: int
    """Heads of keys and values."""
    words: int


SHAPES = {
    "Llama 2 7B": Shape(4096, 32, 11_008, 32, 32, 32_000),
    "Llama 2 13B": Shape(5120, 40, 13_824, 40, 40, 32_000),
    "Llama 2 70B": Shape(8192, 80, 28_672, 64, 8, 32_000),
    "Code Llama 7B": Shape(4096, 32, 11_008, 32, 32, 32_016),
    "Code Llama 13B": Shape(5120, 40, 13_824, 40, 40, 32_016),
}


@dataclass(frozen=True)
class PaperRow:
    """A figure of the paper."""

    model: str
    method: str
    least: float
    """GB that the paper measured."""
    most: float
    """The same, where it gives one figure."""

    @property
    def scored(self) -> bool:
        """Whether the estimate is held to it: the rows of full tuning contradict each other."""
        return not self.method.startswith("full")


ROWS = (
    PaperRow("Llama 2 7B", "LoRA", 18, 18),
    PaperRow("Llama 2 13B", "LoRA", 26, 26),
    PaperRow("Llama 2 70B", "QLoRA", 65, 65),
    PaperRow("Code Llama 7B", "LoRA", 18, 18),
    PaperRow("Code Llama 13B", "LoRA", 26, 26),
    PaperRow("Code Llama 7B", "QLoRA", 15, 15),
    PaperRow("Llama 2 7B", "inference, fp32", 28, 28),
    PaperRow("Llama 2 7B", "inference, int8", 8, 8),
    PaperRow("Llama 2 7B", "full, fp16", 46, 59),
    PaperRow("Llama 2 13B", "full, fp16", 53, 62),
)


def inventory_of(shape: Shape) -> Inventory:
    """Return the inventory that the headers of such a model would give."""
    hidden, inner = shape.hidden, shape.inner
    pair = hidden // shape.heads * shape.pairs
    sides = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (pair, hidden),
        "self_attn.v_proj": (pair, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    tensors = [
        Tensor(f"model.layers.{layer}.{name}.weight", side, "F16")
        for layer in range(shape.layers)
        for name, side in sides.items()
    ]
    tensors += [
        Tensor("model.embed_tokens.weight", (shape.words, hidden), "F16"),
        Tensor("lm_head.weight", (shape.words, hidden), "F16"),
        Tensor("model.norm.weight", (hidden,), "F16"),
    ]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "num_attention_heads": shape.heads,
        "tie_word_embeddings": False,
    }
    return take_inventory(config, tensors)


def estimated(row: PaperRow) -> float:
    """Return the estimate for a row, in GB as the paper counts them."""
    inventory = inventory_of(SHAPES[row.model])
    if row.method.startswith("inference"):
        held = Precision.FP32 if row.method.endswith("fp32") else Precision.INT8
        return (serving_bytes(inventory, held) + CUDA.fixed_bytes) / UNIT
    full = row.method.startswith("full")
    base = {"LoRA": Precision.INT8, "QLoRA": Precision.NF4}.get(row.method, Precision.FP16)
    setup = Setup(
        full=full,
        base=base,
        double_quantization=base == Precision.NF4,
        compute=Precision.FP16,
        targets=frozenset() if full else target_names(inventory, ["q_proj", "v_proj"]),
        rank=0 if full else RANK,
        optimizer=Optimizer.ADAMW,
        lines=1 if full else LINES,
        line_tokens=LINE_TOKENS,
        answer_tokens=LINE_TOKENS,
        checkpointing=True,
        preference=False,
        accumulates=False,
    )
    return estimate(inventory, setup, CUDA, whole_logits=True).total_bytes / UNIT


def error(row: PaperRow) -> float:
    """Return how far off the estimate is, as a share of the paper's figure (or nearer bound)."""
    found = estimated(row)
    nearest = min(max(found, row.least), row.most)
    return found / nearest - 1
