"""The SDK asks the gateway, the gateway the inference service, that an engine: all of it real."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import CreateAdapterRequest
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_gateway.openai.names import model_of_adapter
from pydantic import SecretStr

from tests.support.gateway import RunningGateway, running_gateway, settings
from tests.support.inference_service import SECRET, Inference, inference_service
from tests.support.peft_methods import save_method
from tests.support.scripted_owners import Owners
from tests.support.tiny_architectures import save_architecture
from tests.support.tiny_model import save_adapter, save_base
from tests.training.test_engine_equality import generated, plain
from tests.training.test_engine_equality import save_adapter as save_any_adapter

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOL_TEMPLATE = (
    "{% if tools %}Tools: {{ tools | tojson }} <tool_call>{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"hot": {"type": "boolean"}},
            "required": ["hot"],
            "additionalProperties": False,
        },
    },
}


@dataclass
class Stack:
    """What the tests ask, and what it is made of."""

    gateway: RunningGateway
    inference: Inference
    folder: Path

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The official SDK."""
        return self.gateway.client()

    async def publish(self, path: Path, base: BaseModel, name: str) -> Adapter:
        """Publish an adapter of the default project."""
        adapter = await self.inference.adapter(path, base, project="default")
        request = CreateAdapterRequest(parent="projects/default", adapter=adapter, adapter_id=name)
        created: Adapter = await self.inference.adapters("default").CreateAdapter(request)
        return created


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("serving")
    async with inference_service(folder, max_engines=3) as inference:
        configured = settings(
            folder,
            inference.nats_url,
            inference.address,
            identity_secret=SecretStr(SECRET),
        )
        async with running_gateway(configured, Owners()) as gateway:
            yield Stack(gateway, inference, folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def llama(stack: Stack) -> BaseModel:
    path = save_base(stack.folder / "llama", context=512)
    config = json.loads((path / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "chat_template.jinja").write_text(TOOL_TEMPLATE)
    return await stack.inference.import_base(path, name="llama")


async def test_t5_with_an_adapter_for_each_request_of_a_batch(stack: Stack) -> None:
    path = save_architecture("t5", stack.folder / "t5")
    base = await stack.inference.import_base(path, name="tiny-t5")
    folders = [
        save_any_adapter(path, stack.folder / f"t5-{seed}", seed=seed, rank=4 * seed)
        for seed in (1, 2, 3)
    ]
    adapters = [
        await stack.publish(folder, base, f"t5-{number}") for number, folder in enumerate(folders)
    ]
    models = ["tiny-t5", *map(model_of_adapter, adapters)]
    texts = ["summarize: a long story", "translate: é", "x"]
    asked = [(model, text) for model in models for text in texts]

    async def ask(model: str, text: str) -> tuple[str, list[float], str | None]:
        answer = await stack.client.completions.with_raw_response.create(
            model=model, prompt=text, max_tokens=12, temperature=0, logprobs=1
        )
        choice = answer.parse().choices[0]
        assert choice.logprobs is not None
        logprobs = choice.logprobs.token_logprobs or []
        return choice.text, logprobs, answer.headers.get("x-luthier-adapter-digest")

    together = await asyncio.gather(*(ask(*pair) for pair in asked))
    alone = [await ask(*pair) for pair in asked]
    truth = dict(zip(models, [None, *(adapter.digest for adapter in adapters)], strict=True))
    plain_models = dict(
        zip(models, [plain(path), *(plain(path, folder) for folder in folders)], strict=True)
    )
    tokenizer = _tokenizer(path)
    for (model, text), one, other in zip(asked, together, alone, strict=True):
        assert one[2] == other[2] == truth[model]
        expected = generated(plain_models[model], [*tokenizer(text)["input_ids"], 1])
        count = len(one[1])
        assert one[1] == pytest.approx(expected.logprobs[:count], abs=1e-4)
        assert other[1] == pytest.approx(one[1], abs=1e-4)
    firsts = {
        round(one[1][0], 3) for pair, one in zip(asked, together, strict=True) if pair[1] == "x"
    }
    assert len(firsts) == len(models), "the adapters make a difference"


def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


async def test_an_encoder_decoder_is_not_asked_in_chats(stack: Stack) -> None:
    path = save_architecture("mt5", stack.folder / "mt5")
    await stack.inference.import_base(path, name="tiny-mt5")
    with pytest.raises(openai.BadRequestError, match="completions"):
        await stack.client.chat.completions.create(
            model="tiny-mt5", messages=[{"role": "user", "content": "hi"}]
        )


async def test_a_mixed_stream_of_base_and_adapters(stack: Stack, llama: BaseModel) -> None:
    path = stack.folder / "llama"
    folders = [save_adapter(stack.folder / f"a{seed}", path, seed=seed) for seed in (1, 2, 3)]
    adapters = [
        await stack.publish(folder, llama, f"a-{number}") for number, folder in enumerate(folders)
    ]
    models = ["llama", *map(model_of_adapter, adapters)]

    async def ask(model: str) -> str:
        stream = await stack.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=20,
            temperature=0,
            stream=True,
        )
        chunks = [chunk async for chunk in stream]
        assert {chunk.model for chunk in chunks} == {model}
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    alone = [await ask(model) for model in models]
    assert len(set(alone)) == 4
    assert await asyncio.gather(*map(ask, models * 4)) == alone * 4


async def test_adapters_of_other_methods_answer_as_peft_has_them(
    stack: Stack, llama: BaseModel
) -> None:
    path, text = stack.folder / "llama", "a long story"
    cases = ["adalora, pruned", "loha", "lokr"]
    folders = [
        save_method(path, stack.folder / f"method-{at}", case) for at, case in enumerate(cases)
    ]
    adapters = [await stack.publish(folder, llama, f"m-{at}") for at, folder in enumerate(folders)]
    answers = await asyncio.gather(
        *(
            stack.client.completions.create(
                model=model_of_adapter(adapter),
                prompt=text,
                max_tokens=8,
                temperature=0,
                logprobs=1,
            )
            for adapter in adapters
        )
    )
    prompt = _tokenizer(path)(text)["input_ids"]
    for folder, answer in zip(folders, answers, strict=True):
        told = answer.choices[0].logprobs
        assert told is not None
        expected = generated(plain(path, folder), prompt).logprobs[:8]
        assert told.token_logprobs == pytest.approx(expected, abs=1e-4)


async def test_parameters_reach_the_model(stack: Stack, llama: BaseModel) -> None:
    async def ask(**wanted: Any) -> Any:
        return await stack.client.chat.completions.create(
            model="llama",
            messages=[{"role": "user", "content": "hi"}],
            **{"max_tokens": 6, "temperature": 0, **wanted},
        )

    answer = await ask(logprobs=True, top_logprobs=2, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        told = choice.logprobs.content
        assert len(told) == 6
        assert (
            bytes(byte for one in told for byte in one.bytes)
            .decode(errors="replace")
            .startswith(choice.message.content[:1])
        )
        for one in told:
            assert one.logprob == pytest.approx(one.top_logprobs[0].logprob)
    assert answer.usage.completion_tokens == 12
    seeded = [(await ask(temperature=1.3, seed=5, n=3)).choices for _ in range(2)]
    texts = [[choice.message.content for choice in choices] for choices in seeded]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3
    biased = await ask(logit_bias={"80": 100})
    assert len(set(biased.choices[0].message.content)) == 1


async def test_json_of_a_schema(stack: Stack, llama: BaseModel) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    answer = await stack.client.chat.completions.create(
        model="llama",
        messages=[{"role": "user", "content": "hi"}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "ab", "schema": schema, "strict": True},
        },
        max_tokens=200,
        temperature=1,
        seed=3,
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert found.keys() == {"a", "b"}
    assert answer.choices[0].finish_reason == "stop"
    with pytest.raises(openai.BadRequestError) as caught:
        await stack.client.chat.completions.create(
            model="llama",
            messages=[{"role": "user", "content": "hi"}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "bad", "schema": {"type": "nothing"}},
            },
        )
    assert "response_format" in str(caught.value.param)


async def test_a_tool_is_called(stack: Stack, llama: BaseModel) -> None:
    messages: list[Any] = [{"role": "user", "content": "is it hot?"}]
    for stream in (False, True):
        answer = await stack.client.chat.completions.create(
            model="llama",
            messages=messages,
            tools=[WEATHER],
            tool_choice="required",
            max_tokens=300,
            temperature=1,
            seed=1,
            stream=stream,
        )
        if stream:
            chunks = [chunk async for chunk in answer]  # type: ignore[union-attr]
            calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
            reason = chunks[-1].choices[0].finish_reason
        else:
            calls = answer.choices[0].message.tool_calls or []  # type: ignore[union-attr,assignment]
            reason = answer.choices[0].finish_reason  # type: ignore[union-attr]
        (call,) = calls
        assert call.function is not None
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments or "").keys() == {"hot"}
        assert reason == "tool_calls"
    # The answer of the tool goes back in.
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function",
             "function": {"name": "weather", "arguments": '{"hot": true}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "40 degrees"},
    ]  # fmt: skip
    after = await stack.client.chat.completions.create(
        model="llama", messages=messages, tools=[WEATHER], max_tokens=5
    )
    assert after.usage is not None
    assert after.usage.prompt_tokens > 100


async def test_vectors(stack: Stack, llama: BaseModel) -> None:
    answer = await stack.client.embeddings.create(model="llama", input=["hi", "other", "hi"])
    first, other, again = (item.embedding for item in answer.data)
    assert first == again
    assert first != other
    assert math.fsum(value * value for value in first) == pytest.approx(1, abs=1e-5)
    assert answer.usage.prompt_tokens == 2 + 5 + 2
