"""Chat completions through the official SDK, in one piece and streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import openai
import pytest
from luthier.inference.v1 import generation_pb2, generation_service_pb2
from luthier_common.errors import InvalidArgument, ResourceExhausted, Unavailable
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from tests.support.eventually import eventually
from tests.support.gateway import RunningGateway
from tests.support.scripted_owners import ADAPTER_DIGEST, BASE_DIGEST, Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Ask = generation_service_pb2.StreamChatRequest
BASE = "luthier-starter"
TUNED = "ft:luthier-starter:default:support:ad-1"
HELLO: Any = [{"role": "user", "content": "Hello"}]


def asked(owners: Owners) -> list[generation_service_pb2.StreamChatRequest]:
    return [request for request in owners.requests if isinstance(request, Ask)]


async def opened(client: openai.AsyncOpenAI) -> openai.AsyncStream[ChatCompletionChunk]:
    return await client.chat.completions.create(model=BASE, messages=HELLO, stream=True)


async def ask(sdk: Sdk, **given: Any) -> Any:
    values = {"model": BASE, "messages": HELLO} | given
    return await sdk(lambda c: c.chat.completions.create(**values))


async def stream(sdk: Sdk, **given: Any) -> list[Any]:
    values = {"model": BASE, "messages": HELLO, "stream": True} | given
    return await sdk.all(lambda c: c.chat.completions.create(**values))


async def test_an_answer_comes_in_one_piece(sdk: Sdk, owners: Owners) -> None:
    answer = await ask(sdk)
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == BASE
    assert answer.created > 0
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello")
    assert choice.message.refusal is None
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 2, 7)
    assert answer.system_fingerprint == f"fp_{BASE_DIGEST[:12]}"
    request = owners.last(Ask)
    assert request.parent == "projects/default"
    assert request.model == "projects/library/baseModels/luthier-starter"


async def test_the_bytes_that_answer_are_named_in_headers(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("ad-1")
    raw = await sdk(
        lambda c: c.chat.completions.with_raw_response.create(model=TUNED, messages=HELLO)
    )
    assert raw.headers["x-luthier-base-digest"] == BASE_DIGEST
    assert raw.headers["x-luthier-adapter-digest"] == ADAPTER_DIGEST
    answer = raw.parse()
    assert answer.model == TUNED
    assert answer.system_fingerprint == f"fp_{ADAPTER_DIGEST[:12]}"
    assert owners.last(Ask).model == "projects/default/adapters/ad-1"
    raw = await sdk(
        lambda c: c.chat.completions.with_raw_response.create(model=BASE, messages=HELLO)
    )
    assert "x-luthier-adapter-digest" not in raw.headers


async def test_messages_keep_their_order_and_roles(sdk: Sdk, owners: Owners) -> None:
    messages = [
        {"role": "developer", "content": "Be short."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
        },
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Größe? 日本"},
    ]
    await ask(sdk, messages=messages)
    assert [(one.role, one.content) for one in owners.last(Ask).messages] == [
        ("system", "Be short."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "Größe? 日本"),
    ]


async def test_sampling_parameters_reach_the_owner(sdk: Sdk, owners: Owners) -> None:
    await ask(sdk, temperature=0, top_p=0.5, seed=-3, stop=["END", "\n\n"], max_tokens=9)
    sampling = owners.last(Ask).sampling
    assert sampling.HasField("temperature")
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0, 0.5, -3)
    assert list(sampling.stop) == ["END", "\n\n"]
    assert sampling.max_tokens == 9


async def test_what_is_left_out_stays_left_out(sdk: Sdk, owners: Owners) -> None:
    await ask(sdk)
    assert owners.last(Ask).sampling == generation_pb2.SamplingParameters()


async def test_the_newer_limit_of_tokens_wins_and_one_stop_text_is_a_list(
    sdk: Sdk, owners: Owners
) -> None:
    await ask(sdk, max_completion_tokens=4, max_tokens=9, stop="END")
    sampling = owners.last(Ask).sampling
    assert (sampling.max_tokens, list(sampling.stop)) == (4, ["END"])


async def test_every_way_of_choosing_tokens_reaches_the_owner(sdk: Sdk, owners: Owners) -> None:
    await ask(
        sdk,
        presence_penalty=-1.5,
        frequency_penalty=2,
        logit_bias={"50256": -100, "7": 1.5},
        extra_body={"top_k": 40, "min_p": 0.25, "repetition_penalty": 1.5},
    )
    assert owners.last(Ask).sampling == generation_pb2.SamplingParameters(
        presence_penalty=-1.5,
        frequency_penalty=2,
        logit_bias={50256: -100, 7: 1.5},
        top_k=40,
        min_p=0.25,
        repetition_penalty=1.5,
    )


async def test_n_answers_are_choices_of_one_call(sdk: Sdk, owners: Owners) -> None:
    owners.answer = ("Hello ", "{index}")
    answer = await ask(sdk, n=3, seed=2**63 - 2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in answer.choices]
    assert texts == ["Hello 0", "Hello 1", "Hello 2"]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 6)
    (request,) = asked(owners)
    assert (request.sampling.answer_count, request.sampling.seed) == (3, 2**63 - 2)


async def test_tokens_that_were_in_the_cache_are_told(sdk: Sdk, owners: Owners) -> None:
    owners.cached_prompt_tokens = 3
    assert (await ask(sdk, n=2)).usage.prompt_tokens_details.cached_tokens == 3
    chunks = await stream(sdk, stream_options={"include_usage": True})
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 3


async def test_log_probabilities_are_told_by_token(sdk: Sdk, owners: Owners) -> None:
    answer = await ask(sdk, logprobs=True, top_logprobs=2)
    sampling = owners.last(Ask).sampling
    assert (sampling.logprobs, sampling.top_logprobs) == (True, 2)
    first, second = answer.choices[0].logprobs.content
    assert (first.token, first.bytes, first.logprob) == ("Hel", list(b"Hel"), -0.25)
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [("Hel", -0.25), ("B", -9)]
    assert (second.token, second.logprob) == ("lo", -0.5)
    assert answer.choices[0].logprobs.refusal is None
    alone = await ask(sdk, logprobs=True)
    assert [token.top_logprobs for token in alone.choices[0].logprobs.content] == [[], []]
    assert (await ask(sdk)).choices[0].logprobs is None


async def test_log_probabilities_come_with_their_pieces(sdk: Sdk, owners: Owners) -> None:
    first, *middle, last = [
        chunk.choices[0] for chunk in await stream(sdk, logprobs=True, top_logprobs=1)
    ]
    told = [(one.delta.content, one.logprobs.content[0].token) for one in middle]
    assert told == [("Hel", "Hel"), ("lo", "lo")]
    assert middle[0].logprobs.content[0].top_logprobs[0].logprob == -0.25
    assert first.logprobs is None
    assert last.logprobs is None


async def test_a_token_that_is_part_of_a_character_keeps_its_bytes(
    sdk: Sdk, owners: Owners
) -> None:
    owners.answer = ("", "ß")
    impossible = float("-inf")
    owners.tokens = [
        generation_pb2.Token(id=1, text=b"\xc3", logprob=-1),
        generation_pb2.Token(id=2, text=b"\x9f", logprob=impossible),
    ]
    answer = await ask(sdk, logprobs=True)
    tokens = [(one.token, one.bytes, one.logprob) for one in answer.choices[0].logprobs.content]
    assert tokens == [("\\xc3", [0xC3], -1), ("\\x9f", [0x9F], -9999)]
    pieces = [chunk.choices[0] for chunk in await stream(sdk, logprobs=True)][1:-1]
    assert [(one.delta.content, one.logprobs.content[0].bytes) for one in pieces] == [
        ("", [0xC3]),
        ("ß", [0x9F]),
    ]


@pytest.mark.parametrize(
    ("given", "kind", "schema"),
    [
        ({"type": "text"}, None, ""),
        ({"type": "json_object"}, "json_object", ""),
        (
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "city",
                    "strict": True,
                    "schema": {"type": "object", "properties": {"größe": {"type": "integer"}}},
                },
            },
            "json_schema",
            '{"type": "object", "properties": {"größe": {"type": "integer"}}}',
        ),
        ({"type": "json_schema", "json_schema": {"name": "any"}}, "json_schema", "{}"),
    ],
)
async def test_the_form_of_an_answer_reaches_the_owner(
    sdk: Sdk, owners: Owners, given: Any, kind: str | None, schema: str
) -> None:
    await ask(sdk, response_format=given)
    sent = owners.last(Ask).sampling
    assert sent.format.WhichOneof("kind") == kind
    assert sent.format.json_schema == schema
    assert sent.HasField("format") == (kind is not None)


async def test_an_answer_cut_by_the_limit_says_length(sdk: Sdk, owners: Owners) -> None:
    owners.finish = generation_pb2.Finish.LENGTH
    assert (await ask(sdk)).choices[0].finish_reason == "length"
    assert (await stream(sdk))[-1].choices[0].finish_reason == "length"


class City(BaseModel):
    name: str
    people: int


async def test_the_sdk_parses_an_answer_into_its_class(sdk: Sdk, owners: Owners) -> None:
    owners.answer = ('{"name": "Bern", ', '"people": 134000}')
    answer = await sdk(
        lambda c: c.chat.completions.parse(model=BASE, messages=HELLO, response_format=City)
    )
    assert answer.choices[0].message.parsed == City(name="Bern", people=134_000)
    schema = json.loads(owners.last(Ask).sampling.format.json_schema)
    assert schema["properties"]["people"] == {"title": "People", "type": "integer"}


async def test_unknown_fields_are_ignored(sdk: Sdk, owners: Owners) -> None:
    answer = await ask(
        sdk,
        user="somebody",
        store=False,
        metadata={"a": "b"},
        service_tier="auto",
        extra_body={"adapter_id": "x", "nobody_knows_this": {"a": 1}},
    )
    assert answer.choices[0].message.content == "Hello"


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("functions", [{"name": "f"}], "use tools"),
        ("function_call", {"name": "f"}, "use tool_choice"),
        ("audio", {"voice": "alloy", "format": "wav"}, ""),
        ("modalities", ["text", "audio"], ""),
        ("web_search_options", {}, ""),
        ("prediction", {"type": "content", "content": "x"}, ""),
    ],
)
async def test_a_field_that_would_change_the_answer_is_refused_by_name(
    sdk: Sdk, owners: Owners, name: str, value: Any, instead: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, **{name: value})
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")
    assert instead in caught.value.message
    assert not asked(owners)


async def test_the_neutral_values_of_such_fields_are_fine(sdk: Sdk, owners: Owners) -> None:
    answer = await ask(
        sdk,
        logprobs=False,
        top_logprobs=0,
        frequency_penalty=0,
        presence_penalty=0,
        logit_bias={},
        response_format={"type": "text"},
        tools=[],
        tool_choice="auto",
        function_call="none",
        modalities=["text"],
    )
    assert answer.choices[0].message.content == "Hello"
    assert owners.last(Ask).sampling == generation_pb2.SamplingParameters()


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens"),
        ({"stop": ["1", "2", "3", "4", "5"]}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"seed": 2**63}, "seed"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        ({"messages": [*HELLO, {"role": "user"}]}, "messages.1.content"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7"),
        ({"logit_bias": {"word": 1}}, "logit_bias.word"),
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1"),
        ({"logit_bias": {str(number): 1 for number in range(1025)}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"extra_body": {"top_k": -1}}, "top_k"),
        ({"extra_body": {"min_p": 1.1}}, "min_p"),
        ({"extra_body": {"repetition_penalty": 0}}, "repetition_penalty"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": ["object"]},
                }
            },
            "response_format.json_schema.schema",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content",
        ),
    ],
)
async def test_a_value_out_of_bounds_is_named(
    sdk: Sdk, owners: Owners, changed: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, **changed)
    assert caught.value.param == param
    assert not asked(owners)


async def test_half_a_character_is_a_bad_request(http: httpx2.AsyncClient, owners: Owners) -> None:
    body = json.dumps({"model": BASE, "messages": [{"role": "user", "content": "\ud83d"}]})
    headers = {"content-type": "application/json"}
    answer = await http.post("/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages.0.content"


async def test_an_unknown_model_is_not_found(sdk: Sdk, owners: Owners) -> None:
    for model in ("gpt-4o", "meta/llama 3:ft@1", "ft:luthier-starter:other:support:ad-1"):
        with pytest.raises(openai.NotFoundError) as caught:
            await ask(sdk, model=model)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        assert f"The model '{model}' does not exist" in caught.value.message


async def test_too_long_a_conversation_is_a_bad_request(sdk: Sdk, owners: Owners) -> None:
    owners.failures[Ask] = InvalidArgument(
        "messages have 300 tokens; the model has room for 256",
        reason="CONTEXT_LENGTH_EXCEEDED",
        field="messages",
    )
    for work in (ask, stream):
        with pytest.raises(openai.BadRequestError) as caught:
            await work(sdk)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


async def test_a_busy_engine_is_a_rate_limit_that_may_be_retried(sdk: Sdk, owners: Owners) -> None:
    owners.failures[Ask] = ResourceExhausted("too many requests wait", reason="ENGINE_BUSY")
    with pytest.raises(openai.RateLimitError) as caught:
        await stream(sdk)
    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "engine_busy")
    assert "x-should-retry" not in caught.value.response.headers


async def test_a_full_queue_is_a_rate_limit_with_a_time_to_try_again(
    sdk: Sdk, owners: Owners
) -> None:
    owners.failures[Ask] = ResourceExhausted(
        "too many requests wait", reason="QUEUE_FULL", metadata={"retry_after_seconds": "2.5"}
    )
    for work in (ask, stream):
        with pytest.raises(openai.RateLimitError) as caught:
            await work(sdk)
        assert (caught.value.status_code, caught.value.code) == (429, "rate_limit_exceeded")
        assert caught.value.response.headers["retry-after"] == "3"


async def test_an_answer_of_another_model_is_never_passed_on(sdk: Sdk, owners: Owners) -> None:
    owners.base_digest = "c" * 64
    for work in (ask, stream):
        with pytest.raises(openai.InternalServerError) as caught:
            await work(sdk)
        assert caught.value.code == "wrong_model_answered"


async def test_a_failure_on_the_way_fails_an_answer_in_one_piece(sdk: Sdk, owners: Owners) -> None:
    owners.break_after = Unavailable("the engine died", reason="ENGINE_LOST")
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(sdk)
    assert (caught.value.status_code, caught.value.code) == (503, "engine_lost")


async def test_an_answer_that_ends_without_a_word_is_never_passed_off_as_whole(
    sdk: Sdk, owners: Owners
) -> None:
    owners.finish = None
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(sdk)
    assert caught.value.code == "answer_unfinished"
    with pytest.raises(openai.APIError) as broken:
        await stream(sdk)
    assert broken.value.code == "answer_unfinished"
    owners.answer = ()
    with pytest.raises(openai.InternalServerError):
        await stream(sdk)  # nothing was sent yet, so there is a status to tell it with


async def test_a_stream_has_a_beginning_pieces_and_an_end(sdk: Sdk, owners: Owners) -> None:
    chunks = await stream(sdk)
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    for name in ("id", "created", "model", "system_fingerprint"):
        assert len({getattr(chunk, name) for chunk in chunks}) == 1
    first, *middle, last = [chunk.choices[0] for chunk in chunks]
    assert (first.delta.role, first.delta.content, first.finish_reason) == ("assistant", "", None)
    assert [choice.delta.content for choice in middle] == ["Hel", "lo"]
    assert {choice.finish_reason for choice in middle} == {None}
    assert (last.delta.content, last.finish_reason) == (None, "stop")
    assert all(chunk.usage is None for chunk in chunks)


async def test_usage_is_an_extra_chunk_on_demand(sdk: Sdk, owners: Owners) -> None:
    chunks = await stream(sdk, n=2, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 4, 9)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks[:-1])


async def test_streamed_choices_are_told_apart_by_index(sdk: Sdk, owners: Owners) -> None:
    chunks = await stream(sdk, n=2)
    texts = {0: "", 1: ""}
    ends = {}
    for chunk in chunks:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            ends[choice.index] = choice.finish_reason
    assert texts == {0: "Hello", 1: "Hello"}
    assert ends == {0: "stop", 1: "stop"}


async def test_a_failure_on_the_way_is_an_event_of_the_stream(sdk: Sdk, owners: Owners) -> None:
    owners.break_after = Unavailable("the engine died", reason="ENGINE_LOST")
    with pytest.raises(openai.APIError) as caught:
        await sdk.all(lambda c: c.chat.completions.create(model=BASE, messages=HELLO, stream=True))
    assert caught.value.code == "engine_lost"
    assert caught.value.message == "the engine died"
    assert caught.value.type == "server_error"


async def test_a_stream_on_the_wire_is_events_and_ends_with_done(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    owners.answer = ("zeile\n", "größe")
    body = {"model": BASE, "messages": HELLO, "stream": True}
    answer = await http.post("/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-luthier-base-digest"] == BASE_DIGEST
    *events, done, rest = answer.content.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "zeile\ngröße"
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_broken_stream_has_no_done(http: httpx2.AsyncClient, owners: Owners) -> None:
    owners.break_after = Unavailable("the engine died", reason="ENGINE_LOST")
    body = {"model": BASE, "messages": HELLO, "stream": True}
    text = (await http.post("/chat/completions", json=body)).text
    assert "[DONE]" not in text
    error = json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert error["error"]["code"] == "engine_lost"


async def test_pieces_arrive_while_the_answer_is_still_being_written(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.hang = asyncio.Event()
    async with gateway.client() as client:
        chunks = await opened(client)
        texts = ""
        async for chunk in chunks:
            texts += chunk.choices[0].delta.content or ""
            if texts == "Hello":
                owners.hang.set()
    assert texts == "Hello"
    assert owners.hang.is_set()


async def test_a_reader_who_hangs_up_ends_the_writing(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.hang = asyncio.Event()
    async with gateway.client() as client:
        chunks = await opened(client)
        await anext(aiter(chunks))
        await chunks.close()
        await eventually(owners.hung_up.is_set)


async def test_a_caller_who_gives_up_ends_the_writing_of_an_answer_in_one_piece(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.hang = asyncio.Event()
    async with gateway.client() as client:
        call = asyncio.create_task(client.chat.completions.create(model=BASE, messages=HELLO))
        await eventually(lambda: asked(owners))
        call.cancel()
        await asyncio.wait([call])
        await eventually(owners.hung_up.is_set)


async def test_tokens_are_counted(gateway: RunningGateway, sdk: Sdk, owners: Owners) -> None:
    def counted() -> list[float]:
        name, route = "luthier_gateway_tokens_total", "/chat/completions"
        return [gateway.metric(name, route=route, kind=kind) for kind in ("prompt", "completion")]

    before = counted()
    await ask(sdk)
    await stream(sdk, n=2)
    assert [after - b for after, b in zip(counted(), before, strict=True)] == [10, 6]
