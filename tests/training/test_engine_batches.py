"""What rows of one batch owe each other: nothing but time."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from luthier.inference.v1.generation_pb2 import AnswerFormat, ChatMessage, Finish
from luthier_common.errors import Internal, InvalidArgument, ResourceExhausted
from luthier_inference.engine.batcher import Limits
from luthier_inference.engine.lora_bank import LoraWeights
from luthier_inference.engine.prefix_cache import BLOCK
from luthier_inference.engine.row import Answers, Row

from tests.support.engine_rows import Bench, engine_bench, weights
from tests.support.tiny_model import END, save_adapter, save_base

PROMPTS = ["hi", "a somewhat longer question?", "x", "What is it, then?", "é ü", "tell me more"]
STEPS = 24
STOP, LENGTH = Finish.FinishReason.STOP, Finish.FinishReason.LENGTH


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("engine")
    base = save_base(folder / "base")
    adapters = [weights(save_adapter(folder / f"a{seed}", base, seed=seed)) for seed in range(1, 7)]
    return SimpleNamespace(base=base, adapters=adapters)


@pytest.fixture
async def bench(saved: SimpleNamespace) -> AsyncIterator[Bench]:
    async with engine_bench(saved.base) as bench:
        yield bench


def encoded(bench: Bench, prompt: str) -> list[int]:
    return bench.tokenizer.encode([ChatMessage(role="user", content=prompt)])


def sample(bench: Bench, name: str, **labels: str) -> float:
    return bench.registry.get_sample_value(name, labels) or 0.0


async def text(bench: Bench, prompt: str, adapter: LoraWeights | None = None, **wanted: Any) -> str:
    row = bench.row(encoded(bench, prompt), adapter, **{"limit": STEPS, **wanted})
    return (await bench.write([row]))[0].text


async def test_usage_counts_every_token(bench: Bench) -> None:
    rows = [bench.row(encoded(bench, PROMPTS[at]), limit=5 + at) for at in range(4)]
    answers = await bench.write(rows)
    for at, answer in enumerate(answers):
        assert answer.finish.prompt_tokens == len(rows[at].prompt)
        assert answer.finish.completion_tokens == 5 + at == len(rows[at].written)
        assert answer.finish.reason == LENGTH
    written = sample(bench, "luthier_engine_tokens_total", kind="completion", adapter="base")
    assert written == 5 + 6 + 7 + 8
    read = sample(bench, "luthier_engine_tokens_total", kind="prompt", adapter="base")
    assert read == sum(len(row.prompt) for row in rows)


async def test_an_end_token_ends_its_row_only(bench: Bench) -> None:
    prompts = [encoded(bench, prompt) for prompt in PROMPTS[:3]]
    (first, *_), *_ = await bench.tokens([bench.row(prompts[0])])
    rows = [bench.row(prompt, ends=frozenset({first})) for prompt in prompts]
    answers = await bench.write(rows)
    assert answers[0].finish.reason == STOP
    assert (answers[0].text, answers[0].finish.completion_tokens) == ("", 1)
    assert any(answer.finish.completion_tokens > 1 for answer in answers[1:])


async def test_a_stop_text_across_tokens_is_cut_off(bench: Bench) -> None:
    wholes = {prompt: await text(bench, prompt) for prompt in PROMPTS}
    runs = {prompt: re.search(r"[ -~]{2,}", whole) for prompt, whole in wholes.items()}
    prompt, run = next((p, run) for p, run in runs.items() if run is not None and run.start() > 0)
    stop = run.group()  # each of its characters is a token
    row = bench.row(encoded(bench, prompt), limit=STEPS, stop=[stop])
    (answer,) = await bench.write([row])
    assert answer.text == wholes[prompt][: wholes[prompt].index(stop)]
    assert answer.finish.reason == STOP
    assert len(row.written) < STEPS


async def test_a_seed_gives_the_same_text_in_any_company(
    bench: Bench, saved: SimpleNamespace
) -> None:
    wanted: dict[str, Any] = {"seed": 7, "temperature": 1.5, "top_p": 0.9}
    alone = await text(bench, PROMPTS[1], **wanted)
    company = [
        bench.row(encoded(bench, prompt), adapter, limit=STEPS, seed=1, temperature=1.0)
        for prompt, adapter in zip(PROMPTS, [None, *saved.adapters], strict=False)
    ]
    again = bench.row(encoded(bench, PROMPTS[1]), limit=STEPS, **wanted)
    assert (await bench.write([*company, again]))[-1].text == alone
    others = {await text(bench, PROMPTS[1], **{**wanted, "seed": seed}) for seed in range(5)}
    assert len(others) == 5


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1e-9},
        {"temperature": 1.0, "top_p": 1e-9},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "min_p": 1.0},
    ],
)
async def test_the_limits_of_sampling_are_greedy(bench: Bench, sampling: dict[str, Any]) -> None:
    assert await text(bench, PROMPTS[1], **sampling) == await text(bench, PROMPTS[1])


async def test_a_bias_changes_what_is_chosen(bench: Bench) -> None:
    prompt = encoded(bench, PROMPTS[1])
    ((first, *_),) = await bench.tokens([bench.row(prompt)])
    ((other, *_),) = await bench.tokens([bench.row(prompt, logit_bias={first: -100})])
    assert other != first
    forced = await bench.tokens([bench.row(prompt, limit=3, logit_bias={80: 100})])
    assert forced == [[80, 80, 80]]


async def test_log_probabilities_are_those_of_the_model(bench: Bench) -> None:
    row = bench.row(encoded(bench, "hi"), limit=4, logprobs=True, top_logprobs=3, temperature=1.0)
    (answer,) = await bench.write([row])
    assert [one.token for one in answer.chosen] == row.written
    for one in answer.chosen:
        values = [logprob for _, logprob in one.top]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert one.logprob <= values[0] <= 0
        assert dict(one.top).get(one.token, one.logprob) == pytest.approx(one.logprob, abs=1e-6)


async def test_more_adapters_than_places(saved: SimpleNamespace) -> None:
    async with engine_bench(saved.base, slots=6) as bench:
        expected = [await text(bench, "hi", adapter) for adapter in saved.adapters]
    assert len(set(expected)) == len(expected)
    async with engine_bench(saved.base, slots=2) as bench:
        rows = [
            bench.row(encoded(bench, "hi"), saved.adapters[at % 6], limit=STEPS) for at in range(24)
        ]
        answers = await bench.write(rows)
        assert [answer.text for answer in answers] == expected * 4
        assert len(bench.model.bank.placed) <= 2


async def test_ranks_that_do_not_fit_beside_each_other_take_turns(
    saved: SimpleNamespace, tmp_path: Path
) -> None:
    wide = weights(save_adapter(tmp_path / "wide", saved.base, seed=9, rank=24))
    async with engine_bench(saved.base, ranks=64) as bench:
        expected = [await text(bench, "hi", one) for one in (wide, *saved.adapters)]
    async with engine_bench(saved.base, ranks=28) as bench:
        rows = [
            bench.row(encoded(bench, "hi"), one, limit=STEPS) for one in (wide, *saved.adapters)
        ]
        assert [answer.text for answer in await bench.write(rows)] == expected


async def test_a_cancelled_row_leaves_and_frees_its_memory(bench: Bench) -> None:
    expected = await text(bench, PROMPTS[0])
    endless = bench.row(encoded(bench, PROMPTS[1]), limit=100)
    bench.scheduler.submit(endless)
    answers = Answers([endless]).read()
    await anext(answers)
    await answers.aclose()
    written = len(endless.written)
    assert await text(bench, PROMPTS[0]) == expected
    assert len(endless.written) <= written + 2
    await eventually(lambda: bench.memory.cache.used_bytes == 0)


async def test_a_broken_row_ends_alone(bench: Bench) -> None:
    expected = [await text(bench, prompt) for prompt in PROMPTS]
    rows = [bench.row(encoded(bench, prompt), limit=STEPS) for prompt in PROMPTS]
    broken = bench.row([10**6], limit=STEPS)  # no such token
    outcomes = await asyncio.gather(
        *(bench.write([row]) for row in (*rows[:3], broken, *rows[3:])), return_exceptions=True
    )
    assert isinstance(outcomes[3], Internal)
    sound = [outcome for outcome in outcomes if isinstance(outcome, list)]
    assert [answer[0].text for answer in sound] == expected


async def test_numbers_that_are_not_finite_end_their_row_and_leave_no_trace(
    bench: Bench, saved: SimpleNamespace
) -> None:
    good = saved.adapters[0]
    hot = LoraWeights(
        "hot",
        good.rank,
        good.scale,
        {name: (a * 1e30, b * 1e30) for name, (a, b) in good.layers.items()},
    )
    expected = [await text(bench, prompt) for prompt in PROMPTS]
    for _ in range(3):
        rows = [bench.row(encoded(bench, prompt), limit=STEPS) for prompt in PROMPTS]
        bad = bench.row(encoded(bench, PROMPTS[1]), hot)
        failed = asyncio.ensure_future(bench.write([bad]))
        assert [answer.text for answer in await bench.write(rows)] == expected
        with pytest.raises(Internal, match="not finite"):
            await failed


async def test_rows_give_way_when_memory_is_short(saved: SimpleNamespace) -> None:
    async with engine_bench(saved.base) as bench:
        expected = [await text(bench, prompt, limit=150) for prompt in PROMPTS]
        token_bytes = bench.memory.cache.token_bytes
    # Three rows of 256 tokens have room, six do not.
    async with engine_bench(saved.base, cache_bytes=4 * 256 * token_bytes) as bench:
        rows = [bench.row(encoded(bench, prompt), limit=150) for prompt in PROMPTS]
        answers = await bench.write(rows)
        assert [answer.text for answer in answers] == expected
        assert all(answer.finish.completion_tokens == 150 for answer in answers)
        assert bench.memory.cache.held_bytes <= 3 * 256 * token_bytes


async def test_a_prompt_read_before_is_not_read_again(bench: Bench, saved: SimpleNamespace) -> None:
    prompt = encoded(bench, "word " * 40)
    shared = len(prompt) // BLOCK * BLOCK
    assert shared >= 2 * BLOCK

    async def ask(adapter: LoraWeights | None, project: str) -> tuple[str, int]:
        row = bench.row(prompt, adapter, limit=STEPS, project=project)
        (answer,) = await bench.write([row])
        return answer.text, answer.finish.cached_prompt_tokens

    first = await ask(None, "acme")
    assert first[1] == 0
    assert await ask(None, "acme") == (first[0], shared)
    # Nothing is shared with another project, or another adapter.
    assert await ask(None, "other") == (first[0], 0)
    tuned = await ask(saved.adapters[0], "acme")
    assert tuned[1] == 0
    assert tuned[0] != first[0]
    assert await ask(saved.adapters[0], "acme") == (tuned[0], shared)
    assert (await ask(saved.adapters[1], "acme"))[1] == 0


async def test_answers_to_one_prompt_read_it_once(bench: Bench) -> None:
    prompt = encoded(bench, "word " * 40)
    rows = [bench.row(prompt, limit=4) for _ in range(3)]
    rows[1].leader = rows[2].leader = rows[0]
    answers = await bench.write(rows)
    assert [answer.finish.cached_prompt_tokens for answer in answers] == [0, 192, 192]
    assert len({answer.text for answer in answers}) == 1


async def test_projects_share_the_engine_in_tokens(saved: SimpleNamespace) -> None:
    async with engine_bench(saved.base, limits=Limits(rows=2)) as bench:
        order: list[str] = []

        async def ask(project: str, prompt: str) -> None:
            await bench.write([bench.row(encoded(bench, prompt), limit=8, project=project)])
            order.append(project)

        greedy = [asyncio.ensure_future(ask("greedy", "word " * 20)) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(*(ask("modest", "hi") for _ in range(4)))
        assert order.count("greedy") < 10, "the modest one did not wait for all others"
        await asyncio.gather(*greedy)


async def test_too_many_are_refused(saved: SimpleNamespace) -> None:
    async with engine_bench(saved.base, limits=Limits(rows=1, waiting=3)) as bench:
        rows = [bench.row(encoded(bench, "hi"), limit=200) for _ in range(9)]
        with pytest.raises(ResourceExhausted) as caught:
            submit_all(bench, rows)
        assert caught.value.reason == "ENGINE_BUSY"
        for row in rows:
            row.cancelled = True


def submit_all(bench: Bench, rows: list[Row]) -> None:
    for row in rows:
        bench.scheduler.submit(row)


async def test_a_schema_is_followed(bench: Bench) -> None:
    from luthier_inference.engine.grammar import Vocabulary

    vocabulary = Vocabulary(bench.tokenizer.own, bench.signs.vocabulary_size, frozenset({END}))
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"],
        "additionalProperties": False,
    }
    wanted = AnswerFormat(json_schema=json.dumps(schema))
    for seed in range(4):
        row = bench.row(
            encoded(bench, "hi"), limit=120, ends=frozenset({END}), temperature=1.0, seed=seed
        )
        row.sampling.guide = vocabulary.guide(wanted)
        (answer,) = await bench.write([row])
        if answer.finish.reason == STOP:
            found = json.loads(answer.text)
            assert found.keys() == {"n", "ok"}
            assert type(found["n"]) is int
            assert type(found["ok"]) is bool
    with pytest.raises(InvalidArgument) as caught:
        vocabulary.guide(AnswerFormat(json_schema='{"type": "no such type"}'))
    assert caught.value.reason == "INVALID_JSON_SCHEMA"


async def test_vectors_are_the_mean_of_the_last_layer(bench: Bench, saved: SimpleNamespace) -> None:
    from transformers import AutoModel

    rows = [encoded(bench, prompt) for prompt in PROMPTS]
    vectors = await bench.scheduler.embed(rows, None)
    plain = AutoModel.from_pretrained(saved.base).eval()
    for row, vector in zip(rows, vectors, strict=True):
        with torch.inference_mode():
            mean = plain(input_ids=torch.tensor([row])).last_hidden_state[0].mean(dim=0)
        assert vector == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)
    tuned = await bench.scheduler.embed(rows, saved.adapters[0])
    assert tuned[0] != pytest.approx(vectors[0], abs=1e-2)


async def test_an_adapter_is_unloaded_after_its_last_answer(
    bench: Bench, saved: SimpleNamespace
) -> None:
    adapter = saved.adapters[0]
    row = bench.row(encoded(bench, "hi"), adapter, limit=60)
    writing = asyncio.ensure_future(bench.write([row]))
    await eventually(lambda: adapter.digest in bench.model.bank.placed)
    await bench.scheduler.unload(adapter.digest)
    assert row.over
    assert adapter.digest not in bench.model.bank.placed
    (answer,) = await writing
    assert answer.finish.completion_tokens == 60


async def eventually(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)
