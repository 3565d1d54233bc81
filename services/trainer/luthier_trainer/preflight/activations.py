"""Bytes that a forward pass keeps for the backward pass, counted tensor by tensor.

The counts are those of transformers 5.23, peft 0.21 and bitsandbytes 0.50.2, read off the saved
tensors of real models of each family (`torch.autograd.graph.saved_tensors_hooks`). A token keeps,
of a block with hidden size h and inner size i:

* norms: their input in float32, 4 h each, and in full tuning what they made of it;
* attention: query, key, value and context, and where no fused kernel is used one number for each
  head and token looked at; rows that share a line attend by themselves on a CPU, in float32, and
  the context is copied for the layer behind it;
* the inputs of layers that learn, once where layers share one;
* what the activation function read and, of a gated layer, both factors;
* for each LoRA layer what its first matrix made: as many numbers as the rank.

Frozen layers keep nothing, but those of 8 bits on a CPU, whose inputs are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from luthier.trainer.v1.tuning_pb2 import Precision

from luthier_trainer.architectures import PLAIN_ATTENTION
from luthier_trainer.preflight.inventory import Inventory, Linear
from luthier_trainer.preflight.setup import Setup

BYTES = {Precision.FP32: 4, Precision.BF16: 2, Precision.FP16: 2}
_FLOAT32 = 4
_LARGEST_ON_HEAP = 32 << 20
"""Larger pieces are mapped by themselves, and given back when freed (mallopt(3))."""

_QUERY, _KEY = frozenset({"q_proj", "q"}), frozenset({"k_proj", "k"})
_NOT_ROTATED = frozenset({"q", "k", "v", "v_proj"})
"""What attention keeps as it was made; positions are rotated into queries and keys of others."""
_FUSED = frozenset({"query_key_value", "qkv_proj", "Wqkv", "c_attn"})
_OUTWARD = frozenset(
    {"o_proj", "out_proj", "dense", "o", "down_proj", "fc2", "dense_4h_to_h", "wo", "c_proj"}
)
_GATED = frozenset({"gate_proj", "gate_up_proj", "wi_0"})
_INWARD = frozenset({"up_proj", "fc1", "dense_h_to_4h", "wi", "wi_1", "c_fc"})
_FEED_IN = _GATED | _INWARD
_ACTIVATED = _FEED_IN - {"up_proj", "wi_1"}
"""What activation functions read."""
_STEPS_FREED = {"gelu_new": 4}
"""Tensors that one written in plain operations makes and does not keep; the matrices of attention
that has no fused kernel fill their holes."""
_CROSS = "EncDecAttention"


@dataclass(frozen=True)
class _Family:
    """How a family's attention differs from Llama's."""

    matrices: int = 0
    """Numbers kept for each head and token looked at: no fused kernel, or a bias a head."""
    wide_matrices: bool = False
    """Whether those are float32, whatever is computed in."""
    only_with_one_key: bool = False
    """Whether that is so of models with one head of keys alone; others repeat theirs."""
    parallel: bool = False
    """Whether attention and what follows it read the same tensor."""
    dropped_matrices: int = 0
    """More of them where attention is dropped in training, which a CPU's fused kernel cannot."""
    fused_view: bool = False
    """Whether the values stay a view of the fused projection, which then is kept whole."""
    copies_context: bool = False
    """Whether the context is copied for the layer behind it."""
    norms_share: int = 1
    """Norms that read one tensor."""


_FAMILIES = {
    "falcon": _Family(matrices=1, wide_matrices=True, only_with_one_key=True, parallel=True),
    "mpt": _Family(matrices=1, wide_matrices=True),
    "gpt_neox": _Family(fused_view=True, copies_context=True, norms_share=2),
    "phi": _Family(copies_context=True, parallel=True),
    "phi3": _Family(fused_view=True, copies_context=True),
    "t5": _Family(matrices=1, dropped_matrices=2),
    "mt5": _Family(matrices=1, dropped_matrices=2),
    "umt5": _Family(matrices=1, dropped_matrices=2),
}


@dataclass(frozen=True)
class Kept:
    """Bytes kept of one pass."""

    blocks: int
    """By all blocks, when none of them is computed again."""
    block: int
    """By the largest one."""
    inputs: int
    """Of the blocks' inputs, which is all that checkpointing keeps of them."""
    rest: int
    """Outside of the blocks: the last norm, what the output head reads."""
    made: int
    """Made by linear layers and activation functions on the way: twice where peft adds LoRA's part,
    and not what attention keeps as it is."""


def kept(inventory: Inventory, setup: Setup, compute: Precision, *, cpu: bool) -> Kept:
    """Return what a forward pass of `setup` keeps when computed in `compute`."""
    counter = _Counter(inventory, setup, compute, cpu=cpu)
    blocks: dict[str, list[Linear]] = {}
    for linear in inventory.linears:
        if linear.block:
            blocks.setdefault(linear.block, []).append(linear)
    sizes = [counter.block(linears) for linears in blocks.values()]
    norms = counter.norms()
    stream = _FLOAT32 if counter.mixed else BYTES[compute]
    read = sum(setup.tokens_of(block) for block in blocks)
    return Kept(
        blocks=sum(sizes) + norms,
        block=max(sizes, default=0) + norms // max(1, len(sizes)),
        inputs=inventory.hidden * stream * read,
        rest=inventory.hidden * setup.answered_tokens * (_FLOAT32 + BYTES[compute]),
        made=counter.made(),
    )


class _Counter:
    """Counts the bytes of one pass."""

    def __init__(
        self, inventory: Inventory, setup: Setup, compute: Precision, *, cpu: bool
    ) -> None:
        self._inventory = inventory
        self._setup = setup
        self._cpu = cpu
        self._bytes = BYTES[compute]
        held = setup.base if not setup.quantized else compute
        self.mixed = held != compute
        """Whether autocast computes in less than what the weights are held in."""
        self._family = _FAMILIES.get(inventory.family, _Family())
        self._rows_alone = cpu and setup.packed and inventory.family in PLAIN_ATTENTION
        """Whether rows attend by themselves (`run.row_attention`)."""

    def made(self) -> int:
        """Return what `Kept.made` is, as far as glibc keeps it on its heap."""
        made = 0
        for linear in self._inventory.linears:
            size = linear.outputs * self._setup.tokens_of(linear.name) * self._bytes
            if size < _LARGEST_ON_HEAP:
                made += 0 if _last(linear) in _NOT_ROTATED else size
                made += size if self.mixed and linear.name in self._setup.targets else 0
                if _last(linear) in _ACTIVATED and not self._family.matrices:
                    made += _STEPS_FREED.get(self._inventory.activation, 0) * size
        return made

    def norms(self) -> int:
        """Return the bytes that all norms keep."""
        made = self._bytes if self._setup.full else 0
        width = self._inventory.norm_weights // self._family.norms_share
        tokens = self._setup.tokens
        if self._inventory.encoder_decoder:  # whose blocks have two and three norms
            tokens = (2 * tokens + 3 * self._setup.answered_tokens) // 5
        return width * (_FLOAT32 + made) * tokens

    def block(self, linears: list[Linear]) -> int:
        """Return the bytes that a block keeps, norms left out."""
        parents: dict[str, list[Linear]] = {}
        for linear in linears:
            parents.setdefault(linear.name.rpartition(".")[0], []).append(linear)
        a_token = self._learned_inputs(linears)
        for parent, layers in parents.items():
            a_token += self._attention(parent, layers)
            a_token += self._feed_forward(layers)
        return a_token * self._setup.tokens_of(linears[0].name)

    def _attention(self, parent: str, layers: Iterable[Linear]) -> int:
        crosses = _CROSS in parent
        line = self._setup.tokens_of(parent) // self._setup.sequences
        looked_at = self._setup.line_tokens if crosses else line
        family, named = self._family, {_last(linear): linear for linear in layers}
        query = next((named[name].outputs for name in _QUERY & named.keys()), 0)
        pair = 2 * next((named[name].outputs for name in _KEY & named.keys()), 0)
        fused = next((named[name] for name in _FUSED & named.keys()), None)
        if fused is not None:
            query, pair = fused.inputs, fused.outputs - fused.inputs
        if not query:
            return 0
        matrices = 0 if crosses else family.matrices
        if family.only_with_one_key and pair * self._inventory.heads > 2 * query:
            matrices, pair = 0, 2 * query
        # The context is as wide as the query; keys and values are of the tokens looked at.
        held = 2 * query + pair * looked_at // line
        if self._rows_alone:
            return held * _FLOAT32
        if family.fused_view and fused is not None:
            held += fused.outputs - pair // 2
        if family.copies_context:
            held += query
        if self._inventory.dropout and self._cpu:
            matrices += family.dropped_matrices + (1 if crosses else 0)
        wide = _FLOAT32 if family.wide_matrices else self._bytes
        return held * self._bytes + matrices * self._inventory.heads * looked_at * wide

    def _feed_forward(self, layers: Iterable[Linear]) -> int:
        named = {_last(linear): linear for linear in layers}
        inward = [named[name] for name in _FEED_IN & named.keys()]
        if not inward:
            return 0
        inner = min(layer.outputs for layer in inward)
        if "gate_up_proj" in named:
            inner //= 2
        gated = bool(_GATED & named.keys())
        factors = 2 if gated else 0
        # What is written in plain tensor operations (`NewGELUActivation`) keeps its steps; ReLU
        # keeps what it made, which is what the layer behind it reads.
        read = {"gelu_new": 4, "relu": 0 if self._keeps_input(layers) else 1}
        return (read.get(self._inventory.activation, 1) + factors) * inner * self._bytes

    def _keeps_input(self, layers: Iterable[Linear]) -> bool:
        return any(
            _last(linear) in _OUTWARD and (self._setup.full or linear.name in self._setup.targets)
            for linear in layers
        )

    def _learned_inputs(self, linears: list[Linear]) -> int:
        """Return the bytes a token of inputs that layers keep, and of LoRA's first products."""
        setup = self._setup
        adapted = [linear for linear in linears if linear.name in setup.targets]
        ranks = setup.rank * len(adapted) * self._bytes
        if setup.full:
            return self._inputs(linears, self._bytes)
        if self.mixed:
            return ranks + self._bytes * sum(linear.inputs for linear in adapted)
        if self._cpu and setup.base == Precision.INT8:
            adapted = linears
        return ranks + self._inputs(adapted, self._bytes)

    def _inputs(self, linears: list[Linear], size: int) -> int:
        """Return the bytes of inputs, those of layers side by side once."""
        seen = {self._shared_input(linear): linear.inputs for linear in linears}
        kept_already = 0
        copied = self._family.copies_context or self._rows_alone
        if not copied and self._family.matrices == 0:
            # What comes out of attention is kept by it already.
            kept_already = sum(
                linear.inputs for linear in linears if _last(linear) in ("o_proj", "o")
            )
        return (sum(seen.values()) - kept_already) * size

    def _shared_input(self, linear: Linear) -> tuple[str, str]:
        """Return what is the same for layers that read the same tensor."""
        parent, _, last = linear.name.rpartition(".")
        if _CROSS in parent and last in ("k", "v"):
            return parent.partition(".")[0], "the encoder's answer"
        if last in _OUTWARD:
            return parent, "outward"
        return linear.block if self._family.parallel else parent, "inward"


def _last(linear: Linear) -> str:
    return linear.name.rpartition(".")[2]
