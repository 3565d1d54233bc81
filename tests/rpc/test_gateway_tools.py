"""Tools of chat completions through the official SDK: offered, called, answered."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from luthier.inference.v1 import generation_pb2, generation_service_pb2
from luthier.inference.v1.generation_pb2 import ToolChoice
from luthier_common.errors import InvalidArgument

from tests.support.gateway import RunningGateway
from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Ask = generation_service_pb2.StreamChatRequest
BASE = "luthier-starter"
HELLO: Any = [{"role": "user", "content": "Weather in Bern?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Größe und Wetter",
        "parameters": SCHEMA,
        "strict": True,
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
CALLS = (
    generation_pb2.ToolCall(id="call-1", name="get_weather", arguments='{"city": "Bern"}'),
    generation_pb2.ToolCall(id="call-2", name="clock", arguments="{}"),
)


async def ask(sdk: Sdk, **given: Any) -> Any:
    values = {"model": BASE, "messages": HELLO, "tools": [WEATHER, CLOCK]} | given
    return await sdk(lambda c: c.chat.completions.create(**values))


async def stream(sdk: Sdk, **given: Any) -> list[Any]:
    values = {"model": BASE, "messages": HELLO, "tools": [WEATHER, CLOCK], "stream": True} | given
    return await sdk.all(lambda c: c.chat.completions.create(**values))


async def test_tools_reach_the_owner(sdk: Sdk, owners: Owners) -> None:
    await ask(sdk)
    request = owners.last(Ask)
    weather, clock = request.tools
    assert (weather.name, weather.description) == ("get_weather", "Größe und Wetter")
    assert json.loads(weather.parameters_schema) == SCHEMA
    assert clock == generation_pb2.Tool(name="clock")
    assert not request.HasField("tool_choice")


@pytest.mark.parametrize(
    ("given", "mode", "name"),
    [
        ("none", ToolChoice.NONE, ""),
        ("auto", ToolChoice.AUTO, ""),
        ("required", ToolChoice.REQUIRED, ""),
        ({"type": "function", "function": {"name": "clock"}}, ToolChoice.REQUIRED, "clock"),
    ],
)
async def test_the_choice_of_tools_reaches_the_owner(
    sdk: Sdk, owners: Owners, given: Any, mode: ToolChoice.Mode, name: str
) -> None:
    await ask(sdk, tool_choice=given)
    assert owners.last(Ask).tool_choice == ToolChoice(mode=mode, name=name)


async def test_calls_are_told_in_a_message(sdk: Sdk, owners: Owners) -> None:
    owners.answer, owners.tool_calls = (), CALLS
    (choice,) = (await ask(sdk)).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    told = [
        (one.id, one.type, one.function.name, one.function.arguments)
        for one in choice.message.tool_calls
    ]
    assert told == [
        ("call-1", "function", "get_weather", '{"city": "Bern"}'),
        ("call-2", "function", "clock", "{}"),
    ]
    owners.answer = ("Let me ", "look.")
    (choice,) = (await ask(sdk)).choices
    assert (choice.message.content, len(choice.message.tool_calls)) == ("Let me look.", 2)
    owners.tool_calls = ()
    assert (await ask(sdk)).choices[0].message.tool_calls is None


async def test_calls_are_told_in_a_stream_by_index(sdk: Sdk, owners: Owners) -> None:
    owners.tool_calls = CALLS
    chunks = await stream(sdk, n=2)
    for index in range(2):
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        *_, first, second, end = mine
        (weather,), (clock,) = first.delta.tool_calls, second.delta.tool_calls
        assert (weather.index, weather.id, weather.type) == (0, "call-1", "function")
        assert weather.function.name == "get_weather"
        assert json.loads(weather.function.arguments) == {"city": "Bern"}
        assert (clock.index, clock.id, clock.function.name) == (1, "call-2", "clock")
        assert (end.delta.tool_calls, end.finish_reason) == (None, "tool_calls")
        assert {choice.finish_reason for choice in mine[:-1]} == {None}


async def test_the_sdks_own_collector_understands_the_stream(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.answer, owners.tool_calls = ("One ", "moment."), CALLS
    async with (
        gateway.client() as client,
        client.chat.completions.stream(
            model=BASE, messages=HELLO, tools=[WEATHER, CLOCK]
        ) as events,
    ):
        completion = await events.get_final_completion()
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("One moment.", "tool_calls")
    calls = choice.message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather", "clock"]


async def test_calls_that_may_not_be_parallel_are_one(sdk: Sdk, owners: Owners) -> None:
    owners.tool_calls = CALLS
    (choice,) = (await ask(sdk, parallel_tool_calls=False)).choices
    assert [call.id for call in choice.message.tool_calls] == ["call-1"]
    chunks = await stream(sdk, parallel_tool_calls=False)
    told = [call.id for one in chunks for call in one.choices[0].delta.tool_calls or ()]
    assert told == ["call-1"]


async def test_a_conversation_with_calls_goes_on(sdk: Sdk, owners: Owners) -> None:
    call = {"id": "call-1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-1", "content": "noon"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-1", "content": [{"type": "text", "text": "noon"}]},
    ]
    await ask(sdk, messages=messages)
    _, called, told, *rest = owners.last(Ask).messages
    sent = generation_pb2.ToolCall(id="call-1", name="clock", arguments="{}")
    assert called == generation_pb2.ChatMessage(role="assistant", tool_calls=[sent])
    assert told == generation_pb2.ChatMessage(role="tool", content="noon", tool_call_id="call-1")
    assert rest == [called, told]


async def test_an_answer_can_be_sent_back_as_it_came(sdk: Sdk, owners: Owners) -> None:
    owners.answer, owners.tool_calls = (), CALLS
    message = (await ask(sdk)).choices[0].message
    answers = [
        {"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in message.tool_calls
    ]
    await ask(sdk, messages=[*HELLO, message, *answers])
    assert list(owners.last(Ask).messages[1].tool_calls) == list(CALLS)


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type"),
        ({"tools": [WEATHER, {"type": "function"}]}, "tools.1.function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "x" * 65}}]},
            "tools.0.function.name",
        ),
        ({"tools": [CLOCK] * 129}, "tools"),
        ({"tool_choice": "sometimes"}, "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "tool", "tool_call_id": "c"}]}, "messages.0.content"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "function"}]}]},
            "messages.0.tool_calls.0.function",
        ),
    ],
)
async def test_what_is_wrong_with_tools_is_named(
    sdk: Sdk, owners: Owners, changed: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, **changed)
    assert caught.value.param == param
    assert not any(isinstance(request, Ask) for request in owners.requests)


async def test_what_the_owner_refuses_is_named_as_openai_names_it(sdk: Sdk, owners: Owners) -> None:
    owners.failures[Ask] = InvalidArgument(
        "tools[0].parameters_schema is no JSON schema",
        reason="INVALID_SCHEMA",
        field="tools[0].parameters_schema",
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk)
    assert caught.value.param == "tools.0.function.parameters"
    assert caught.value.message.endswith("- tools.0.function.parameters is no JSON schema")
