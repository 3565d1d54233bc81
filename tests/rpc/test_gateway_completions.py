"""Completions through the official SDK, in one piece and streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import openai
import pytest
from luthier.inference.v1 import generation_pb2, generation_service_pb2
from luthier_common.errors import InvalidArgument, ResourceExhausted, Unavailable

from tests.support.eventually import eventually
from tests.support.gateway import RunningGateway
from tests.support.scripted_owners import ADAPTER_DIGEST, BASE_DIGEST, Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Ask = generation_service_pb2.StreamCompleteRequest
BASE = "luthier-starter"
TUNED = "ft:luthier-starter:default:support:ad-1"


def asked(owners: Owners) -> list[generation_service_pb2.StreamCompleteRequest]:
    return [request for request in owners.requests if isinstance(request, Ask)]


async def ask(sdk: Sdk, prompt: Any = "Once", **given: Any) -> Any:
    values = {"model": BASE, "prompt": prompt} | given
    return await sdk(lambda c: c.completions.create(**values))


async def stream(sdk: Sdk, prompt: Any = "Once", **given: Any) -> list[Any]:
    values = {"model": BASE, "prompt": prompt, "stream": True} | given
    return await sdk.all(lambda c: c.completions.create(**values))


def texts_of(chunks: list[Any]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    return texts


async def test_a_text_is_gone_on_with(sdk: Sdk, owners: Owners) -> None:
    answer = await ask(sdk)
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", BASE)
    assert answer.created > 0
    (choice,) = answer.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, "Hello", "stop")
    assert choice.logprobs is None
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 2, 7)
    assert answer.system_fingerprint == f"fp_{BASE_DIGEST[:12]}"
    request = owners.last(Ask)
    assert (request.parent, request.text) == ("projects/default", "Once")
    assert request.model == "projects/library/baseModels/luthier-starter"


async def test_the_bytes_that_answer_are_named_in_headers(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("ad-1")
    raw = await sdk(lambda c: c.completions.with_raw_response.create(model=TUNED, prompt="x"))
    assert raw.headers["x-luthier-base-digest"] == BASE_DIGEST
    assert raw.headers["x-luthier-adapter-digest"] == ADAPTER_DIGEST
    assert owners.last(Ask).model == "projects/default/adapters/ad-1"


async def test_sampling_parameters_reach_the_owner(sdk: Sdk, owners: Owners) -> None:
    await ask(
        sdk,
        max_tokens=9,
        temperature=0,
        top_p=0.5,
        seed=-3,
        stop="END",
        n=2,
        best_of=2,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"7": -100},
        suffix="",
        user="somebody",
        extra_body={"top_k": 4, "min_p": 0.5, "repetition_penalty": 2, "nobody_knows": 1},
    )
    assert owners.last(Ask).sampling == generation_pb2.SamplingParameters(
        max_tokens=9,
        temperature=0,
        top_p=0.5,
        seed=-3,
        stop=["END"],
        answer_count=2,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={7: -100},
        top_k=4,
        min_p=0.5,
        repetition_penalty=2,
    )


async def test_without_a_limit_there_are_sixteen_tokens_as_at_openai(
    sdk: Sdk, owners: Owners
) -> None:
    await ask(sdk)
    assert owners.last(Ask).sampling == generation_pb2.SamplingParameters(max_tokens=16)


async def test_several_prompts_have_n_choices_each(sdk: Sdk, owners: Owners) -> None:
    owners.answer = ("{text}", "-{index}")
    owners.cached_prompt_tokens = 2
    expected = {0: "a-0", 1: "a-1", 2: "b-0", 3: "b-1", 4: "c-0", 5: "c-1"}
    answer = await ask(sdk, ["a", "b", "c"], n=2)
    assert {choice.index: choice.text for choice in answer.choices} == expected
    assert [choice.index for choice in answer.choices] == list(range(6))
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (15, 12, 27)
    assert usage.prompt_tokens_details.cached_tokens == 6
    assert sorted(request.text for request in asked(owners)) == ["a", "b", "c"]
    chunks = await stream(sdk, ["a", "b", "c"], n=2, stream_options={"include_usage": True})
    assert texts_of(chunks) == expected
    assert (chunks[-1].choices, chunks[-1].usage) == ([], usage)


async def test_no_request_has_all_of_its_many_prompts_answered_at_once(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.hang = asyncio.Event()
    prompts = [str(number) for number in range(128)]
    owners.answer = ("{text}",)
    async with gateway.client() as client:
        call = asyncio.create_task(client.completions.create(model=BASE, prompt=prompts))
        await eventually(lambda: owners.writing == 32)
        assert len(asked(owners)) == 32
        owners.hang.set()
        answer = await call
    assert [choice.text for choice in answer.choices] == prompts


async def test_the_prompt_is_echoed_on_demand(sdk: Sdk, owners: Owners) -> None:
    owners.answer = (" upon", " a time")
    answer = await ask(sdk, ["Once", "Twice"], n=2, echo=True)
    assert [choice.text for choice in answer.choices] == [
        "Once upon a time",
        "Once upon a time",
        "Twice upon a time",
        "Twice upon a time",
    ]
    streamed = texts_of(await stream(sdk, ["Once", "Twice"], n=2, echo=True))
    assert list(streamed.values()) == [choice.text for choice in answer.choices]


async def test_log_probabilities_have_their_older_form(sdk: Sdk, owners: Owners) -> None:
    owners.answer = ("Grö", "ße")
    logprobs = (await ask(sdk, logprobs=2)).choices[0].logprobs
    assert logprobs.tokens == ["Grö", "ße"]
    assert logprobs.token_logprobs == [-0.25, -0.5]
    assert logprobs.top_logprobs == [{"Grö": -0.25, "B": -9}, {"ße": -0.5, "B": -9}]
    assert logprobs.text_offset == [0, 3]
    sampling = owners.last(Ask).sampling
    assert (sampling.logprobs, sampling.top_logprobs) == (True, 2)
    logprobs = (await ask(sdk, logprobs=0)).choices[0].logprobs
    assert logprobs.top_logprobs == [{"Grö": -0.25}, {"ße": -0.5}]


async def test_log_probabilities_come_with_their_pieces(sdk: Sdk, owners: Owners) -> None:
    owners.answer = ("Grö", "ße")
    first, second, end = [chunk.choices[0] for chunk in await stream(sdk, logprobs=1)]
    assert (first.text, first.logprobs.tokens, first.logprobs.text_offset) == ("Grö", ["Grö"], [0])
    assert (second.text, second.logprobs.text_offset) == ("ße", [3])
    assert (end.text, end.finish_reason, end.logprobs.tokens) == ("", "stop", [])


async def test_parts_of_a_character_are_told_by_their_bytes(sdk: Sdk, owners: Owners) -> None:
    owners.answer = ("a", "", "ß", "b")
    owners.tokens = [
        generation_pb2.Token(id=number, text=text, logprob=-1)
        for number, text in enumerate((b"a", b"\xc3", b"\x9f", b"b"))
    ]
    logprobs = (await ask(sdk, logprobs=0)).choices[0].logprobs
    assert logprobs.tokens == ["a", "bytes:\\xc3", "bytes:\\x9f", "b"]
    assert logprobs.text_offset == [0, 1, 1, 2]


async def test_a_stream_has_pieces_and_an_end(sdk: Sdk, owners: Owners) -> None:
    owners.finish = generation_pb2.Finish.LENGTH
    chunks = await stream(sdk)
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    choices = [chunk.choices[0] for chunk in chunks]
    assert [choice.text for choice in choices] == ["Hel", "lo", ""]
    assert [choice.finish_reason for choice in choices] == [None, None, "length"]


async def test_a_stream_on_the_wire_ends_with_done(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    answer = await http.post("/completions", json={"model": BASE, "prompt": "x", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-luthier-base-digest"] == BASE_DIGEST
    *events, done, rest = answer.content.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    texts = [json.loads(one.removeprefix("data: "))["choices"][0]["text"] for one in events]
    assert "".join(texts) == "Hello"


@pytest.mark.parametrize(
    ("changed", "param", "code"),
    [
        ({"prompt": [1, 2]}, "prompt", "invalid_value"),
        ({"prompt": [[1], [2]]}, "prompt", "invalid_value"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": ["x"] * 129}, "prompt", "invalid_value"),
        ({"prompt": None}, "prompt", "invalid_value"),
        ({"logprobs": 6}, "logprobs", "invalid_value"),
        ({"logprobs": -1}, "logprobs", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"n": 17}, "n", "invalid_value"),
        ({"suffix": "the end"}, "suffix", "unsupported_parameter"),
        ({"best_of": 3, "n": 2}, "best_of", "unsupported_parameter"),
        ({"echo": True, "logprobs": 1}, "echo", "unsupported_parameter"),
    ],
)
async def test_what_is_not_offered_is_refused_by_name(
    sdk: Sdk, owners: Owners, changed: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, **({"prompt": "x"} | changed))
    assert (caught.value.param, caught.value.code) == (param, code)
    assert not asked(owners)


async def test_tokens_for_a_prompt_are_refused_in_so_many_words(sdk: Sdk) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, [1, 2])
    assert "tokens are not supported" in caught.value.message


async def test_a_prompt_is_required(http: httpx2.AsyncClient) -> None:
    error = (await http.post("/completions", json={"model": BASE})).json()["error"]
    assert (error["param"], error["code"]) == ("prompt", "missing_required_parameter")


async def test_failures_before_the_first_piece_keep_their_status(sdk: Sdk, owners: Owners) -> None:
    for work in (ask, stream):
        owners.failures[Ask] = InvalidArgument(
            "text has 300 tokens; the model has room for 256",
            reason="CONTEXT_LENGTH_EXCEEDED",
            field="text",
        )
        with pytest.raises(openai.BadRequestError) as caught:
            await work(sdk)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
        assert "- prompt has 300 tokens" in caught.value.message
        owners.failures[Ask] = ResourceExhausted(
            "too many requests wait", reason="QUEUE_FULL", metadata={"retry_after_seconds": "7"}
        )
        with pytest.raises(openai.RateLimitError) as busy:
            await work(sdk)
        assert busy.value.code == "rate_limit_exceeded"
        assert busy.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.NotFoundError):
            await work(sdk, model="gpt-4o")


async def test_a_failure_on_the_way_is_an_event_of_the_stream(sdk: Sdk, owners: Owners) -> None:
    owners.break_after = Unavailable("the engine died", reason="ENGINE_LOST")
    with pytest.raises(openai.APIError) as caught:
        await stream(sdk, ["a", "b"])
    assert (caught.value.code, caught.value.type) == ("engine_lost", "server_error")
    with pytest.raises(openai.InternalServerError) as whole:
        await ask(sdk, ["a", "b"])
    assert (whole.value.status_code, whole.value.code) == (503, "engine_lost")


async def test_an_answer_that_ends_without_a_word_is_never_passed_off_as_whole(
    sdk: Sdk, owners: Owners
) -> None:
    owners.finish = None
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(sdk, ["a", "b"])
    assert caught.value.code == "answer_unfinished"
    with pytest.raises(openai.APIError) as broken:
        await stream(sdk, ["a", "b"])
    assert broken.value.code == "answer_unfinished"


async def test_a_reader_who_hangs_up_ends_the_writing_for_every_prompt(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.hang = asyncio.Event()
    async with gateway.client() as client:
        chunks = await client.completions.create(model=BASE, prompt=["a", "b", "c"], stream=True)
        await anext(aiter(chunks))
        await eventually(lambda: owners.writing == 3)
        await chunks.close()
        await eventually(lambda: owners.writing == 0)


async def test_a_caller_who_gives_up_ends_the_writing_of_an_answer_in_one_piece(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.hang = asyncio.Event()
    async with gateway.client() as client:
        call = asyncio.create_task(client.completions.create(model=BASE, prompt=["a", "b"]))
        await eventually(lambda: owners.writing == 2)
        call.cancel()
        await asyncio.wait([call])
        await eventually(lambda: owners.writing == 0)


async def test_tokens_are_counted(gateway: RunningGateway, sdk: Sdk, owners: Owners) -> None:
    def counted() -> list[float]:
        name, route = "luthier_gateway_tokens_total", "/completions"
        return [gateway.metric(name, route=route, kind=kind) for kind in ("prompt", "completion")]

    before = counted()
    await ask(sdk, ["a", "b"], n=2)
    await stream(sdk)
    assert [after - b for after, b in zip(counted(), before, strict=True)] == [15, 10]
