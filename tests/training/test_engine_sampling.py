"""How a token is chosen, from logits that are known."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from luthier.inference.v1.generation_pb2 import SamplingParameters
from luthier_inference.engine.sampling import Candidate, Sampling, choose

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
CHANCES = LOGITS.softmax(dim=-1).tolist()


def chosen(
    wanted: dict[str, Any],
    logits: torch.Tensor = LOGITS,
    prompt: tuple[int, ...] = (),
    *written: int,
) -> int:
    row = Candidate(Sampling.of(SamplingParameters(**wanted)), prompt, written)
    (one,) = choose(logits.unsqueeze(0), [row])
    assert one is not None
    return one.token


def drawn(times: int = 3000, **wanted: Any) -> Counter[int]:
    sampling = Sampling.of(SamplingParameters(**{"seed": 1, "temperature": 1.0, **wanted}))
    row = Candidate(sampling, (), ())
    found: Counter[int] = Counter()
    for _ in range(times):
        (one,) = choose(LOGITS.unsqueeze(0), [row])
        assert one is not None
        found[one.token] += 1
    return found


def test_tokens_come_as_often_as_they_are_likely() -> None:
    found = drawn()
    for token, chance in enumerate(CHANCES):
        spread = math.sqrt(3000 * chance * (1 - chance))
        assert abs(found[token] - 3000 * chance) < 4 * spread


def test_a_temperature_sharpens() -> None:
    found = drawn(temperature=0.5)
    right = (LOGITS / 0.5).softmax(dim=-1)
    assert found[0] / 3000 == pytest.approx(float(right[0]), abs=0.03)


@pytest.mark.parametrize(
    ("wanted", "tokens"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.93}, {0, 1, 2, 3}),
        ({"min_p": 0.3}, {0, 1}),
        ({"min_p": 0.2}, {0, 1, 2}),
        ({"top_k": 3, "min_p": 0.3}, {0, 1}),
    ],
)
def test_only_some_tokens_may_come(wanted: dict[str, Any], tokens: set[int]) -> None:
    assert drawn(1000, **wanted).keys() == tokens


def test_a_nucleus_larger_than_the_head_is_found() -> None:
    even = torch.zeros(5000)
    row = Candidate(Sampling(temperature=1.0, top_p=0.5), (), ())
    found = {choose(even.unsqueeze(0), [row])[0].token for _ in range(300)}  # type: ignore[union-attr]
    assert len(found) > 200
    assert max(found) < 2501, "equal chances keep the vocabulary's order"


@pytest.mark.parametrize(
    ("wanted", "written", "token"),
    [
        ({"frequency_penalty": 0.4}, (0, 0), 0),
        ({"frequency_penalty": 0.6}, (0, 0), 1),
        ({"presence_penalty": 0.9}, (0, 0, 0), 0),
        ({"presence_penalty": 1.1}, (0,), 1),
        ({"frequency_penalty": -2.0}, (3, 3), 3),
        ({"repetition_penalty": 1.9}, (0,), 0),
        ({"repetition_penalty": 2.1}, (0,), 1),
        ({"logit_bias": {5: 6.0}}, (), 5),
        ({"logit_bias": {5: 4.9}}, (), 0),
    ],
)
def test_penalties_and_bias(wanted: dict[str, Any], written: tuple[int, ...], token: int) -> None:
    assert chosen({"temperature": 0.0, **wanted}, LOGITS, (), *written) == token


def test_repetition_counts_the_prompt_and_makes_unlikely_ones_less_likely() -> None:
    greedy = {"temperature": 0.0, "repetition_penalty": 2.1}
    assert chosen(greedy, LOGITS, (0,)) == 1
    below = torch.tensor([-1.0, -1.5])
    assert chosen({"temperature": 0.0, "repetition_penalty": 2.0}, below, (0,)) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_no_answer(bad: float) -> None:
    logits = torch.stack([LOGITS, LOGITS, LOGITS])
    logits[1, 3] = bad
    rows = [Candidate(Sampling(), (), ()) for _ in range(3)]
    first, broken, last = choose(logits, rows)
    assert broken is None
    assert first is not None
    assert last is not None


def test_log_probabilities_are_told_before_anything_is_changed() -> None:
    sampling = Sampling(bias={5: 50.0}, logprobs=2)
    (one,) = choose(LOGITS.unsqueeze(0), [Candidate(sampling, (), ())])
    assert one is not None
    assert one.token == 5
    assert one.logprob == pytest.approx(math.log(CHANCES[5]))
    assert [token for token, _ in one.top] == [0, 1]
    expected = [math.log(chance) for chance in CHANCES[:2]]
    assert [logprob for _, logprob in one.top] == pytest.approx(expected)
