"""A real vLLM (`make test-vllm`): its answers beside peft's own, and its end and return."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import torch
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.engine_service_pb2 import GenerateRequest
from luthier.inference.v1.generation_pb2 import (
    ChatMessage,
    SamplingParameters,
    Tool,
    ToolChoice,
)
from luthier_common.errors import FailedPrecondition, Unavailable
from luthier_inference.engine_pool import EnginePool
from luthier_inference.engines.adapter_folders import AdapterFolders
from luthier_inference.engines.configuration import VllmEngines
from luthier_inference.engines.port import Fleet
from luthier_inference.engines.vllm import VllmEngine, connect_vllm
from luthier_inference.metrics import Metrics
from peft import PeftModel
from prometheus_client import CollectorRegistry
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.eventually import eventually
from tests.support.real_vllm import STARTER, RealVllm, await_server, real_vllm, start_server
from tests.support.tiny_model import save_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]

QUESTIONS = [
    "How long is leave?",
    "Context: The lift is serviced in May.\nQuestion: When is the lift serviced?",
    "Name three colours.",
]
TOKENS = 32
CLOSE = 1e-4  # of two logits: either may win


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealVllm]:
    with real_vllm(tmp_path_factory.mktemp("vllm")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def engine(server: RealVllm) -> AsyncIterator[VllmEngine]:
    connected = await server.connect()
    yield connected
    await connected.stop()


def request(base: BaseModel, adapter: Adapter | None, question: str) -> GenerateRequest:
    return GenerateRequest(
        parent="projects/acme",
        base_model_digest=base.digest,
        adapter=adapter,
        messages=[ChatMessage(role="user", content=question)],
        sampling=SamplingParameters(temperature=0, max_tokens=TOKENS, logprobs=True),
    )


async def tokens_of(engine: VllmEngine, wanted: GenerateRequest) -> list[int]:
    async with aclosing(engine.generate(wanted)) as pieces:
        return [token.id async for piece in pieces for token in piece.tokens]


async def test_answers_are_those_of_peft_in_fp32(server: RealVllm, engine: VllmEngine) -> None:
    """Token by token, for the base and two adapters in one batch."""
    asked = [(adapter, question) for question in QUESTIONS for adapter in (None, *server.adapters)]
    written = await asyncio.gather(
        *(tokens_of(engine, request(server.base, *each)) for each in asked)
    )
    folders: dict[str, Path | None] = {"": None}
    folders |= {
        adapter.digest: folder
        for adapter, folder in zip(server.adapters, server.saved, strict=True)
    }
    compared = 0
    for digest, folder in folders.items():
        model = loaded(folder)
        for (adapter, question), tokens in zip(asked, written, strict=True):
            if (adapter.digest if adapter else "") == digest:
                compared += same(model, question, tokens)
    assert compared > 100, "most tokens were compared before two came close"


async def test_the_base_beside_adapters_in_all_slots_is_the_base(
    server: RealVllm, engine: VllmEngine, tmp_path: Path
) -> None:
    """Asked for as itself it would be wrong; once it is right, nothing needs the zero adapter."""
    third = await server.adapter(save_adapter(tmp_path / "third", STARTER, seed=8, rank=8))
    adapters = [*server.adapters, third]
    for adapter in adapters:  # with the zero adapter, as many as --max-loras; the last slot is its
        await tokens_of(engine, request(server.base, adapter, QUESTIONS[0]))
    plain = await server.connect(on_gpu=True)
    alone = [await tokens_of(plain, request(server.base, None, each)) for each in QUESTIONS]

    async def beside(asked: VllmEngine) -> list[list[int]]:
        others = [request(server.base, each, QUESTIONS[0]) for each in adapters]
        bases = [request(server.base, None, each) for each in QUESTIONS]
        written = await asyncio.gather(
            *(tokens_of(engine, each) for each in others),
            *(tokens_of(asked, each) for each in bases),
        )
        return written[len(others) :]

    assert await beside(engine) == alone
    assert await beside(plain) != alone
    await plain.stop()


def loaded(folder: Path | None) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    return (model if folder is None else PeftModel.from_pretrained(model, folder)).eval()


def same(model: Any, question: str, tokens: list[int]) -> int:
    """Return how many tokens equal those of `generate`, up to where two were as likely."""
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    done = model.generate(
        **prompt,
        max_new_tokens=TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    wanted = done.sequences[0, prompt["input_ids"].shape[1] :].tolist()
    for index, (one, other) in enumerate(zip(tokens, wanted, strict=False)):
        best = done.logits[index][0].topk(2).values
        if best[0] - best[1] <= CLOSE:
            return index
        assert one == other, (question, index, tokens, wanted)
    assert len(tokens) == len(wanted)
    return len(tokens)


async def test_parameters_mean_what_they_say(server: RealVllm, engine: VllmEngine) -> None:
    wanted = request(server.base, server.adapters[0], QUESTIONS[0])
    wanted.sampling.logit_bias[300] = 100
    assert set(await tokens_of(engine, wanted)) == {300}
    wanted.sampling.frequency_penalty = 2
    wanted.sampling.presence_penalty = 2
    wanted.sampling.repetition_penalty = 1.5
    wanted.sampling.logit_bias[300] = 15
    assert len(set(await tokens_of(engine, wanted))) > 1
    wanted.sampling.ClearField("logit_bias")
    wanted.sampling.temperature = 2
    wanted.sampling.top_k = 1
    assert await tokens_of(engine, wanted) == await tokens_of(engine, greedy(wanted))


def greedy(wanted: GenerateRequest) -> GenerateRequest:
    changed = GenerateRequest()
    changed.CopyFrom(wanted)
    changed.sampling.temperature = 0
    return changed


async def test_an_answer_is_json_as_its_schema_has_it(server: RealVllm, engine: VllmEngine) -> None:
    wanted = request(server.base, None, QUESTIONS[1])
    wanted.sampling.format.json_schema = '{"enum": ["January", "February"]}'
    pieces = [piece async for piece in engine.generate(wanted)]
    assert json.loads("".join(piece.text for piece in pieces)) in ("January", "February")


async def test_a_tool_that_must_be_called_takes_the_answer(
    server: RealVllm, engine: VllmEngine
) -> None:
    """This model knows no tools: it begins to call and does not come to an end."""
    wanted = request(server.base, None, QUESTIONS[1])
    wanted.tools.append(Tool(name="lift", parameters_schema='{"type": "object"}'))
    wanted.tool_choice.CopyFrom(ToolChoice(mode=ToolChoice.REQUIRED, name="lift"))
    pieces = [piece async for piece in engine.generate(wanted)]
    assert "".join(piece.text for piece in pieces) == ""
    assert pieces[-1].finish.completion_tokens > 0


async def test_an_adapter_that_vllm_was_made_to_forget_is_told_again(
    server: RealVllm, engine: VllmEngine
) -> None:
    adapter = server.adapters[0]
    wanted = request(server.base, adapter, QUESTIONS[0])
    first = await tokens_of(engine, wanted)
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
        body = {"lora_name": adapter.digest}
        (await client.post("/v1/unload_lora_adapter", json=body)).raise_for_status()
        assert await tokens_of(engine, wanted) == first
        names = {card["id"] for card in (await client.get("/v1/models")).json()["data"]}
    assert adapter.digest in names
    again = await server.connect()
    assert again.adapters >= {adapter.digest}, "what it holds is found by the next router"
    await again.stop()


async def test_a_rank_beyond_its_limit_is_refused_before_vllm_is_asked(
    server: RealVllm, engine: VllmEngine, tmp_path: Path
) -> None:
    adapter = await server.adapter(save_adapter(tmp_path / "wide", STARTER, seed=3, rank=24))
    with pytest.raises(FailedPrecondition) as caught:
        await tokens_of(engine, request(server.base, adapter, QUESTIONS[0]))
    assert caught.value.reason == "ADAPTER_UNFIT_RANK_TOO_HIGH"


async def test_a_server_that_dies_is_found_again_when_it_is_back(
    server: RealVllm, tmp_path: Path
) -> None:
    """It knows no adapter then; last, since it ends the module's server."""
    config = VllmEngines.model_validate({"kind": "vllm", "urls": [server.url]})
    folders = AdapterFolders(server.blobs, server.folder / "adapters")

    async def connect(base: BaseModel, place: str) -> VllmEngine:
        return await connect_vllm(base, place, config, server.blobs, folders)

    fleet = Fleet(connect, (server.url,), max_calls=8, local=False)
    async with EnginePool(
        lambda _: fleet, limit=1, metrics=Metrics(CollectorRegistry())
    ) as engines:

        async def ask() -> list[int]:
            wanted = request(server.base, server.adapters[1], QUESTIONS[0])
            async with aclosing(engines.generate(server.base, wanted)) as pieces:
                return [token.id async for piece in pieces for token in piece.tokens]

        first = await ask()
        server.kill()
        with pytest.raises(Unavailable):
            await ask()
        port = int(server.url.rpartition(":")[2])
        server.process, _, log = start_server(tmp_path, port)
        await asyncio.to_thread(partial(await_server, server.process, server.url, log))
        assert await eventually(partial(answered, ask), 90) == first


async def answered(ask: Any) -> list[int] | None:
    try:
        answer: list[int] = await ask()
    except Unavailable:
        return None
    return answer
