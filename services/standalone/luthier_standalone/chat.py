"""`luthier chat`: questions typed, answers streamed."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from luthier_common.errors import FailedPrecondition
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from luthier_standalone.data_dir import Connection


def converse(
    connection: Connection, model: str | None, prompt: str | None, console: Console
) -> None:
    """Answer one prompt, or every line of stdin as one conversation.

    FailedPrecondition if no model is named and the platform has none.
    """
    name = model or next(iter(connection.models), None)
    if name is None:
        raise FailedPrecondition(
            "the platform has no model: `luthier models import PATH --id ID`", reason="NO_MODEL"
        )
    messages: list[ChatCompletionMessageParam] = []
    with OpenAI(base_url=connection.rest, api_key=connection.api_key) as client:
        for text in [prompt] if prompt is not None else _typed(console):
            messages.append({"role": "user", "content": text})
            answer = _stream(client, name, messages, console)
            messages.append({"role": "assistant", "content": answer})


def _stream(
    client: OpenAI, model: str, messages: list[ChatCompletionMessageParam], console: Console
) -> str:
    """Print an answer as it comes; return it whole."""
    pieces = []
    # Greedy: the same question gets the same answer, and a small model its best one.
    stream = client.chat.completions.create(
        model=model, messages=messages, temperature=0, stream=True
    )
    with stream:
        for chunk in stream:
            for choice in chunk.choices:
                piece = choice.delta.content or ""
                pieces.append(piece)
                console.print(piece, end="", markup=False, soft_wrap=True)
    console.print()
    return "".join(pieces)


def _typed(console: Console) -> Iterator[str]:
    """Yield lines until the end of input or Ctrl-C; a prompt is shown to people only."""
    while True:
        if sys.stdin.isatty():
            console.print("> ", end="")
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            return
        if not line:
            return
        if line.strip():
            yield line.strip()
