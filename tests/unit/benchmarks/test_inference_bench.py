"""The benchmark of serving compares like with like, and its results can be read."""

import json
from collections import Counter
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from benchmarks.datasets.measuring import Measurement, Outcome
from benchmarks.inference import environments, llama_child, materials, peers, turns
from benchmarks.inference.crowding import zipf
from benchmarks.inference.engine import Engine
from benchmarks.inference.parts import PARTS, measured
from benchmarks.inference.report import InferenceResults, precisions
from benchmarks.inference.turns import Written, agreeing, in_turns, percentile
from tests.support.engine_rows import weights


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materials.save_model("tiny", tmp_path_factory.mktemp("bench") / "model")


def test_the_large_model_is_as_large_as_it_is_called() -> None:
    import torch

    with torch.device("meta"):
        config = LlamaConfig(**materials.settings("m7b"))
        large = AutoModelForCausalLM.from_config(config)
    assert 6.9e9 < large.num_parameters() < 7.1e9


def test_prompts_are_as_long_as_said_and_the_same_for_all(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    first = list(islice(materials.prompts(model, "a"), 5))
    assert first == list(islice(materials.prompts(model, "a"), 5))
    assert first != list(islice(materials.prompts(model, "b"), 5))
    assert len({one.text for one in first}) == 5
    assert all(tokenizer(one.text)["input_ids"] == one.tokens for one in first)
    assert {len(one.tokens) for one in first} == {90}


def test_every_token_written_is_a_text_and_no_answer_ends(model: Path) -> None:
    asked = [one.tokens for one in islice(materials.prompts(model, "a"), 4)]
    tokenizer = AutoTokenizer.from_pretrained(model)
    mute = set(materials.mute_tokens(tokenizer))
    assert tokenizer.eos_token_id in mute
    assert len(mute) > 128
    for one in peers.written(peers.load(model, "fp32"), asked, 40):
        assert len(one.tokens) == 40
        assert mute.isdisjoint(one.tokens)


def test_adapters_change_answers_and_all_write_the_same(model: Path, tmp_path: Path) -> None:
    saved = materials.save_adapters(model, tmp_path, 3)
    asked = [next(materials.prompts(model, "a")).tokens] * 3
    plain = peers.load(model, "fp32")
    (base, *_) = peers.written(plain, asked, 24)
    names = [folder.name for folder in saved]
    expected = peers.written(peers.with_adapters(plain, saved), asked, 24, adapter_names=names)
    assert len({tuple(one.tokens) for one in (base, *expected)}) == 4
    with Engine(model, "fp32", threads=1) as engine:
        answers = engine.write(asked, [weights(folder) for folder in saved], 24)
        row = engine.bench.row(asked[0], limit=24)
        timed = engine.run(engine.timed(row))
    assert sum(map(agreeing, expected, answers, names)) == 72
    assert agreeing(base, timed.tokens, "base") == 24
    assert 0 < len(timed.gaps) <= 23  # pieces that wait come as one
    assert 23 * timed.latency == pytest.approx(sum(timed.gaps))


def test_a_clear_difference_ends_the_benchmark_and_a_close_call_does_not() -> None:
    expected = Written([1, 2, 3], [0.5, 0.0005, 0.5])
    assert agreeing(expected, [1, 2, 3], "x") == 3
    assert agreeing(expected, [1, 9, 9], "x") == 1
    with pytest.raises(AssertionError, match="x writes 9 where 1 is ahead"):
        agreeing(expected, [9, 2, 3], "x")
    with pytest.raises(ValueError, match="shorter"):
        agreeing(expected, [1, 2], "x")


def test_turns_alternate_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def contender(name: str) -> int:
        calls.append(name)
        return len(calls)

    found = in_turns({"a": lambda: contender("a"), "b": lambda: contender("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert found == {"a": [3, 5], "b": [4, 6]}
    assert turns.medians(found) == {"a": 4, "b": 5}


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [(range(1, 101), 0.99, 99), (range(1, 201), 0.99, 198), ([7], 0.99, 7), ([3, 1, 2], 0.5, 2)],
)
def test_percentiles_are_nearest_ranks(values: list[float], share: float, wanted: float) -> None:
    assert percentile(list(values), share) == wanted


def test_zipf_draws_the_first_twice_as_often_as_the_second() -> None:
    drawn = Counter(zipf(Random(0), 64, 60_000))
    assert set(drawn) == set(range(64))
    assert drawn[0] / drawn[1] == pytest.approx(2, rel=0.05)
    assert drawn[0] / drawn[9] == pytest.approx(10, rel=0.1)


def test_a_matrix_is_paired_as_rotations_of_llama_cpp_want_it() -> None:
    rows = np.arange(8)[:, None]  # two heads of four: 0 turns with 2, 1 with 3
    assert llama_child.paired(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_every_tensor_has_a_name_in_gguf_and_keeps_its_bits(model: Path) -> None:
    found = dict(llama_child.tensors(model / "model.safetensors"))
    names = {llama_child.gguf_name(name) for name in found}
    assert len(names) == len(found) == 3 + 2 * 9
    assert {"token_embd.weight", "output.weight", "blk.1.ffn_norm.weight"} <= names
    held = AutoModelForCausalLM.from_pretrained(model, dtype="float32").state_dict()
    for name, bits in found.items():
        numbers = (bits.astype("uint32") << 16).view("float32")
        assert np.array_equal(numbers, held[name].numpy())


def test_a_part_without_its_peer_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks.inference import scale, serving

    absent = environments.Environment("vllm-cpu", tmp_path, ".test")
    monkeypatch.setattr(serving, "VLLM", absent)
    found = serving.measure(scale.QUICK, tmp_path)
    assert found.outcomes == []
    assert "not measured" in found.notes[0]
    assert absent.version() == "not installed"


def test_a_part_that_fails_tells_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"serving has failed:\n(.|\n)*KeyError: 'huge'"):
        measured("serving", "huge", tmp_path)
    assert set(PARTS) == {"in-process", "serving", "crowding", "loading", "precisions", "gpu"}


def test_results_render(tmp_path: Path) -> None:
    probe = {"divergence": 0.00012, "bound": 0.02, "trained_accuracy": 0.9}
    probe["served_accuracy"] = 0.875
    row = {"precision": "nf4", "bytes": 123e6, "latency": 0.0251, "taught": 0.5, "read": 1.0}
    row |= {"probe": probe}
    outcome = Outcome("Cold adapter", "30 ms", "vLLM 300 ms", 0.1, 0.2, at_most=True)
    parts = {
        "serving": Measurement([outcome], ["A note."]),
        "precisions": Measurement([], [], {"rows": [row]}),
    }
    results = InferenceResults({"cores": "2"}, parts, 61.0)
    results.write(tmp_path)
    page = (tmp_path / "inference.md").read_text()
    assert page.startswith("# Serving: speed\n\nMade by `make bench-inference`")
    assert "atasets" not in page
    assert "| Cold adapter | 30 ms | vLLM 300 ms | 0.10x | ≤ 0.2x | yes |" in page
    assert "| nf4 | 123 MB | 25.1 ms | 50.0% | 100.0% | 0.0001 | 0.02 | 90.0% | 87.5% |" in page
    assert page.index("## Precisions") < page.index("## The machine")
    told = json.loads((tmp_path / "inference.json").read_text())
    assert told["parts"]["serving"]["outcomes"] == [{**asdict(outcome), "met": True}]
    assert len(precisions([row])) == 3
