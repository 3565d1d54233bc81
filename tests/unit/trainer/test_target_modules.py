"""Which linear layers a job's names and patterns mean, and how adapters spell them."""

import pytest
from luthier_common.errors import InvalidArgument
from luthier_trainer.target_modules import matching, spelled

MODULES = ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")
NAMES = [f"model.layers.{layer}.{module}" for layer in range(12) for module in MODULES]
"""Of a decoder of twelve layers."""


def layers(found: list[str]) -> list[int]:
    return [int(name.split(".")[2]) for name in found]


def test_an_end_of_a_name_means_that_layer_everywhere() -> None:
    found = matching(NAMES, ["q_proj"])
    assert found == [name for name in NAMES if name.endswith(".q_proj")]
    assert layers(found) == list(range(12))
    assert matching(NAMES, ["mlp.up_proj"]) == [name for name in NAMES if "mlp" in name]


def test_a_whole_name_means_itself() -> None:
    assert matching(NAMES, [NAMES[4]]) == [NAMES[4]]
    assert matching(["lm", "model.lm"], ["lm"]) == ["lm", "model.lm"]


def test_several_entries_mean_all_that_any_means_in_the_models_order() -> None:
    found = matching(NAMES, ["v_proj", "q_proj", "*.layers.0.*"])
    assert found == [name for name in NAMES if "mlp" not in name or ".0." in name]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("*.layers.1.*", [1] * 3),
        ("*.layers.1?.*", [10] * 3 + [11] * 3),
        ("*.layers.?.self_attn.q_proj", list(range(10))),
        ("model.layers.1*.mlp.*", [1, 10, 11]),
    ],
)
def test_a_pattern_is_of_the_whole_name(pattern: str, meant: list[int]) -> None:
    assert layers(matching(NAMES, [pattern])) == meant


@pytest.mark.parametrize("entry", ["proj", "q_pro", "Q_proj", "layers.1", "layers.1.*", "x*", "?"])
def test_an_entry_that_means_nothing_is_named_with_what_there_is(entry: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        matching(NAMES, ["q_proj", entry])
    assert f"'{entry}' is no linear layer of this model" in refused.value.message
    assert refused.value.message.endswith("it has q_proj, up_proj, v_proj")
    assert refused.value.reason == "UNKNOWN_TARGET_MODULE"
    assert str(refused.value.field).endswith(".target_modules")


def test_ends_are_spelled_where_they_mean_the_same() -> None:
    assert spelled(NAMES, matching(NAMES, ["q_proj", "v_proj"])) == ["q_proj", "v_proj"]
    assert spelled(NAMES, NAMES) == ["q_proj", "up_proj", "v_proj"]
    assert spelled(NAMES, matching(NAMES, ["*.self_attn.*"])) == ["q_proj", "v_proj"]


def test_whole_names_are_spelled_where_ends_would_mean_more() -> None:
    some = matching(NAMES, ["*.layers.1?.self_attn.*"])
    assert spelled(NAMES, some) == sorted(some)
    assert len(some) == 4


def test_an_end_that_another_layer_shares_is_not_enough() -> None:
    names = ["encoder.wo", "encoder.o", "decoder.o"]
    assert spelled(names, ["encoder.o"]) == ["encoder.o"]
    assert spelled(names, ["encoder.wo"]) == ["wo"]
    assert spelled(names, ["encoder.o", "decoder.o"]) == ["o"]


def test_a_pattern_of_many_stars_is_matched_at_once() -> None:
    name = "a" * 200
    with pytest.raises(InvalidArgument):
        matching([name], ["*a" * 8 + "b"])
