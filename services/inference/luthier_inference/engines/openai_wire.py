"""Requests and answers as an OpenAI server has them; here for servers that we ask.

Written against vLLM 0.32 (vllm/entrypoints/openai), with what it adds to OpenAI's parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from luthier.inference.v1.engine_service_pb2 import GenerateRequest, GenerateResponse
from luthier.inference.v1.generation_pb2 import (
    ChatMessage,
    Finish,
    SamplingParameters,
    Token,
    Tool,
    ToolCall,
    ToolChoice,
)
from luthier_common.errors import Unavailable

_TOKEN_ID = "token_id:"
_SEEDS = 2**63  # vLLM takes -1 for no seed
_REASONS = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "tool_calls": Finish.TOOL_CALLS,
}


def is_greedy(sampling: SamplingParameters) -> bool:
    """Whether the likeliest token is always taken."""
    return sampling.HasField("temperature") and sampling.temperature == 0


def body_of(
    request: GenerateRequest, model: str, max_tokens: int | None
) -> tuple[str, dict[str, Any]]:
    """Return path and body of the request; answers come as a stream."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": max_tokens,
        "stream": True,
        # Of each answer, not only of all of them together at the end.
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        # The server's prefix cache is not shared between projects.
        "cache_salt": hashlib.sha256(request.parent.encode()).hexdigest(),
        **_sampling(request.sampling),
    }
    if request.text:
        if request.sampling.logprobs:
            body |= {"logprobs": request.sampling.top_logprobs}
        return "/v1/completions", body | {"prompt": request.text}
    if request.sampling.logprobs:
        body |= {"logprobs": True, "top_logprobs": request.sampling.top_logprobs}
    body |= {"messages": [_message(message) for message in request.messages]}
    return "/v1/chat/completions", body | _tools(request.tools, request.tool_choice)


def count_body_of(request: GenerateRequest, model: str) -> dict[str, Any]:
    """Return the body of the request that asks how many tokens the prompt has."""
    if request.text:
        return {"model": model, "prompt": request.text}
    body = {"model": model, "messages": [_message(message) for message in request.messages]}
    tools = _tools(request.tools, request.tool_choice)
    return body | {"tools": tools["tools"]} if tools else body


def _sampling(sampling: SamplingParameters) -> dict[str, Any]:
    # All of them are said: what is not, vLLM takes from the model's generation_config.json.
    set_ones = sampling.HasField
    body: dict[str, Any] = {
        "temperature": sampling.temperature if set_ones("temperature") else 1.0,
        "top_p": sampling.top_p if set_ones("top_p") else 1.0,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": (
            sampling.repetition_penalty if set_ones("repetition_penalty") else 1.0
        ),
        # vLLM refuses several greedy answers; they are all the same one.
        "n": 1 if is_greedy(sampling) else sampling.answer_count or 1,
        "stop": list(sampling.stop),
    }
    if set_ones("seed"):
        body["seed"] = sampling.seed % _SEEDS
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.logprobs:
        body["return_tokens_as_token_ids"] = True
    match sampling.format.WhichOneof("kind"):
        case "json_object":
            body["response_format"] = {"type": "json_object"}
        case "json_schema":
            schema = {"name": "answer", "schema": json.loads(sampling.format.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _message(message: ChatMessage) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        told["content"] = message.content or None
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    return told


def _tools(tools: Sequence[Tool], choice: ToolChoice) -> dict[str, Any]:
    if not tools or choice.mode == ToolChoice.NONE:
        return {}
    told = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": json.loads(tool.parameters_schema or '{"type": "object"}'),
            },
        }
        for tool in tools
    ]
    wanted: object = "required" if choice.mode == ToolChoice.REQUIRED else "auto"
    if choice.name:
        wanted = {"type": "function", "function": {"name": choice.name}}
    return {"tools": told, "tool_choice": wanted}


class Answers:
    """Reads the chunks of a stream; several greedy answers are one, told as often as asked for."""

    def __init__(
        self, request: GenerateRequest, adapter_digest: str, token_bytes: Callable[[int], bytes]
    ) -> None:
        self._digest = adapter_digest
        self._token_bytes = token_bytes
        sampling = request.sampling
        self._copies = (sampling.answer_count or 1) if is_greedy(sampling) else 1
        self._calls: defaultdict[int, dict[int, ToolCall]] = defaultdict(dict)

    def read(self, chunk: dict[str, Any]) -> Iterator[GenerateResponse]:
        """Yield what a chunk tells; Unavailable when the server has given an answer up."""
        for choice in chunk.get("choices", ()):
            response = self._response(choice, chunk.get("usage") or {})
            if response.text or response.tokens or response.HasField("finish"):
                yield response
                for copy in range(1, self._copies):
                    response.answer_index = copy
                    yield response

    def _response(self, choice: dict[str, Any], usage: dict[str, int]) -> GenerateResponse:
        delta = choice.get("delta", choice)
        for call in delta.get("tool_calls") or ():
            self._collect(choice["index"], call)
        response = GenerateResponse(
            text=delta.get("content") or delta.get("text") or "",
            adapter_digest=self._digest,
            answer_index=choice["index"],
            tokens=self._tokens(choice.get("logprobs") or {}),
        )
        if choice.get("finish_reason"):
            response.finish.CopyFrom(self._finish(choice, usage))
        return response

    def _finish(self, choice: dict[str, Any], usage: dict[str, int]) -> Finish:
        calls = self._calls.pop(choice["index"], {})
        reason = _REASONS.get(choice["finish_reason"])
        if reason is None:
            why = f"the engine ended the answer: {choice['finish_reason']}"
            raise Unavailable(why, reason="ENGINE_LOST")
        if reason == Finish.LENGTH:
            calls = {}  # cut off, they are no calls
        return Finish(
            # Tools that had to be called end with `stop`.
            reason=Finish.TOOL_CALLS if calls else reason,
            prompt_tokens=usage.get("prompt_tokens", 0),
            completion_tokens=usage.get("completion_tokens", 0),
            tool_calls=[calls[index] for index in sorted(calls)],
        )

    def _collect(self, answer: int, call: dict[str, Any]) -> None:
        collected = self._calls[answer].setdefault(call["index"], ToolCall())
        function = call.get("function") or {}
        collected.id = collected.id or call.get("id") or ""
        collected.name += function.get("name") or ""
        collected.arguments += function.get("arguments") or ""

    def _tokens(self, logprobs: dict[str, Any]) -> list[Token]:
        if "content" in logprobs:
            told = [
                (each["token"], each["logprob"], _pairs(each["top_logprobs"]))
                for each in logprobs["content"] or ()
            ]
        else:
            tops = logprobs.get("top_logprobs") or [None] * len(logprobs.get("tokens", ()))
            told = [
                (token, logprob, list((top or {}).items()))
                for token, logprob, top in zip(
                    logprobs.get("tokens", ()),
                    logprobs.get("token_logprobs", ()),
                    tops,
                    strict=True,
                )
            ]
        return [
            self._token(token, logprob, [self._token(*each, []) for each in top])
            for token, logprob, top in told
        ]

    def _token(self, name: str, logprob: float | None, top: list[Token]) -> Token:
        token = int(name.removeprefix(_TOKEN_ID))
        return Token(id=token, text=self._token_bytes(token), logprob=logprob or 0.0, top=top)


def _pairs(top: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(each["token"], each["logprob"]) for each in top]
