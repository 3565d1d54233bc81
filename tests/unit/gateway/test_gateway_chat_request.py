from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luthier_common.errors import PlatformError
from luthier_gateway.openai.chat_request import ChatRequest
from luthier_gateway.openai.job_request import JobRequest
from pydantic import ValidationError

HELLO = [{"role": "user", "content": "Hello"}]


def request(**values: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": HELLO} | values)


def refused(**values: Any) -> str:
    """Return where a request is wrong."""
    with pytest.raises(ValidationError) as caught:
        request(**values)
    return ".".join(str(step) for step in caught.value.errors()[0]["loc"])


def test_a_plain_request_says_nothing_about_sampling() -> None:
    proto = request().to_proto("projects/acme", "projects/acme/baseModels/m")
    assert proto.parent == "projects/acme"
    assert proto.model == "projects/acme/baseModels/m"
    assert not proto.sampling.ListFields()
    assert not proto.HasField("tool_choice")


@pytest.mark.parametrize("name", ["temperature", "seed"])
def test_zero_is_a_value(name: str) -> None:
    assert request(**{name: 0}).sampling().HasField(name)


def test_null_is_the_same_as_left_out() -> None:
    given = set(ChatRequest.model_fields) - {"model", "messages"}
    nothing = dict.fromkeys((*given, "audio", "functions", "nobody_knows"))
    whole = request(**nothing)
    whole.check()
    assert whole.to_proto("p", "m") == request().to_proto("p", "m")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "hot", 2.01, -0.01])
def test_no_other_value_is_a_temperature(value: Any) -> None:
    assert refused(temperature=value) == "temperature"


@pytest.mark.parametrize(
    "content",
    [
        None,
        3,
        {"type": "text", "text": "x"},
        [{"type": "image_url"}],
        [{"type": "text"}],
        ["text"],
        [{"type": "text", "text": None}],
        "\ud83d",
        [{"type": "text", "text": "\ud83d"}],
    ],
)
def test_only_text_is_content(content: Any) -> None:
    assert refused(messages=[{"role": "user", "content": content}]) == "messages.0.content"


def test_parts_of_text_are_joined_and_none_are_nothing() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    joined = request(messages=[{"role": "user", "content": parts}, {"role": "user", "content": []}])
    assert [message.content for message in joined.messages] == ["ab", ""]


@pytest.mark.parametrize("content", [None, "", []])
def test_who_calls_tools_need_not_say_anything(content: Any) -> None:
    call = {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": content, "tool_calls": [call]}
    (proto,) = request(messages=[message]).to_proto("p", "m").messages
    assert (proto.content, proto.tool_calls[0].name) == ("", "f")


@pytest.mark.parametrize("part", ["function_call", "audio"])
def test_a_part_of_an_answer_that_would_be_lost_is_refused(part: str) -> None:
    message = {"role": "assistant", "content": "x", part: {"id": "a", "name": "f"}}
    assert refused(messages=[message]) == f"messages.0.{part}"
    assert request(messages=[message | {part: None}]).messages[0].content == "x"


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"not": found}
    return found


@pytest.mark.parametrize(
    "schema", ["{}", [], True, {"const": float("nan")}, {"const": "\ud83d"}, nested(100_000)]
)
def test_what_is_no_schema_is_refused_where_it_stands(schema: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert refused(response_format=form) == "response_format.json_schema.schema"
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert refused(tools=[tool]) == "tools.0.function.parameters"


@given(st.dictionaries(st.integers(0, 2**31 - 1), st.integers(-100, 100), max_size=5))
def test_biases_are_by_token(biases: dict[int, int]) -> None:
    given = {str(token): bias for token, bias in biases.items()}
    assert dict(request(logit_bias=given).sampling().logit_bias) == biases


@pytest.mark.parametrize(
    ("name", "value", "fine"),
    [
        ("modalities", ["text"], True),
        ("modalities", ["audio"], False),
        ("functions", [], True),
        ("functions", [{}], False),
        ("function_call", "auto", True),
        ("function_call", {"name": "f"}, False),
        ("moderation", {"mode": "block"}, False),
        ("user", "anybody", True),
        ("nobody_knows", {"a": [1]}, True),
    ],
)
def test_a_field_that_is_not_offered_may_only_ask_for_nothing(
    name: str, value: Any, fine: bool
) -> None:
    whole = request(**{name: value})
    if fine:
        whole.check()
        return
    with pytest.raises(PlatformError) as caught:
        whole.check()
    assert (caught.value.field, caught.value.reason) == (name, "UNSUPPORTED_PARAMETER")


def test_hyperparameters_of_the_method_go_before_the_older_ones() -> None:
    both = JobRequest.model_validate(
        {
            "model": "m",
            "training_file": "file-1",
            "hyperparameters": {"n_epochs": 1},
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        }
    )
    sent = both.to_proto("acme", "projects/acme/baseModels/m").supervised.hyperparameters
    assert sent.epoch_count == 2


@pytest.mark.parametrize("supervised", [None, {}, {"hyperparameters": None}])
def test_a_method_that_says_nothing_leaves_the_older_ones(supervised: Any) -> None:
    older = JobRequest.model_validate(
        {
            "model": "m",
            "training_file": "file-1",
            "hyperparameters": {"n_epochs": 1, "batch_size": "auto"},
            "method": {"type": "supervised", "supervised": supervised},
        }
    )
    sent = older.to_proto("acme", "projects/acme/baseModels/m").supervised.hyperparameters
    assert sent.epoch_count == 1
    assert not sent.HasField("batch_size")
