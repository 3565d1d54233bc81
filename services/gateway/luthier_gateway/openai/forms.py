"""Forms (RFC 7578) read as they come in: a file goes on its way before it is here whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, TypeVar

from luthier_common.errors import PlatformError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from luthier_gateway.openai.errors import invalid

_PIECE_BYTES = 512 * 1024
_MEMORY_BYTES = 1024 * 1024
_MOST_PARTS, _LONGEST_FIELD = 9, 64 * 1024
_AHEAD = 4
"""Pieces that have come in and wait to go on."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Head:
    """The beginning of a part."""

    name: str
    filename: str | None


class Form:
    """The fields of a form and its one file."""

    def __init__(self, request: Request, file: str) -> None:
        """`file`: name of the part that holds the file."""
        self.filename = ""
        """Of the file, once its part has begun."""
        self._file = file
        self._fields: dict[str, bytearray] = {}
        self._parts = 0
        self._reading: bytearray | None = None
        self._stream = request.stream()
        self._events = self._read(request.headers.get("content-type", ""))
        self._spool: IO[bytes] | None = None

    def get(self, field: str) -> str | None:
        """Return a field that has come in, None if it has not."""
        data = self._fields.get(field)
        return None if data is None else data.decode(errors="replace")

    def names(self) -> Collection[str]:
        """Return the names of the fields that have come in."""
        return self._fields.keys()

    async def open(self, needs: Collection[str]) -> None:
        """Read on to the file, and past it if a field that is needed stands behind it."""
        while not self.filename and (event := await anext(self._events, None)) is not None:
            self._take(event)
        if self.filename and not set(needs) <= self._fields.keys():
            self._spool = SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115
            async for piece in self._live():
                await asyncio.to_thread(self._spool.write, piece)
            self._spool.seek(0)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the file; at the end, all fields have come in. InvalidArgument if it breaks off."""
        if self._spool is None:
            async for piece in self._live():
                yield piece
        else:
            while piece := await asyncio.to_thread(self._spool.read, _PIECE_BYTES):
                yield piece

    def missing(self) -> PlatformError:
        """Return the refusal of a form without its file."""
        return invalid(
            f"{self._file} is required: a part of the form with a file name",
            self._file,
            reason="MISSING_REQUIRED_PARAMETER",
        )

    async def drain(self) -> None:
        """Read what is left: a caller who still sends may not see an answer."""
        async for _ in self._stream:
            pass

    def close(self) -> None:
        """Let go of what was kept on disk."""
        if self._spool is not None:
            self._spool.close()

    async def _read(self, content_type: str) -> AsyncIterator[_Head | bytes]:
        """Yield the head of each part, then its data."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise invalid("the body must be a form: multipart/form-data", self._file)
        collector = _Collector()
        try:
            parser = MultipartParser(options[b"boundary"], collector.callbacks())  # type: ignore[arg-type]
            async for chunk in self._stream:
                parser.write(chunk)
                for event in collector.taken():
                    yield event
        except FormParserError as error:
            raise invalid("the form is not as RFC 7578 has it", None, reason="BAD_FORM") from error
        if not collector.ended:
            raise invalid("the form breaks off", None, reason="BAD_FORM")

    async def _live(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            if piece := self._take(event):
                yield piece

    def _take(self, event: _Head | bytes) -> bytes | None:
        """Keep a field's part of what came in, return the file's."""
        if isinstance(event, bytes):
            if self._reading is None:
                return event
            self._reading += event
            if len(self._reading) > _LONGEST_FIELD:
                raise invalid("a field of the form is too long", None, reason="FORM_TOO_LARGE")
            return None
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise invalid("the form has too many parts", None, reason="FORM_TOO_LARGE")
        if event.filename is None:
            self._reading = self._fields[event.name] = bytearray()
        elif event.name == self._file and event.filename and not self.filename:
            self.filename, self._reading = event.filename, None
        else:
            raise self.missing()
        return None


@asynccontextmanager
async def form_of(request: Request, file: str, needs: Collection[str] = ()) -> AsyncIterator[Form]:
    """Read a form up to its file, or to its end if fields that are needed stand behind the file.

    A refusal is told once the whole form has come in.
    """
    form = Form(request, file)
    try:
        await form.open(needs)
        yield form
    except PlatformError:
        await form.drain()
        raise
    finally:
        form.close()


async def forward(
    pieces: AsyncIterator[bytes], send: Callable[[AsyncIterator[bytes]], Awaitable[T]]
) -> T:
    """Pass pieces on as they come in and return what `send` returns.

    If it ends before they do, the rest is read all the same. If reading them fails, it is ended.
    """
    waiting: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)

    async def passed() -> AsyncIterator[bytes]:
        while (piece := await waiting.get()) is not None:
            yield piece

    async def sent() -> T:
        return await send(passed())

    sending = asyncio.create_task(sent())

    async def put(piece: bytes | None) -> None:
        putting = asyncio.create_task(waiting.put(piece))
        await asyncio.wait((putting, sending), return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()

    try:
        async for piece in pieces:
            await put(piece)
        await put(None)
        return await sending
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, PlatformError):
            await sending


class _Collector:
    """Turns the parser's callbacks into events."""

    def __init__(self) -> None:
        self.ended = False
        self._found: list[_Head | bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return what the parser calls."""
        return {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def taken(self) -> list[_Head | bytes]:
        """Return the events since the last call."""
        found, self._found = self._found, []
        return found

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._headers.clear()
        filename = options.get(b"filename")
        name = options.get(b"name", b"").decode(errors="replace")
        self._found.append(
            _Head(name, None if filename is None else filename.decode(errors="replace"))
        )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._found.append(data[start:end])

    def _on_end(self) -> None:
        self.ended = True
