"""Adapters of AdaLoRA, LoHa and LoKr are served as peft computes them, by conversion to LoRA."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_inference.base_layers import BaseLayers
from luthier_inference.engine.adapter_files import AdapterFiles
from luthier_inference.engine.conversion import as_lora
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.metrics import EngineMetrics
from luthier_inference.methods import METHODS
from prometheus_client import CollectorRegistry

from tests.support.engine_rows import engine_bench, weights
from tests.support.peft_methods import CASES, save_method
from tests.support.stored_adapters import store_adapter, store_base
from tests.support.tiny_architectures import save_architecture
from tests.training.test_engine_equality import STEPS, generated, plain, same, save_adapter

RANKS = {
    "adalora": 6,
    "loha": 9,
    "loha, whole": 32,
    "lokr": 8,
    "lokr, w2 whole": 32,
    "lokr, both decomposed": 12,
    "lokr, another factor": 6,
}
"""What the largest layer of a llama comes to: it has 32 numbers a token, 64 between."""


async def held(base: Path, folder: Path, work: Path) -> LoraWeights:
    """Read an adapter as an engine does: from the store, with every check."""
    blobs = Blobs(DirectoryObjects(work / "store"))
    known, adapter = await store_base(blobs, base), await store_adapter(blobs, folder)
    layers = await BaseLayers(blobs).of(known)
    metrics = EngineMetrics(CollectorRegistry())
    files = AdapterFiles(blobs, known, layers, work / "disk", metrics, dtype=torch.float32)
    return await files.get("acme", adapter)


@pytest.mark.parametrize("case", CASES)
async def test_matrices_come_to_what_peft_adds_to_the_weights(case: str, tmp_path: Path) -> None:
    base = save_architecture("llama", tmp_path / "base")
    folder = save_method(base, tmp_path / "tuned", case)
    found = await held(base, folder, tmp_path)
    if case in RANKS:
        assert found.rank == RANKS[case]
    tuned = plain(base, folder).base_model.model
    for layer, (down, up) in found.layers.items():
        assert len(down) == up.shape[1] == found.rank
        right = tuned.get_submodule(layer).get_delta_weight("default")
        assert right.abs().max() > 0.01 or "pruned" in case
        torch.testing.assert_close(found.scale * (up @ down), right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "cases"),
    [("llama", [*CASES]), ("t5", ["adalora, pruned", "loha", "lokr"]), ("qwen", ["loha", "lokr"])],
)
async def test_a_batch_of_all_methods_is_what_peft_writes(
    name: str, cases: list[str], tmp_path: Path
) -> None:
    base = save_architecture(name, tmp_path / "base")
    lora = save_adapter(base, tmp_path / "lora", seed=5, rank=3)
    folders = [save_method(base, tmp_path / f"tuned-{at}", case) for at, case in enumerate(cases)]
    adapters = [None, weights(lora)]
    adapters += [await held(base, folder, tmp_path) for folder in folders]
    models = [plain(base), plain(base, lora), *(plain(base, folder) for folder in folders)]
    draw = random.Random(name)
    prompts = [[draw.randrange(5, 200) for _ in range(length)] for length in (3, 40)]
    asked = [(prompt, chosen) for prompt in prompts for chosen in range(len(models))]
    draw.shuffle(asked)
    expected = [generated(models[chosen], prompt) for prompt, chosen in asked]
    async with engine_bench(base) as bench:
        answers = await bench.write(
            [
                bench.row(prompt, adapters[chosen], limit=STEPS, logprobs=True)
                for prompt, chosen in asked
            ]
        )
    wrong = [at for at, answer in enumerate(answers) if not same(answer, expected[at])]
    assert not wrong, [(asked[at], answers[at], expected[at]) for at in wrong[:2]]
    firsts = {round(generated(model, prompts[0]).logprobs[0], 4) for model in models}
    assert len(firsts) == len(models), "the adapters make a difference at all"


async def test_ranks_that_pruning_has_left_differ_from_layer_to_layer(tmp_path: Path) -> None:
    base = save_architecture("llama", tmp_path / "base")
    folder = save_method(base, tmp_path / "tuned", "adalora, pruned")
    pattern = json.loads((folder / "adapter_config.json").read_text())["rank_pattern"]
    ranks = {sum(marks) for marks in pattern.values()}
    assert len(ranks) > 1
    found = await held(base, folder, tmp_path)
    assert found.rank == max(ranks) < 6
    assert found.scale == pytest.approx(9 / (6 + 1e-5)), "peft does not scale by what is left"


def test_layers_without_any_singular_value_add_nothing() -> None:
    empty = {
        f"base_model.model.x.{part}": torch.zeros(shape)
        for part, shape in {"lora_A": (0, 8), "lora_E": (0, 1), "lora_B": (4, 0)}.items()
    }
    ((down, up),) = as_lora("ADALORA", empty, torch.float32).values()
    assert (down.shape, up.shape) == ((1, 8), (4, 1))
    assert not (up @ down).any()


def _random(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {
        f"base_model.model.x.{part}": torch.randn(shape).to(dtype) for part, shape in shapes.items()
    }


LOKR: Any = {
    "wide": ({"lokr_w1": (2, 3), "lokr_w2": (4, 5)}, 8),
    "high": ({"lokr_w1": (3, 2), "lokr_w2": (5, 4)}, 8),
    "crossed": ({"lokr_w1": (2, 3), "lokr_w2": (5, 4)}, 8),
    "one by one": ({"lokr_w1": (1, 1), "lokr_w2": (5, 4)}, 4),
    "narrow": ({"lokr_w1": (2, 3), "lokr_w2_a": (9, 2), "lokr_w2_b": (2, 5)}, 4),
    "wider than high": ({"lokr_w1": (2, 3), "lokr_w2_a": (9, 4), "lokr_w2_b": (4, 3)}, 6),
    "both": (
        {"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 4), "lokr_w2_a": (9, 2), "lokr_w2_b": (2, 5)}, 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOKR)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kronecker_products_of_all_shapes_are_exact(case: str, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    shapes, rank = LOKR[case]
    tensors = _random(shapes, dtype)
    ((down, up),) = as_lora("LOKR", tensors, torch.float32).values()
    parts = {name.rsplit(".", 1)[1]: tensor.float() for name, tensor in tensors.items()}
    first, second = (
        parts[name] if name in parts else parts[f"{name}_a"] @ parts[f"{name}_b"]
        for name in ("lokr_w1", "lokr_w2")
    )
    torch.testing.assert_close(up @ down, torch.kron(first, second))
    configured = next((shapes[name][1] for name in shapes if name.endswith("_a")), 1)
    told = METHODS["LOKR"].sizes(shapes, configured)
    assert told == (down.shape[1], len(up), rank) == (down.shape[1], len(up), len(down))


def test_matrices_are_of_the_type_that_is_computed_in_and_finite_there() -> None:
    shapes = {"hada_w1_a": (8, 2), "hada_w1_b": (2, 8), "hada_w2_a": (8, 2), "hada_w2_b": (2, 8)}
    tensors = _random(shapes, torch.float32)
    ((down, up),) = as_lora("LOHA", tensors, torch.bfloat16).values()
    assert (down.dtype, up.dtype) == (torch.bfloat16, torch.bfloat16)
    large = {name: tensor * 1e4 for name, tensor in tensors.items()}
    with pytest.raises(ValueError, match="not finite"):
        as_lora("LOHA", large, torch.float16)
    for value in (float("nan"), float("inf")):
        for name in tensors:
            spoiled = {**tensors, name: tensors[name].clone()}
            spoiled[name][1, 1] = value
            with pytest.raises(ValueError, match="not finite"):
                as_lora("LOHA", spoiled, torch.float32)
