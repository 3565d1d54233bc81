"""A client of OpenAI's `/v1/completions`, the same for every server."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from benchmarks.inference.materials import Prompt
from benchmarks.inference.turns import Written

_SECONDS = 600.0


@dataclass(frozen=True)
class Door:
    """Where a server is, and what it calls its models."""

    url: str
    key: str
    base: str
    adapters: list[str]

    def client(self) -> httpx2.AsyncClient:
        """Return a client with connections of its own."""
        return httpx2.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {self.key}"},
            timeout=_SECONDS,
            trust_env=False,
        )


@dataclass(frozen=True)
class Streamed:
    """An answer that came as a stream."""

    first: float
    """Seconds from the request to the first text."""
    tokens: int


@dataclass(frozen=True)
class Load:
    """What a round of requests came to."""

    speed: float
    """Tokens a second, of all connections together."""
    first: float
    """Seconds to the first token, the median of the requests."""


async def stream(client: httpx2.AsyncClient, model: str, prompt: Prompt, count: int) -> Streamed:
    """Ask for so many tokens, greedily; AssertionError when others come."""
    body = _body(model, prompt, count) | {
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start, first, tokens = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.is_error:
            raise AssertionError((await response.aread()).decode())
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise AssertionError(chunk["error"])
            if not first and any(choice["text"] for choice in chunk["choices"]):
                first = time.perf_counter() - start
            tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    if tokens != count or not first:
        raise AssertionError(f"{model} has written {tokens} tokens instead of {count}")
    return Streamed(first, tokens)


async def load(
    door: Door, models: Sequence[str], source: Iterator[Prompt], requests: int, count: int
) -> Load:
    """Ask each model on a connection of its own, so many times one after the other."""

    async def connection(model: str, asked: Sequence[Prompt]) -> list[Streamed]:
        async with door.client() as client:
            return [await stream(client, model, prompt, count) for prompt in asked]

    asked = [[next(source) for _ in range(requests)] for _ in models]
    start = time.perf_counter()
    found = await asyncio.gather(*map(connection, models, asked))
    seconds = time.perf_counter() - start
    answers = [answer for answers in found for answer in answers]
    return Load(
        sum(answer.tokens for answer in answers) / seconds,
        statistics.median(answer.first for answer in answers),
    )


async def written(
    door: Door, models: Sequence[str], prompts: Sequence[Prompt], count: int
) -> list[Written]:
    """Ask each model a prompt, all at once, and return what they write, and how clearly."""

    async def ask(client: httpx2.AsyncClient, model: str, prompt: Prompt) -> Written:
        body = _body(model, prompt, count) | {"logprobs": 2}
        answer = (await client.post("/v1/completions", json=body)).raise_for_status().json()
        told: dict[str, Any] = answer["choices"][0]["logprobs"]
        best = [sorted(one.values(), reverse=True) for one in told["top_logprobs"]]
        return Written(told["tokens"], [one[0] - one[1] for one in best])

    async with door.client() as client:
        asked = zip(models, prompts, strict=True)
        return list(await asyncio.gather(*(ask(client, *pair) for pair in asked)))


def _body(model: str, prompt: Prompt, count: int) -> dict[str, Any]:
    return {"model": model, "prompt": prompt.text, "max_tokens": count, "temperature": 0}
