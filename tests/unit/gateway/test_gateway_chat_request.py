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
    (proto,) = request().to_protos("projects/acme", "projects/acme/baseModels/m")
    assert proto.parent == "projects/acme"
    assert proto.model == "projects/acme/baseModels/m"
    assert not proto.sampling.ListFields()


def test_zero_is_a_temperature() -> None:
    sampling = request(temperature=0).to_protos("p", "m")[0].sampling
    assert sampling.HasField("temperature")


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 16))
def test_every_answer_has_a_seed_of_its_own_that_fits(seed: int, n: int) -> None:
    protos = request(seed=seed, n=n).to_protos("p", "m")
    seeds = [proto.sampling.seed for proto in protos]
    assert seeds[0] == seed
    assert len(set(seeds)) == n


def test_without_a_seed_there_is_none_for_any_answer() -> None:
    assert not any(proto.sampling.HasField("seed") for proto in request(n=3).to_protos("p", "m"))


def test_null_is_the_same_as_left_out() -> None:
    nothing = dict.fromkeys(
        ("max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream", "tools")
    )
    whole = request(**nothing)
    whole.check()
    assert whole.to_protos("p", "m") == request().to_protos("p", "m")


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


@pytest.mark.parametrize(
    ("name", "value", "fine"),
    [
        ("logprobs", False, True),
        ("logprobs", True, False),
        ("presence_penalty", 0.0, True),
        ("presence_penalty", 0.1, False),
        ("response_format", {"type": "text"}, True),
        ("response_format", {"type": "json_schema"}, False),
        ("tools", [], True),
        ("functions", [{}], False),
        ("tool_choice", "none", True),
        ("tool_choice", {"type": "function"}, False),
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
