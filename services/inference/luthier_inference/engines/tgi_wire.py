"""Requests as text-generation-inference has them (its docs/openapi.json, 3.3)."""

from __future__ import annotations

import functools
import json
import ssl
from typing import Any

import httpx2
from huggingface_hub import TextGenerationInputGrammarType
from luthier.inference.v1.engine_service_pb2 import GenerateRequest
from luthier.inference.v1.generation_pb2 import SamplingParameters, ToolChoice
from luthier_common.errors import InvalidArgument

_JSON_OBJECT = {"type": "object"}
_SEEDS = 2**63 - 1  # from 1 on


def parameters_of(request: GenerateRequest) -> dict[str, Any]:
    """Return the parameters by name; InvalidArgument for what the server has not."""
    _check_known(request)
    sampling = request.sampling
    greedy = sampling.HasField("temperature") and sampling.temperature == 0
    top_p = sampling.top_p if sampling.HasField("top_p") else 1.0
    return {
        "adapter_id": request.adapter.digest or None,
        "do_sample": not greedy,
        "temperature": sampling.temperature or None,
        "top_p": top_p if top_p < 1 else None,
        "top_k": sampling.top_k or None,
        "seed": sampling.seed % _SEEDS + 1 if sampling.HasField("seed") else None,
        "stop": list(sampling.stop) or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        "repetition_penalty": sampling.repetition_penalty or None,
        "top_n_tokens": sampling.top_logprobs or None,
        "grammar": _grammar(sampling),
        "return_full_text": False,
    }


def seeded(parameters: dict[str, Any], index: int) -> dict[str, Any]:
    """Return the parameters of one of several answers, with a seed of its own."""
    seed = parameters["seed"]
    return parameters if seed is None else parameters | {"seed": (seed - 1 + index) % _SEEDS + 1}


def _check_known(request: GenerateRequest) -> None:
    sampling = request.sampling
    unknown = {
        "tools": bool(request.tools) and request.tool_choice.mode != ToolChoice.NONE,
        "sampling.min_p": bool(sampling.min_p),
        "sampling.presence_penalty": bool(sampling.presence_penalty),
        "sampling.logit_bias": bool(sampling.logit_bias),
    }
    for field, given in unknown.items():
        if given:
            raise InvalidArgument(
                f"{field}: this model is served by text-generation-inference, which does not know "
                "it; leave it out",
                reason="NOT_KNOWN_TO_ENGINE",
                field=field,
            )


def _grammar(sampling: SamplingParameters) -> TextGenerationInputGrammarType | None:
    match sampling.format.WhichOneof("kind"):
        case "json_object":
            return TextGenerationInputGrammarType(type="json", value=_JSON_OBJECT)
        case "json_schema":
            schema = json.loads(sampling.format.json_schema)
            return TextGenerationInputGrammarType(type="json", value=schema)
    return None


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _read_refusal(response: httpx2.Response) -> None:
    if response.is_error:
        await response.aread()  # of a stream nobody else can


def new_client() -> httpx2.AsyncClient:
    """Return the client of one call; the hub's own loads certificates for each."""
    return httpx2.AsyncClient(
        verify=_tls(),
        trust_env=False,
        timeout=httpx2.Timeout(600.0, connect=2.0),
        event_hooks={"response": [_read_refusal]},
    )
