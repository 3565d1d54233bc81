"""Embeddings through the official SDK."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import httpx2
import openai
import pytest
from luthier.inference.v1 import generation_service_pb2
from luthier_common.errors import ResourceExhausted

from tests.support.eventually import eventually
from tests.support.gateway import RunningGateway
from tests.support.scripted_owners import ADAPTER_DIGEST, BASE_DIGEST, Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Ask = generation_service_pb2.EmbedRequest
BASE = "luthier-starter"
TUNED = "ft:luthier-starter:default:support:ad-1"
THIRD = struct.unpack("<f", struct.pack("<f", 1 / 3))[0]  # as float32 has it


async def ask(sdk: Sdk, given: Any = "Hello there", **more: Any) -> Any:
    values = {"model": BASE, "input": given} | more
    return await sdk(lambda c: c.embeddings.create(**values))


async def test_a_text_becomes_a_vector(sdk: Sdk, owners: Owners) -> None:
    answer = await ask(sdk)
    assert (answer.object, answer.model) == ("list", BASE)
    (one,) = answer.data
    assert (one.object, one.index) == ("embedding", 0)
    assert one.embedding == [11, THIRD, -0.5]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (2, 2)
    request = owners.last(Ask)
    assert (request.parent, list(request.texts)) == ("projects/default", ["Hello there"])
    assert request.model == "projects/library/baseModels/luthier-starter"


async def test_both_formats_are_the_same_numbers(sdk: Sdk, http: httpx2.AsyncClient) -> None:
    plain = await ask(sdk, encoding_format="float")
    assert plain.data[0].embedding == [11, THIRD, -0.5]
    body = {"model": BASE, "input": "Hello there"}
    left_out = (await http.post("/embeddings", json=body)).json()
    assert left_out["data"][0]["embedding"] == plain.data[0].embedding
    packed = (await http.post("/embeddings", json=body | {"encoding_format": "base64"})).json()
    data = base64.b64decode(packed["data"][0]["embedding"])
    assert list(struct.unpack("<3f", data)) == plain.data[0].embedding


async def test_many_texts_keep_their_order_whatever_the_calls(sdk: Sdk, owners: Owners) -> None:
    texts = ["x" * (number % 17 + 1) for number in range(300)]
    answer = await ask(sdk, texts, user="somebody")
    assert [one.index for one in answer.data] == list(range(300))
    assert [one.embedding[0] for one in answer.data] == [len(text) for text in texts]
    assert answer.usage.total_tokens == 300
    calls = [request for request in owners.requests if isinstance(request, Ask)]
    assert [len(call.texts) for call in calls] == [128, 128, 44]


async def test_the_bytes_that_answer_are_named_in_headers(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("ad-1")
    raw = await sdk(lambda c: c.embeddings.with_raw_response.create(model=TUNED, input="x"))
    assert raw.headers["x-luthier-base-digest"] == BASE_DIGEST
    assert raw.headers["x-luthier-adapter-digest"] == ADAPTER_DIGEST
    raw = await sdk(lambda c: c.embeddings.with_raw_response.create(model=BASE, input="x"))
    assert "x-luthier-adapter-digest" not in raw.headers


async def test_the_size_of_the_vectors_is_the_models(sdk: Sdk) -> None:
    assert len((await ask(sdk, dimensions=3)).data[0].embedding) == 3
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, dimensions=2)
    assert caught.value.param == "dimensions"
    assert "must be 3" in caught.value.message


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1], [2]]}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": ""}, "input.0"),
        ({"input": ["x", ""]}, "input.1"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
async def test_a_value_out_of_bounds_is_named(
    sdk: Sdk, owners: Owners, changed: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, **({"given": changed["input"]} if "input" in changed else changed))
    assert caught.value.param == param
    assert not any(isinstance(request, Ask) for request in owners.requests)


async def test_half_a_character_is_a_bad_request(http: httpx2.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    body = json.dumps({"model": BASE, "input": "\ud83d"})
    answer = await http.post("/embeddings", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input.0"


async def test_an_unknown_model_is_not_found(sdk: Sdk) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await ask(sdk, model="text-embedding-3-small")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_text_that_is_refused_is_named_by_its_place_in_the_request(
    sdk: Sdk, owners: Owners
) -> None:
    owners.refused_text = "wrong"
    for place in (0, 127, 128, 299):
        texts = ["fine"] * 300
        texts[place] = "wrong"
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(sdk, texts)
        assert caught.value.param == f"input.{place}"
        assert caught.value.message.endswith(f"- input.{place} is too long")


async def test_a_full_queue_is_a_rate_limit_with_a_time_to_try_again(
    sdk: Sdk, owners: Owners
) -> None:
    owners.failures[Ask] = ResourceExhausted(
        "too many requests wait", reason="QUEUE_FULL", metadata={"retry_after_seconds": "0.2"}
    )
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(sdk)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "1"


async def test_vectors_of_another_model_are_never_passed_on(sdk: Sdk, owners: Owners) -> None:
    owners.base_digest = "c" * 64
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(sdk)
    assert caught.value.code == "wrong_model_answered"


async def test_a_caller_who_gives_up_ends_the_work(gateway: RunningGateway, owners: Owners) -> None:
    owners.hang = asyncio.Event()
    async with gateway.client() as client:
        call = asyncio.create_task(client.embeddings.create(model=BASE, input="x"))
        await eventually(lambda: owners.writing == 1)
        call.cancel()
        await asyncio.wait([call])
        await eventually(lambda: owners.writing == 0)


async def test_tokens_are_counted(gateway: RunningGateway, sdk: Sdk) -> None:
    def counted() -> float:
        name = "luthier_gateway_tokens_total"
        return gateway.metric(name, route="/embeddings", kind="prompt")

    before = counted()
    await ask(sdk, ["one", "two words"])
    assert counted() - before == 3
