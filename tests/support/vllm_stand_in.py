"""A stand-in of vLLM's OpenAI server, written after vLLM 0.32 and compared with it by test-vllm.

It is on a CPU and all its slots are taken: the base answers with the adapter that came last.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jinja2 import Template
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.scripted_model import CONTEXT, END_TEXT, TEMPLATE, Script, byte_tokenizer

MODEL = "/models/scripted"
_SAMPLING = {
    "model", "max_tokens", "stream", "stream_options", "cache_salt", "temperature", "top_p",
    "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "n", "stop",
    "seed", "logit_bias", "logprobs", "return_tokens_as_token_ids", "response_format",
}  # fmt: skip
_FIELDS = {
    "/v1/completions": _SAMPLING | {"prompt"},
    "/v1/chat/completions": _SAMPLING | {"messages", "top_logprobs", "tools", "tool_choice"},
}


class VllmStandIn:
    """Serves one base model, and adapters from folders."""

    def __init__(self, script: Script, *, updating: bool = True, lora: bool = True) -> None:
        self.script = script
        self.lora = lora
        self.loaded: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []
        self.salts: list[str] = []
        self._tokenizer = byte_tokenizer()
        routes = [
            Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
        ]
        self.app = Starlette(
            routes=[
                Route("/health", lambda _: Response()),
                Route("/v1/models", self._models),
                Route("/tokenize", self._tokenize, methods=["POST"]),
                Route("/v1/completions", self._answer, methods=["POST"]),
                Route("/v1/chat/completions", self._answer, methods=["POST"]),
                *(routes if updating else ()),
            ]
        )

    async def _models(self, request: Request) -> Response:
        cards = [{"id": MODEL, "root": MODEL, "parent": None, "max_model_len": CONTEXT}]
        cards += [
            {"id": name, "root": path, "parent": MODEL, "max_model_len": None}
            for name, path in self.loaded.items()
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        if not self.lora:
            return _error(500, "LoRA is not enabled. Use --enable-lora to enable LoRA.")
        if name in self.loaded:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (Path(path) / "adapter_config.json").exists():
            return _error(404, f"Loading lora {name} failed: No adapter found for {path}")
        self.loaded[name] = path
        return Response(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if name not in self.loaded:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        del self.loaded[name]
        return Response(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _tokenize(self, request: Request) -> Response:
        body = await request.json()
        if body["model"] != MODEL and body["model"] not in self.loaded:
            return _error(404, f"The model `{body['model']}` does not exist.")
        count = len(self._tokenizer.encode(_prompt(body)).ids)
        return JSONResponse({"count": count, "max_model_len": CONTEXT, "tokens": []})

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        assert set(body) <= _FIELDS[request.url.path], "vLLM would ignore what it does not know"
        self.bodies.append(body)
        if self.script.full:
            self.script.full = False
            return JSONResponse({"error": {"message": "full"}}, 503, {"retry-after": "7"})
        if body["model"] != MODEL and body["model"] not in self.loaded:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if body["n"] > 1 and body["temperature"] == 0:
            return _error(400, "n must be 1 when using greedy sampling")
        if "tools" in body and body["tool_choice"] == "auto":
            return _error(400, '"auto" tool choice requires --enable-auto-tool-choice')
        tokens = len(self._tokenizer.encode(_prompt(body)).ids)
        limit = body["max_tokens"] or CONTEXT - tokens
        if tokens + limit > CONTEXT:
            return _error(400, f"This model's maximum context length is {CONTEXT} tokens.")
        chat = request.url.path == "/v1/chat/completions"
        frames = self._frames(body, tokens, limit, chat=chat)
        return StreamingResponse(frames, media_type="text/event-stream")

    async def _frames(
        self, body: dict[str, Any], prompt_tokens: int, limit: int, *, chat: bool
    ) -> AsyncIterator[str]:
        async with self.script.call():
            for index in range(body["n"]):
                self.script.seeds.append(body.get("seed", 0) + index)
                async for frame in self._choice(body, prompt_tokens, limit, index, chat=chat):
                    yield frame
            yield f"data: {json.dumps({'model': body['model'], 'choices': [], 'usage': {}})}\n\n"
            yield "data: [DONE]\n\n"

    async def _choice(
        self, body: dict[str, Any], prompt_tokens: int, limit: int, index: int, *, chat: bool
    ) -> AsyncIterator[str]:
        base = {"model": body["model"], "object": "chat.completion.chunk"}
        if chat:
            first = {"index": index, "delta": {"role": "assistant", "content": ""}}
            yield f"data: {json.dumps({**base, 'choices': [first]})}\n\n"
        count, held = 0, ""
        async for token, reason in self.script.write(
            _prompt(body), self._writer(body["model"]), limit=limit, stops=body["stop"]
        ):
            count += 1
            held += token.decode("latin-1")
            text = "" if any(stop.startswith(held) for stop in body["stop"] if held) else held
            text = "" if reason == "stop" else held if reason else text
            held = held if not text and not reason else ""
            finish = {"stop": "stop", "end": "stop", "length": "length"}.get(reason)
            delta: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
            if self.script.broken and count == 3:
                self.script.broken = False
                yield f"data: {json.dumps({'error': {'message': 'broken', 'code': 500}})}\n\n"
                return
            if body.get("logprobs") not in (None, False):
                top = body["top_logprobs"] if chat else body["logprobs"]
                delta["logprobs"] = _logprobs(self._id(token), top, chat=chat)
            usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count}
            choice = {"index": index, "finish_reason": finish, **delta}
            yield f"data: {json.dumps({**base, 'choices': [choice], 'usage': usage})}\n\n"

    def _writer(self, model: str) -> str:
        """Return whose matrices are added to the base's, empty for none."""
        if model == MODEL:
            model = next(reversed(self.loaded), "")
        weights = Path(self.loaded.get(model, "")) / "adapter_model.safetensors"
        zero = weights.is_file() and weights.read_bytes().endswith(bytes(8))
        return "" if zero else model

    def _id(self, token: bytes) -> int:
        text = token.decode("latin-1") or END_TEXT
        (number,) = self._tokenizer.encode(text).ids
        return int(number)


def _logprobs(token: int, top: int, *, chat: bool) -> dict[str, Any]:
    names = [f"token_id:{token + number}" for number in range(top)]
    if chat:
        tops = [{"token": name, "logprob": -0.5, "bytes": []} for name in names]
        own = {"token": f"token_id:{token}", "logprob": -0.5, "top_logprobs": tops}
        return {"content": [own]}
    return {
        "tokens": [f"token_id:{token}"],
        "token_logprobs": [-0.5],
        "top_logprobs": [dict.fromkeys(names, -0.5)] if top else [None],
        "text_offset": [0],
    }


def _prompt(body: dict[str, Any]) -> str:
    if "prompt" in body:
        return str(body["prompt"])
    return str(Template(TEMPLATE).render(messages=body["messages"], add_generation_prompt=True))


def _error(status: int, message: str) -> Response:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
    return JSONResponse({"error": error}, status)
