"""What methods of peft come to as LoRA, told from headers alone."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from luthier_common.errors import InvalidArgument
from luthier_inference.adapter_checks import check_adapter
from luthier_inference.lora_config import LoraSettings, read_lora_config
from luthier_inference.methods import METHODS, Misfit
from luthier_inference.tensors import Tensor, Tensors


def settings_of(method: str, **config: Any) -> LoraSettings:
    given = {"peft_type": method, "target_modules": ["q"], **config}
    return read_lora_config(json.dumps(given).encode())


def checked(
    parts: Mapping[str, tuple[int, ...]],
    layer: tuple[int, int],
    count: int = 1,
    **config: Any,
) -> LoraSettings:
    """Check an adapter for so many layers of these inputs and outputs."""
    layers = {f"model.layers.{block}.q": layer for block in range(count)}
    entries = {
        f"base_model.model.{name}.{part}": Tensor("F32", shape, 0, 0)
        for name in layers
        for part, shape in parts.items()
    }
    given = json.dumps({"target_modules": ["q"], **config}).encode()
    return check_adapter(given, Tensors(entries), layers, seq2seq=False)


def loha(r: int, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    sides = {"a": (outputs, r), "b": (r, inputs)}
    return {f"hada_w{number}_{side}": sides[side] for number in (1, 2) for side in "ab"}


@pytest.mark.parametrize(
    ("method", "config", "scale"),
    [
        ("LORA", {"r": 4, "lora_alpha": 8}, 2.0),
        ("LORA", {"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
        ("ADALORA", {"r": 8, "init_r": 4, "lora_alpha": 8}, 8 / (4 + 1e-5)),
        ("ADALORA", {"init_r": 4, "lora_alpha": 8, "use_rslora": True}, 8 / (4 + 1e-5)),
        ("LOHA", {"r": 4, "alpha": 2}, 0.5),
        ("LOKR", {"r": 4, "alpha": 2.0}, 0.5),
    ],
)
def test_products_are_scaled_as_peft_does(
    method: str, config: dict[str, Any], scale: float
) -> None:
    assert settings_of(method, **config).scale == pytest.approx(scale, rel=1e-12)


def test_options_of_tuning_are_of_no_effect() -> None:
    tuning = {"rank_dropout": 0.1, "module_dropout": 0.2, "init_weights": "lycoris"}
    lokr = {"decompose_both": True, "decompose_factor": 8, "rank_dropout_scale": True}
    assert settings_of("LOKR", r=2, alpha=1, use_effective_conv2d=True, **tuning, **lokr).rank == 2
    assert settings_of("LOHA", r=2, alpha=1, **tuning).rank == 2
    schedule = {"target_r": 2, "tinit": 1, "tfinal": 2, "deltaT": 3, "total_step": 9, "beta1": 0.8}
    assert settings_of("ADALORA", init_r=2, lora_alpha=1, **schedule).kept_ranks == {}


def test_pruned_layers_have_the_rank_that_is_left() -> None:
    pattern = {"model.layers.1.q.lora_E": [True, False, True]}
    settings = settings_of("ADALORA", init_r=3, lora_alpha=1, rank_pattern=pattern)
    assert settings.rank_of("model.layers.1.q") == 2
    assert settings.rank_of("model.layers.0.q") == 3


@pytest.mark.parametrize(
    ("method", "rank", "shapes", "sizes"),
    [
        ("LORA", 3, {"lora_A.weight": (3, 8), "lora_B.weight": (6, 3)}, (8, 6, 3)),
        ("ADALORA", 3, {"lora_A": (3, 8), "lora_B": (6, 3), "lora_E": (3, 1)}, (8, 6, 3)),
        ("ADALORA", 0, {"lora_A": (0, 8), "lora_B": (6, 0), "lora_E": (0, 1)}, (8, 6, 0)),
        ("LOHA", 2, loha(2, 8, 6), (8, 6, 4)),
        ("LOHA", 3, loha(3, 8, 6), (8, 6, 6)),
        ("LOKR", 9, {"lokr_w1": (2, 3), "lokr_w2": (5, 4)}, (12, 10, 8)),
        ("LOKR", 2, {"lokr_w1": (2, 3), "lokr_w2_a": (5, 2), "lokr_w2_b": (2, 4)}, (12, 10, 4)),
        ("LOKR", 7, {"lokr_w1": (2, 3), "lokr_w2_a": (5, 7), "lokr_w2_b": (7, 4)}, (12, 10, 8)),
    ],
)
def test_tensors_tell_inputs_outputs_and_rank(
    method: Any, rank: int, shapes: dict[str, tuple[int, ...]], sizes: tuple[int, int, int]
) -> None:
    assert METHODS[method].sizes(shapes, rank) == sizes


@pytest.mark.parametrize(
    ("parts", "layer", "config", "says"),
    [
        (
            loha(33, 4096, 4096), (4096, 4096), {"peft_type": "LOHA", "r": 33, "alpha": 1},
            "q has rank 1089 as LoRA, at most 1024 is served; tune it again with r of at most 32",
        ),
        (
            {"lokr_w1": (64, 64), "lokr_w2": (64, 64)}, (4096, 4096),
            {"peft_type": "LOKR", "r": 64, "alpha": 1},
            "rank 4096 as LoRA.*a smaller r, or a decompose_factor such as 8, or merge it",
        ),
    ],
)  # fmt: skip
def test_a_rank_that_is_too_large_is_told_with_what_to_do(
    parts: dict[str, tuple[int, ...]], layer: tuple[int, int], config: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        checked(parts, layer, **config)
    assert caught.value.reason == "RANK_OUT_OF_LIMITS"


def test_ranks_up_to_the_limit_are_served() -> None:
    checked(loha(32, 4096, 4096), (4096, 4096), peft_type="LOHA", r=32, alpha=1)
    checked(loha(40, 4096, 1024), (4096, 1024), peft_type="LOHA", r=40, alpha=1)
    lokr = {"lokr_w1": (64, 64), "lokr_w2_a": (64, 16), "lokr_w2_b": (16, 64)}
    checked(lokr, (4096, 4096), peft_type="LOKR", r=16, alpha=1)


def test_small_files_that_come_to_too_much_memory_are_refused() -> None:
    lokr = {"lokr_w1": (64, 64), "lokr_w2_a": (64, 16), "lokr_w2_b": (16, 64)}
    config = {"peft_type": "LOKR", "r": 16, "alpha": 1}
    checked(lokr, (4096, 4096), 256, **config)
    with pytest.raises(InvalidArgument, match=r"2155872256 numbers as LoRA.*smaller r") as caught:
        checked(lokr, (4096, 4096), 257, **config)
    assert caught.value.reason == "ADAPTER_TOO_LARGE"


def test_tensors_of_convolutions_are_refused_as_such() -> None:
    parts = {**loha(2, 8, 6), "hada_t1": (2, 2, 3, 3)}
    with pytest.raises(InvalidArgument, match=r"more than LoHa matrices of linear layers.*hada_t1"):
        checked(parts, (8, 6), peft_type="LOHA", r=2, alpha=1)


def test_names_of_any_length_are_read_in_no_time() -> None:
    name = f"base_model.model{'.lora_' * 60}{'a' * 10**6}!"
    with pytest.raises(Misfit):
        METHODS["LORA"].by_layer({name: ()})
