"""Rows, and a scheduler to run them, without a service around."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from luthier.inference.v1.generation_pb2 import Finish, SamplingParameters
from luthier_inference.engine.app import Memory, schedule, signs
from luthier_inference.engine.asking import ModelSigns
from luthier_inference.engine.batcher import Limits
from luthier_inference.engine.loading import load_checked
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.metrics import EngineMetrics
from luthier_inference.engine.model import Model
from luthier_inference.engine.prompts import Tokenizer
from luthier_inference.engine.row import Answers, Row
from luthier_inference.engine.sampling import Chosen, Sampling
from luthier_inference.engine.text import TextStream
from luthier_inference.settings import Precision
from prometheus_client import CollectorRegistry

_PREFIX = "base_model.model."


def weights(folder: Path) -> LoraWeights:
    """Read an adapter that peft saved, without any check."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    names = [name.removesuffix(".lora_A.weight") for name in tensors if ".lora_A." in name]
    divisor = config["r"] ** 0.5 if config["use_rslora"] else config["r"]
    return LoraWeights(
        f"{folder.name}{'0' * 8}",
        config["r"],
        config["lora_alpha"] / divisor,
        {
            name.removeprefix(_PREFIX): (
                tensors[f"{name}.lora_A.weight"],
                tensors[f"{name}.lora_B.weight"],
            )
            for name in names
        },
    )


@dataclass
class Written:
    """A whole answer."""

    text: str = ""
    chosen: list[Chosen] = field(default_factory=list)
    finish: Finish = field(default_factory=Finish)


class Bench:
    """A model with a running scheduler."""

    def __init__(self, model: Model, tokenizer: Tokenizer, memory: Memory, limits: Limits) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.memory = memory
        self.signs: ModelSigns = signs(model, tokenizer, memory)
        self.registry = CollectorRegistry()
        self.scheduler = schedule(model, memory, EngineMetrics(self.registry), limits)

    def row(
        self,
        prompt: Sequence[int],
        adapter: LoraWeights | None = None,
        *,
        limit: int = 16,
        project: str = "acme",
        stop: Sequence[str] = (),
        ends: frozenset[int] = frozenset(),
        **sampling: Any,
    ) -> Row:
        """Return a row, greedy where `sampling` says nothing else."""
        wanted = SamplingParameters(**{"temperature": 0.0, **sampling})
        return Row(
            project=project,
            prompt=list(prompt),
            weights=adapter,
            sampling=Sampling.of(wanted),
            text=TextStream(self.tokenizer.decode, stop),
            limit=limit,
            ends=ends,
            start=self.model.start,
        )

    async def write(self, rows: Sequence[Row]) -> list[Written]:
        """Have rows written and return their answers."""
        answers = [Answers([row]) for row in rows]
        for row in rows:
            self.scheduler.submit(row)
        return list(await asyncio.gather(*map(self._collect, answers)))

    @staticmethod
    async def _collect(answers: Answers) -> Written:
        written = Written()
        async for _, piece in answers.read():
            written.text += piece.text
            written.chosen += piece.chosen
            if piece.finish is not None:
                written.finish = piece.finish
        return written

    async def tokens(self, rows: Sequence[Row]) -> list[list[int]]:
        """Have rows written and return their tokens."""
        await self.write(rows)
        return [row.written for row in rows]


@asynccontextmanager
async def engine_bench(
    base: Path,
    *,
    precision: Precision = "fp32",
    slots: int = 8,
    ranks: int = 128,
    context: int = 256,
    cache_bytes: int = 64 << 20,
    limits: Limits | None = None,
) -> AsyncIterator[Bench]:
    """Load a base model and run its scheduler."""
    model = load_checked(base, precision, slots=slots, ranks=ranks)
    torch.set_num_threads(1)
    bench = Bench(
        model, Tokenizer(base, context), Memory.of(model, cache_bytes), limits or Limits()
    )
    async with bench.scheduler:
        yield bench
