"""One way to tune a base model, as far as memory depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from luthier.trainer.v1.tuning_pb2 import (
    Optimizer,
    Precision,
    ResolvedHyperparameters,
    TuningMode,
)

from luthier_trainer.hyperparameters import ALL_LINEAR, QUANTIZED
from luthier_trainer.preflight.inventory import Inventory, Linear
from luthier_trainer.preflight.steps import Passes
from luthier_trainer.target_modules import matching

_DECODER = "decoder."
"""What the names of a decoder's modules begin with, where there is an encoder, too."""


@dataclass(frozen=True)
class Setup:
    """What is tuned, how the weights are held, and what a forward pass reads."""

    full: bool
    base: Precision
    double_quantization: bool
    compute: Precision
    """What is computed in; PRECISION_UNSPECIFIED where the device decides."""
    targets: frozenset[str]
    """Names of the linear layers that LoRA is put beside; none of full tuning."""
    rank: int
    optimizer: Optimizer
    lines: int
    """Lines of a forward pass; of preferences, rows."""
    line_tokens: int
    answer_tokens: int
    """Tokens of a line of the decoder, where an encoder reads the other; else the same."""
    checkpointing: bool
    preference: bool
    accumulates: bool
    """Whether a step is several passes."""
    packed: bool = False
    """Whether rows share lines."""
    row_tokens: int = 0
    """Then, tokens of the shortest line that holds any row."""

    @property
    def sequences(self) -> int:
        """Sequences of a forward pass: of a preference row, both answers."""
        return 2 * self.lines if self.preference else self.lines

    @property
    def tokens(self) -> int:
        """Tokens of a forward pass, padding counted."""
        return self.sequences * self.line_tokens

    @property
    def answered_tokens(self) -> int:
        """Tokens of a forward pass that the output head sees, padding counted."""
        return self.sequences * self.answer_tokens

    def tokens_of(self, module: str) -> int:
        """Return the tokens of a forward pass that a module sees, by its name."""
        return self.answered_tokens if module.startswith(_DECODER) else self.tokens

    @property
    def quantized(self) -> bool:
        """Whether linear layers are held in 4 or 8 bits."""
        return self.base in QUANTIZED

    def computing(self, *, has_bfloat16: bool) -> Precision:
        """Return what a device computes in; the run's own rule (`run.model.compute_dtype`)."""
        if self.compute:
            return self.compute
        if self.base in (Precision.FP16, Precision.BF16):
            return self.base
        return Precision.BF16 if has_bfloat16 else Precision.FP32

    def in_parts(self, parts: int | None = None) -> Setup:
        """Return the same with a step in so many passes more, or in as many as it can be.

        As `micro_batch_size` has it: lines that rows share are then as short as rows allow.
        """
        line = self.row_tokens if self.packed else self.line_tokens
        answer = line if self.packed else self.answer_tokens
        most = max(1, self.lines * self.line_tokens // line)
        lines = max(1, most // parts) if parts else 1
        return replace(
            self,
            lines=lines,
            line_tokens=line,
            answer_tokens=answer,
            accumulates=self.accumulates or lines < most,
        )

    def adapted(self, inventory: Inventory) -> list[Linear]:
        """Return the layers that LoRA is put beside."""
        return [linear for linear in inventory.linears if linear.name in self.targets]

    def adapter_parameters(self, inventory: Inventory) -> int:
        """Return the weights of all LoRA matrices: rank x (inputs + outputs) a layer."""
        sides = sum(linear.inputs + linear.outputs for linear in self.adapted(inventory))
        return self.rank * sides

    def trainable_parameters(self, inventory: Inventory) -> int:
        """Return the weights that are tuned."""
        return inventory.parameters if self.full else self.adapter_parameters(inventory)


def target_names(inventory: Inventory, wanted: Sequence[str]) -> frozenset[str]:
    """Return the layers that `wanted` means; InvalidArgument for an entry that means none."""
    names = [linear.name for linear in inventory.linears]
    if list(wanted) == [ALL_LINEAR]:
        return frozenset(names)
    return frozenset(matching(names, wanted))


def setup_of(
    chosen: ResolvedHyperparameters, inventory: Inventory, passes: Passes, *, preference: bool
) -> Setup:
    """Return the setup of a job whose steps come to `passes`."""
    full = chosen.tuning_mode == TuningMode.FULL
    # Where preferences are learned, a run counts both answers of a row as lines.
    most = chosen.micro_batch_size // 2 or 1 if preference else chosen.micro_batch_size
    lines = min(most, passes.lines) if chosen.micro_batch_size else passes.lines
    return Setup(
        full=full,
        base=chosen.base_precision,
        double_quantization=chosen.double_quantization,
        compute=chosen.compute_precision,
        targets=frozenset() if full else target_names(inventory, chosen.target_modules),
        rank=chosen.lora_rank,
        optimizer=chosen.optimizer or Optimizer.ADAMW,
        lines=lines,
        line_tokens=passes.line_tokens,
        answer_tokens=passes.answer_tokens,
        checkpointing=chosen.gradient_checkpointing,
        preference=preference,
        accumulates=lines < passes.lines,
        packed=passes.packed,
        row_tokens=passes.row_tokens,
    )
