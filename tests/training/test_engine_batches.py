"""The engine's loop against plain `generate` of transformers and peft."""

import asyncio
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from luthier.inference.v1.generation_pb2 import ChatFinish, SamplingParameters
from luthier_common.errors import DataLoss, Internal, PlatformError
from luthier_inference.engine.adapter_files import AdapterWeights
from luthier_inference.engine.batch import Batch
from luthier_inference.engine.metrics import EngineMetrics
from luthier_inference.engine.model import Model, load_model
from luthier_inference.engine.prompts import Tokenizer
from luthier_inference.engine.row import Row, Sampling
from luthier_inference.engine.scheduler import ROWS, Scheduler
from luthier_inference.engine.text import TextStream
from luthier_inference.lora_config import read_lora_config
from prometheus_client import CollectorRegistry

from tests.support.tiny_model import END, save_adapter, save_base

PROMPTS = ["hi", "a somewhat longer question?", "x", "What is it, then?", "é ü", "tell me more"]
STEPS = 24
ENDS = frozenset({END})


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("engine")
    base = save_base(folder / "base")
    adapters = [save_adapter(folder / f"a{seed}", base, seed=seed) for seed in (1, 2, 3)]
    return SimpleNamespace(base=base, adapters=adapters, tokenizer=Tokenizer(base, 256))


def weights(folder: Path) -> AdapterWeights:
    tensors = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    lora = read_lora_config((folder / "adapter_config.json").read_bytes())
    return AdapterWeights(f"{folder.name}0000", lora, tensors)


@pytest.fixture
def model(snapshots: SimpleNamespace) -> Model:
    return Model(load_model(snapshots.base, "fp32"), limit=ROWS)


def row(
    snapshots: SimpleNamespace,
    prompt: str,
    adapter: AdapterWeights | None = None,
    *,
    limit: int = STEPS,
    stop: Sequence[str] = (),
    **sampling: Any,
) -> Row:
    parameters = SamplingParameters(**{"temperature": 0.0, **sampling})
    return Row(
        prompt=encoded(snapshots, prompt),
        adapter=adapter,
        sampling=Sampling.of(parameters),
        text=TextStream(snapshots.tokenizer.decode, stop),
        limit=limit,
    )


def encoded(snapshots: SimpleNamespace, prompt: str) -> list[int]:
    tokens: list[int] = snapshots.tokenizer.encode([SimpleNamespace(role="user", content=prompt)])
    return tokens


def write(model: Model, rows: list[Row]) -> list[str]:
    """Run a batch to its end and return each row's text."""
    assert model.load([each.adapter for each in rows]) == {}
    batch = Batch(model, rows, ENDS)
    texts = {id(each): "" for each in rows}
    while batch.rows:
        for each, piece in batch.step():
            texts[id(each)] += piece.text
    return [texts[id(each)] for each in rows]


def reference(snapshots: SimpleNamespace, prompt: str, adapter: Path | None) -> str:
    """What transformers and peft write by themselves."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain: Any = AutoModelForCausalLM.from_pretrained(snapshots.base)
    if adapter is not None:
        plain = PeftModel.from_pretrained(plain, adapter)
    tokens = torch.tensor([encoded(snapshots, prompt)])
    with torch.inference_mode():
        output = plain.eval().generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=STEPS,
        )
    text: str = snapshots.tokenizer.decode(output[0, tokens.shape[1] :].tolist())
    return text


def test_a_mixed_batch_writes_what_each_writes_alone_and_peft_by_itself(
    snapshots: SimpleNamespace, model: Model
) -> None:
    folders = [None, *snapshots.adapters, snapshots.adapters[0], None]
    adapters = {path: weights(path) for path in snapshots.adapters}
    chosen = [adapters[path] if path else None for path in folders]
    expected = [reference(snapshots, *pair) for pair in zip(PROMPTS, folders, strict=True)]
    together = write(model, [row(snapshots, *pair) for pair in zip(PROMPTS, chosen, strict=True)])
    alone = [write(model, [row(snapshots, *pair)])[0] for pair in zip(PROMPTS, chosen, strict=True)]
    assert together == expected
    assert alone == expected
    on_one_prompt = {reference(snapshots, "hi", path) for path in (None, *snapshots.adapters)}
    assert len(on_one_prompt) == 4, "the adapters make a difference at all"


def test_usage_counts_every_token(snapshots: SimpleNamespace, model: Model) -> None:
    rows = [row(snapshots, PROMPTS[0], limit=5), row(snapshots, PROMPTS[1], limit=9)]
    batch, finishes = Batch(model, rows, ENDS), {}
    while batch.rows:
        for each, piece in batch.step():
            if piece.finish:
                finishes[id(each)] = piece.finish
    for each, limit in zip(rows, (5, 9), strict=True):
        finish = finishes[id(each)]
        assert finish.prompt_tokens == len(each.prompt)
        assert finish.completion_tokens == limit
        assert finish.reason == ChatFinish.FinishReason.LENGTH


def test_an_end_token_ends_its_row_only(snapshots: SimpleNamespace, model: Model) -> None:
    tokens = encoded(snapshots, PROMPTS[0])
    with torch.inference_mode():
        logits = model.forward([None], input_ids=torch.tensor([tokens])).logits
    first = int(logits[0, -1].argmax())
    rows = [row(snapshots, prompt) for prompt in PROMPTS[:3]]
    batch = Batch(model, rows, frozenset({first}))
    pieces = dict(batch.step())
    finish = pieces[rows[0]].finish
    assert finish is not None
    assert finish.reason == ChatFinish.FinishReason.STOP
    assert (pieces[rows[0]].text, finish.completion_tokens) == ("", 1)
    assert rows[0] not in batch.rows
    assert batch.rows


def test_a_stop_text_across_tokens_is_cut_off(snapshots: SimpleNamespace, model: Model) -> None:
    wholes = write(model, [row(snapshots, prompt) for prompt in PROMPTS])
    runs = {whole: re.search(r"[ -~]{2,}", whole) for whole in wholes}
    prompt, whole, run = next(
        (prompt, whole, run)
        for prompt, (whole, run) in zip(PROMPTS, runs.items(), strict=True)
        if run is not None and run.start() > 0
    )
    stop = run.group()  # each of its characters is a token
    stopped, free = row(snapshots, prompt, stop=[stop]), row(snapshots, prompt)
    assert write(model, [stopped, free]) == [whole[: whole.index(stop)], whole]
    assert stopped.written < free.written


def test_a_seed_gives_the_same_text_in_any_company(
    snapshots: SimpleNamespace, model: Model
) -> None:
    def sampled(seed: int) -> Row:
        return row(snapshots, PROMPTS[1], seed=seed, temperature=1.5, top_p=0.9)

    alone = write(model, [sampled(7)])[0]
    company = [row(snapshots, prompt, seed=1, temperature=1.0) for prompt in PROMPTS]
    assert write(model, [*company, sampled(7)])[-1] == alone
    assert len({write(model, [sampled(seed)])[0] for seed in range(5)}) == 5


@pytest.mark.parametrize("sampling", [{"temperature": 1e-9}, {"temperature": 1.0, "top_p": 1e-9}])
def test_the_limits_of_sampling_are_greedy(
    snapshots: SimpleNamespace, model: Model, sampling: dict[str, Any]
) -> None:
    greedy = write(model, [row(snapshots, PROMPTS[1])])
    assert write(model, [row(snapshots, PROMPTS[1], **sampling)]) == greedy


def test_adapters_come_and_go_without_a_trace(snapshots: SimpleNamespace) -> None:
    model = Model(load_model(snapshots.base, "fp32"), limit=1)
    before = write(model, [row(snapshots, PROMPTS[0])])
    for path in (*snapshots.adapters, snapshots.adapters[0]):
        written = write(model, [row(snapshots, PROMPTS[0], weights(path))])
        assert written == [reference(snapshots, PROMPTS[0], path)]
        assert write(model, [row(snapshots, PROMPTS[0])]) == before


def test_an_adapter_that_does_not_fit_fails_alone(snapshots: SimpleNamespace, model: Model) -> None:
    good = weights(snapshots.adapters[0])
    name = next(iter(good.tensors))
    wrong_shape = {**good.tensors, name: torch.zeros(3, 3)}
    one_missing = {key: value for key, value in good.tensors.items() if key != name}
    one_more = {**good.tensors, "base_model.model.no.lora_A.weight": torch.zeros(4, 4)}
    before = write(model, [row(snapshots, PROMPTS[0])])
    for number, tensors in enumerate((wrong_shape, one_missing, one_more)):
        bad = dataclasses.replace(good, digest=f"bad{number}", tensors=tensors)
        errors = model.load([bad, None])
        assert {key: type(error) for key, error in errors.items()} == {bad.digest: DataLoss}
    assert write(model, [row(snapshots, PROMPTS[0])]) == before
    expected = reference(snapshots, PROMPTS[0], snapshots.adapters[0])
    assert write(model, [row(snapshots, PROMPTS[0], good)]) == [expected]


def test_a_cancelled_row_leaves_the_batch(snapshots: SimpleNamespace, model: Model) -> None:
    rows = [row(snapshots, prompt) for prompt in PROMPTS[:3]]
    expected = write(model, [row(snapshots, prompt) for prompt in PROMPTS[:3]])
    batch = Batch(model, rows, ENDS)
    texts = dict.fromkeys(rows, "")
    for step in range(STEPS):
        if step == 4:
            rows[1].cancelled = True
        for each, piece in batch.step():
            texts[each] += piece.text
    assert not batch.rows
    assert texts[rows[0]] == expected[0]
    assert texts[rows[2]] == expected[2]
    assert rows[1].written == 4


async def read(each: Row) -> str:
    return "".join([piece.text async for piece in each.read()])


async def test_the_scheduler_batches_what_waits(snapshots: SimpleNamespace, model: Model) -> None:
    registry = CollectorRegistry()
    scheduler = Scheduler(model, ENDS, EngineMetrics(registry))
    rows = [row(snapshots, PROMPTS[n % 6]) for n in range(ROWS + 8)]
    for each in rows:
        scheduler.submit(each)
    running = asyncio.create_task(scheduler.run())
    texts = await asyncio.gather(*map(read, rows))
    running.cancel()
    assert texts[:6] == [reference(snapshots, prompt, None) for prompt in PROMPTS]
    assert registry.get_sample_value("luthier_engine_batch_rows_count") == 2
    assert registry.get_sample_value("luthier_engine_batch_rows_sum") == ROWS + 8
    written = sum(each.written for each in rows)
    assert registry.get_sample_value("luthier_engine_tokens_total") == written


async def test_a_broken_batch_ends_its_rows_and_nothing_else(
    snapshots: SimpleNamespace, model: Model
) -> None:
    scheduler = Scheduler(model, ENDS, EngineMetrics(CollectorRegistry()))
    broken, sound = row(snapshots, "hi"), row(snapshots, PROMPTS[0])
    broken.prompt = [10**6]  # no such token
    scheduler.submit(broken)
    running = asyncio.create_task(scheduler.run())
    with pytest.raises(Internal, match="failed while answering"):
        await read(broken)
    scheduler.submit(sound)
    assert await read(sound) == reference(snapshots, PROMPTS[0], None)
    running.cancel()


async def test_a_row_with_a_bad_adapter_gets_the_error(
    snapshots: SimpleNamespace, model: Model
) -> None:
    scheduler = Scheduler(model, ENDS, EngineMetrics(CollectorRegistry()))
    bad = dataclasses.replace(weights(snapshots.adapters[0]), digest="bad", tensors={})
    rows = [row(snapshots, PROMPTS[0], bad), row(snapshots, PROMPTS[0])]
    for each in rows:
        scheduler.submit(each)
    running = asyncio.create_task(scheduler.run())
    outcomes = await asyncio.gather(*map(read, rows), return_exceptions=True)
    running.cancel()
    assert isinstance(outcomes[0], PlatformError)
    assert outcomes[1] == reference(snapshots, PROMPTS[0], None)


def test_nf4_serves_the_numbers_that_tuning_computes(snapshots: SimpleNamespace) -> None:
    import bitsandbytes
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    tuned_on: Any = AutoModelForCausalLM.from_pretrained(
        snapshots.base, quantization_config=config, dtype=torch.float32
    ).eval()
    linears = [m for m in tuned_on.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(linears) == 14
    for linear in linears:
        linear.support_avx512bf16_for_cpu = False  # as every tuning run does
    tokens = torch.tensor([encoded(snapshots, PROMPTS[1])])
    with torch.inference_mode():
        expected = tuned_on(input_ids=tokens).logits
        served = load_model(snapshots.base, "nf4")(input_ids=tokens).logits
        unrounded = load_model(snapshots.base, "fp32")(input_ids=tokens).logits
    assert torch.equal(served, expected)
    assert not torch.allclose(unrounded, expected, atol=1e-3)
