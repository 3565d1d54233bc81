"""Asking a model many questions at once, and one question as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from openai import AsyncOpenAI

_IN_FLIGHT = 32
_MAX_TOKENS = 64


async def ask_all(
    client: AsyncOpenAI, model: str, prompts: Sequence[str], answered: Callable[[], object]
) -> list[str]:
    """Return the answers in order; `answered` is called after each one."""
    free = asyncio.Semaphore(_IN_FLIGHT)

    async def ask(prompt: str) -> str:
        async with free:
            completion = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=_MAX_TOKENS,
            )
        answered()
        return completion.choices[0].message.content or ""

    return await asyncio.gather(*(ask(prompt) for prompt in prompts))


async def stream_answer(client: AsyncOpenAI, model: str, prompt: str) -> AsyncIterator[str]:
    """Yield the pieces of one answer as they come."""
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        temperature=0,
        max_tokens=_MAX_TOKENS,
        stream=True,
    )
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content
