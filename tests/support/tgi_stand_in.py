"""A stand-in of text-generation-inference, written after its published description.

Every request and every frame of an answer is checked against that description
(tgi_openapi.json, cut from its docs/openapi.json) and read with the hub's generated types.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import jsonschema
from huggingface_hub import TextGenerationInput, TextGenerationStreamOutput
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.scripted_model import CONTEXT, END, END_TEXT, Script, byte_tokenizer

_PAGE = json.loads((Path(__file__).parent / "tgi_openapi.json").read_text(encoding="utf-8"))
_REASONS = {"stop": "stop_sequence", "end": "eos_token", "length": "length"}


def check(schema: str, value: object) -> None:
    """ValidationError when a value is not as the description has it."""
    page = _nullable(_PAGE)
    jsonschema.validate(value, {**page, "$ref": f"#/components/schemas/{schema}"})


def _nullable(page: Any) -> Any:
    """Return the description with OpenAPI's `nullable` as JSON schema says it."""
    if isinstance(page, list):
        return [_nullable(each) for each in page]
    if not isinstance(page, dict):
        return page
    found = {key: _nullable(value) for key, value in page.items() if key != "discriminator"}
    if found.pop("nullable", False) is True:
        return {"anyOf": [found, {"type": "null"}]}
    return found


class TgiStandIn:
    """Serves one base model, with the adapters it was started with."""

    def __init__(self, script: Script, adapters: Collection[str] = ()) -> None:
        self.script = script
        self.adapters = adapters
        self.inputs: list[TextGenerationInput] = []
        self._tokenizer = byte_tokenizer()
        self.app = Starlette(
            routes=[
                Route("/health", lambda _: Response()),
                Route("/info", self._info),
                Route("/", self._generate, methods=["POST"]),
            ]
        )

    async def _info(self, request: Request) -> Response:
        info = {
            "model_id": "/models/scripted",
            "max_concurrent_requests": 128,
            "max_best_of": 2,
            "max_stop_sequences": 4,
            "max_input_tokens": CONTEXT - 1,
            "max_total_tokens": CONTEXT,
            "validation_workers": 2,
            "max_client_batch_size": 4,
            "router": "text-generation-router",
            "version": "3.3.6-dev0",
        }
        check("Info", info)
        return JSONResponse(info)

    async def _generate(self, request: Request) -> Response:
        body = await request.json()
        try:
            check("CompatGenerateRequest", body)
        except jsonschema.ValidationError as error:
            return _error(422, f"Input validation error: {error.message}", "validation")
        asked = TextGenerationInput.parse_obj_as_instance(body)
        assert _extra(asked) == set(), "parameters that the hub's types do not have"
        assert asked.parameters is not None
        assert _extra(asked.parameters) == set()
        assert asked.stream
        self.inputs.append(asked)
        if self.script.full:
            self.script.full = False
            return _error(429, "Model is overloaded", "overloaded")
        tokens = len(self._tokenizer.encode(asked.inputs).ids)
        if tokens + (asked.parameters.max_new_tokens or 0) > CONTEXT:
            message = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 512"
            return _error(422, message, "validation")
        return StreamingResponse(self._frames(asked, tokens), media_type="text/event-stream")

    async def _frames(self, asked: TextGenerationInput, prompt_tokens: int) -> AsyncIterator[str]:
        parameters = asked.parameters
        assert parameters is not None
        # As the real one has it: an adapter that it does not know is none.
        who = parameters.adapter_id if parameters.adapter_id in self.adapters else None
        limit = parameters.max_new_tokens or CONTEXT - prompt_tokens
        written, count = "", 0
        async with self.script.call():
            self.script.seeds.append(parameters.seed)
            async for token, reason in self.script.write(
                asked.inputs, who or "", limit=limit, stops=parameters.stop or []
            ):
                count += 1
                text = token.decode("latin-1")
                written += text
                if self.script.broken and count == 3:
                    self.script.broken = False
                    yield _frame("ErrorResponse", _failure("broken", "generation"))
                    return
                frame: dict[str, Any] = {"index": count, "token": self._token(text)}
                if parameters.top_n_tokens:
                    frame["top_tokens"] = [self._token(text)] * parameters.top_n_tokens
                if reason:
                    frame["generated_text"] = written
                    frame["details"] = {
                        "finish_reason": _REASONS[reason],
                        "generated_tokens": count,
                        "input_length": prompt_tokens,
                        "seed": parameters.seed,
                    }
                TextGenerationStreamOutput.parse_obj_as_instance(frame)
                yield _frame("StreamResponse", frame)

    def _token(self, text: str) -> dict[str, Any]:
        (number,) = self._tokenizer.encode(text or END_TEXT).ids
        return {
            "id": number, "text": text or END_TEXT, "logprob": -0.5, "special": number == END
        }  # fmt: skip


def _frame(schema: str, value: dict[str, Any]) -> str:
    check(schema, value)
    return f"data:{json.dumps(value)}\n\n"


def _failure(message: str, kind: str) -> dict[str, Any]:
    return {"error": message, "error_type": kind}


def _error(status: int, message: str, kind: str) -> Response:
    body = _failure(message, kind)
    check("ErrorResponse", body)
    return JSONResponse(body, status)


def _extra(value: Any) -> set[str]:
    return set(vars(value)) - {field.name for field in dataclasses.fields(value)}
