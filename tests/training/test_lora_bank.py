"""The bank of adapters: what each token's adapter adds to a layer, however the bank is laid out."""

from __future__ import annotations

import pytest
import torch
from luthier_inference.engine import lora_bank
from luthier_inference.engine.lora_bank import (
    LINE,
    Line,
    LoraBank,
    LoraWeights,
    Piece,
    Placement,
)
from luthier_inference.engine.packing import pays
from torch import nn

CPU = torch.device("cpu")
INPUTS, OUTPUTS = 64, 96
STEPS = 2 * lora_bank._SETTLED
SIXTEEN_BITS = [kind for kind in (torch.bfloat16, torch.float16) if pays(CPU, kind)]


def adapter(seed: int, rank: int) -> LoraWeights:
    chance = torch.Generator().manual_seed(seed)
    down = torch.randn((rank, INPUTS), generator=chance) / 8
    up = torch.randn((OUTPUTS, rank), generator=chance) / 8
    return LoraWeights(f"digest-{seed}", rank, 0.5 + seed, {"layer": (down, up)})


class Bench:
    """One layer, its bank, and what they should compute."""

    def __init__(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.linear = nn.Linear(INPUTS, OUTPUTS, bias=False, dtype=dtype).requires_grad_(False)
        self.weight = self.linear.weight.float().clone()
        self.bank = LoraBank(
            {"layer": (self.linear, LINE)}, slots=8, columns=256, dtype=dtype, device=CPU
        )
        self.held: dict[str, LoraWeights] = {}

    def place(self, weights: LoraWeights) -> Placement:
        placement = self.bank.place(weights)
        assert self.bank.fill(weights, 1 << 30)
        self.held[weights.digest] = weights
        return placement

    def error(self, singles: list[Placement | None], pieces: list[Piece]) -> float:
        """Return the largest difference from the float32 sum, relative to its spread."""
        line = Line(singles, pieces, CPU)
        self.bank.lines[LINE] = line
        x = torch.randn((1, line.tokens, INPUTS)).to(self.linear.weight.dtype)
        owners = list(singles)
        for piece in pieces:
            owners += [piece.placement] * piece.count
        right = x[0].float() @ self.weight.t()
        for token, owner in enumerate(owners):
            if owner is not None:
                weights = self.held[owner.digest]
                down, up = weights.layers["layer"]
                right[token] += weights.scale * (up @ (down @ x[0, token].float()))
        given = self.linear(x)[0].float()
        return float((given - right).abs().max() / right.std())


@pytest.mark.parametrize("dtype", [torch.float32, *SIXTEEN_BITS])
def test_a_token_gets_its_own_adapter_before_and_after_the_bank_is_packed(
    dtype: torch.dtype,
) -> None:
    bench = Bench(dtype)
    bound = 1e-4 if dtype == torch.float32 else 0.1
    one, other = bench.place(adapter(1, 8)), bench.place(adapter(2, 16))
    lines: list[list[Placement | None]] = [[one, None, other, one], [other], [None, one]]
    for step in range(STEPS):
        piece = Piece(len(lines[step % 3]), 5, other)
        assert bench.error(lines[step % 3], [piece]) < bound
    third = bench.place(adapter(3, 12))
    for _ in range(STEPS):
        assert bench.error([third, one, other], []) < bound


@pytest.mark.parametrize("dtype", SIXTEEN_BITS)
def test_columns_given_to_another_adapter_are_the_others(dtype: torch.dtype) -> None:
    bench = Bench(dtype)
    one, other = bench.place(adapter(1, 16)), bench.place(adapter(2, 16))
    for _ in range(STEPS):
        bench.error([one, other], [])
    bench.bank.remove(one.digest)
    third = bench.place(adapter(3, 16))
    assert third.columns == one.columns
    for _ in range(STEPS):
        assert bench.error([third, other], []) < 0.1


@pytest.mark.parametrize("dtype", SIXTEEN_BITS)
def test_few_tokens_do_not_pay_for_the_columns_of_many(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    packed = lora_bank._Packed.__init__

    def seen(self: lora_bank._Packed, down: torch.Tensor, up: torch.Tensor, width: int) -> None:
        packed(self, down, up, width)
        inner = self.down

        def product(x: torch.Tensor) -> torch.Tensor:
            widths.append(self.width)
            return inner(x)

        self.down = product  # type: ignore[assignment]

    monkeypatch.setattr(lora_bank._Packed, "__init__", seen)
    bench = Bench(dtype)
    placements = [bench.place(adapter(number, 32)) for number in range(1, 9)]
    for _ in range(STEPS):
        assert bench.error([placements[0]], []) < 0.1
    assert not widths
    assert bench.error(list(placements), []) < 0.1
    assert widths == [256]
