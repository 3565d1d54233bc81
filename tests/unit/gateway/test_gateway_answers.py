import json
from typing import Any

import pytest
from luthier.inference.v1.generation_pb2 import Finish, Token, ToolCall
from luthier.inference.v1.generation_service_pb2 import StreamChatResponse, StreamCompleteResponse
from luthier_common.errors import Internal
from luthier_gateway.openai.chat_request import ChatRequest
from luthier_gateway.openai.chat_views import ChatAnswers
from luthier_gateway.openai.completion_request import CompletionRequest
from luthier_gateway.openai.completion_views import CompletionAnswers

DIGEST = "d" * 64


def chat(**given: Any) -> ChatAnswers:
    messages: Any = [{"role": "user", "content": "x"}]
    return ChatAnswers(ChatRequest(model="m", messages=messages, **given), DIGEST)


def completion(**given: Any) -> CompletionAnswers:
    values: dict[str, Any] = {"model": "m", "prompt": ["x"]} | given
    return CompletionAnswers(CompletionRequest(**values), DIGEST)


def deltas(answers: ChatAnswers, piece: StreamChatResponse) -> list[dict[str, Any]]:
    return [chunk["choices"][0] for chunk in answers.chunks(0, piece)]


def test_a_last_piece_with_everything_in_it_loses_nothing() -> None:
    piece = StreamChatResponse(
        text="lo",
        tokens=[Token(text=b"lo", logprob=-1)],
        finish=Finish(
            reason=Finish.TOOL_CALLS, tool_calls=[ToolCall(id="c", name="f", arguments="{}")]
        ),
    )
    text, call, end = deltas(chat(logprobs=True), piece)
    assert (text["delta"], text["finish_reason"]) == ({"content": "lo"}, None)
    assert text["logprobs"]["content"][0]["token"] == "lo"
    assert call["delta"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert (end["delta"], end["finish_reason"]) == ({}, "tool_calls")


def test_a_piece_with_nothing_in_it_is_no_chunk() -> None:
    assert deltas(chat(), StreamChatResponse()) == []


def test_tokens_without_text_are_told_too() -> None:
    (held_back,) = deltas(chat(logprobs=True), StreamChatResponse(tokens=[Token(text=b"E")]))
    assert held_back["delta"] == {"content": ""}
    assert held_back["logprobs"]["content"][0]["bytes"] == [0x45]


def test_the_end_token_has_no_text() -> None:
    tokens = [Token(text=b"a", logprob=-1), Token(text=b"", logprob=-2)]
    (chunk,) = completion(logprobs=0).chunks(0, StreamCompleteResponse(tokens=tokens))
    told = chunk["choices"][0]["logprobs"]
    assert (told["tokens"], told["text_offset"]) == (["a", ""], [0, 1])


@pytest.mark.parametrize("impossible", [float("-inf"), -1e30, float("nan")])
def test_every_log_probability_is_a_number_of_json(impossible: float) -> None:
    piece = StreamChatResponse(tokens=[Token(text=b"a", logprob=impossible)])
    (chunk,) = chat(logprobs=True).chunks(0, piece)
    assert json.loads(json.dumps(chunk, allow_nan=False)) == chunk
    assert chunk["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999


def test_each_prompt_counts_once_and_each_answer_for_itself() -> None:
    answers = completion(prompt=["a", "b"], n=2)
    for index in (3, 0, 2, 1):
        piece = StreamCompleteResponse(
            base_model_digest=DIGEST,
            finish=Finish(
                prompt_tokens=10 * (index // 2 + 1),
                completion_tokens=index,
                # The second answer to a prompt finds the first one's.
                cached_prompt_tokens=index % 2 * 10 + 1,
            ),
        )
        with pytest.raises(Internal):
            answers.check_finished()
        answers.hear(index, piece)
    answers.check_finished()
    assert answers.usage() == {
        "prompt_tokens": 30,
        "completion_tokens": 6,
        "total_tokens": 36,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


def test_an_adapter_that_is_asked_is_not_answered_for_by_its_base() -> None:
    answers = chat()
    with pytest.raises(Internal):
        answers.hear(0, StreamChatResponse(base_model_digest="b" * 64))
    with pytest.raises(Internal):
        answers.hear(0, StreamChatResponse(base_model_digest=DIGEST, adapter_digest="a" * 64))
    answers.hear(0, StreamChatResponse(base_model_digest="b" * 64, adapter_digest=DIGEST))
