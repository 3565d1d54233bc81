"""Objects in any store that speaks S3, through the `minio` client (synchronous, so in threads)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import BinaryIO, TypeVar, cast

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError

from luthier_common.errors import (
    DataLoss,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    PlatformError,
    ResourceExhausted,
    Unavailable,
)
from luthier_common.objects.directory import object_not_found
from luthier_common.objects.port import ObjectInfo, check_key

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20
_PART_BYTES = 16 << 20
_THREADS = 16
_DIGEST_HEADER = "x-amz-meta-sha256"

_REFUSED = (
    FailedPrecondition,
    "OBJECTS_REFUSED",
    "refuses our access key or secret (LUTHIER_OBJECTS_ACCESS_KEY, LUTHIER_OBJECTS_SECRET_KEY)",
)
_FULL = (ResourceExhausted, "OBJECTS_FULL", "is full")
_BUSY = (Unavailable, "OBJECTS_UNAVAILABLE", "does not answer")
_ERRORS: dict[str, tuple[type[PlatformError], str, str]] = {
    "AccessDenied": _REFUSED,
    "AuthFailure": _REFUSED,
    "InvalidAccessKeyId": _REFUSED,
    "SignatureDoesNotMatch": _REFUSED,
    "NoSuchBucket": (FailedPrecondition, "OBJECTS_BUCKET_MISSING", "has lost its bucket"),
    "EntityTooLarge": (InvalidArgument, "OBJECT_TOO_LARGE", "takes no object this large"),
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InternalError": _BUSY,
    "OperationAborted": _BUSY,
    "RequestTimeout": _BUSY,
    "ServiceUnavailable": _BUSY,
    "SlowDown": _BUSY,
}
"""What an S3 error code means: our class, reason and words."""


class S3Objects:
    """An ObjectStore in one bucket, which must exist (see `ensure_bucket`)."""

    def __init__(self, client: Minio, signer: Minio, bucket: str, endpoint: str) -> None:
        self._client = client
        # Signs for the address that callers outside know; it never connects to it.
        self._signer = signer
        self._bucket = bucket
        self._endpoint = endpoint
        # Its own threads: a slow store must not take the loop's default ones from others.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")

    async def ensure_bucket(self) -> None:
        """Create the bucket if absent; FailedPrecondition when the credentials are refused."""
        if not await self._call("", lambda: self._client.bucket_exists(self._bucket)):
            try:
                await self._call("", lambda: self._client.make_bucket(self._bucket))
            except PlatformError:
                # Another service may have been quicker.
                if not await self._call("", lambda: self._client.bucket_exists(self._bucket)):
                    raise

    async def put(self, key: str, data: bytes | AsyncIterable[bytes]) -> ObjectInfo:
        """See ObjectStore."""
        check_key(key)
        if isinstance(data, bytes):
            await self._call(key, lambda: self._put_bytes(key, data))
            return ObjectInfo(key, len(data))
        reader = _Reader(data.__aiter__(), asyncio.get_running_loop())
        try:
            await self._call(key, lambda: self._put_stream(key, reader))
        except BaseException:
            # The upload's thread asks once more and gives up, which drops the parts sent so far.
            reader.abort()
            if reader.failure is not None:
                raise reader.failure from None
            raise
        return ObjectInfo(key, reader.size)

    async def get(self, key: str) -> AsyncGenerator[bytes, None]:
        """See ObjectStore."""
        check_key(key)
        response = await self._call(key, lambda: self._client.get_object(self._bucket, key))
        try:
            expected = response.headers.get(_DIGEST_HEADER)
            length = int(response.headers["content-length"])
            digest = hashlib.sha256()
            while chunk := await self._call(key, lambda: response.read(_CHUNK_BYTES)):
                digest.update(chunk)
                length -= len(chunk)
                yield chunk
            if length != 0 or expected not in (None, digest.hexdigest()):
                raise DataLoss(f"object {key} is damaged", reason="OBJECT_DAMAGED")
        finally:
            response.close()
            response.release_conn()

    async def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        check_key(key)
        found = await self._call(key, lambda: self._client.stat_object(self._bucket, key))
        return ObjectInfo(key, found.size or 0)

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo, None]:
        """See ObjectStore."""
        objects = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        while (found := await self._call(prefix, lambda: next(objects, None))) is not None:
            yield ObjectInfo(found.object_name or "", found.size or 0)

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        check_key(key)
        await self._call(key, lambda: self._client.remove_object(self._bucket, key))

    def presign_put(self, key: str, expires: timedelta) -> str:
        """See ObjectStore."""
        return self._signer.presigned_put_object(self._bucket, check_key(key), expires)

    def describe(self) -> str:
        """See ObjectStore."""
        return f"object store {self._endpoint}, bucket {self._bucket}"

    def _put_bytes(self, key: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self._client.put_object(
            self._bucket, key, io.BytesIO(data), len(data), metadata={_DIGEST_HEADER: digest}
        )

    def _put_stream(self, key: str, reader: _Reader) -> None:
        # minio asks for nothing but `read`.
        source = cast("BinaryIO", reader)
        self._client.put_object(self._bucket, key, source, -1, part_size=_PART_BYTES)

    async def _call(self, key: str, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        with self._errors(key):
            return await loop.run_in_executor(self._threads, function)

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject", "NotFound"):
                raise object_not_found(key) from error
            kind, reason, words = _ERRORS.get(
                error.code or "", (Internal, "OBJECTS_ERROR", f"answered {error.code}")
            )
            raise kind(f"{self.describe()} {words}", reason=reason) from error
        except (urllib3.exceptions.HTTPError, ServerError, InvalidResponseError, OSError) as error:
            kind, reason, words = _BUSY
            raise kind(f"{self.describe()} {words}", reason=reason) from error


class _Reader:
    """Lets the upload's thread read what the event loop produces."""

    def __init__(self, chunks: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._rest = b""
        self._aborted = False
        self.size = 0
        self.failure: BaseException | None = None
        """What the producer raised, if that is why the upload failed."""

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, nothing at the end (called in the upload's thread)."""
        if not self._rest:
            if self._aborted:
                raise ConnectionAbortedError
            self._rest = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        taken, self._rest = self._rest[:size], self._rest[size:]
        self.size += len(taken)
        return taken

    def abort(self) -> None:
        """Make the next read fail."""
        self._aborted = True

    async def _next(self) -> bytes:
        try:
            # An empty chunk is not the end.
            while not self._aborted:
                if chunk := await anext(self._chunks):
                    return chunk
        except StopAsyncIteration:
            return b""
        except BaseException as error:
            self.failure = error
            raise ConnectionAbortedError from error
        raise ConnectionAbortedError


def connect(
    host: str,
    bucket: str,
    *,
    secure: bool,
    access_key: str,
    secret_key: str,
    region: str,
    public: tuple[str, bool] | None = None,
) -> S3Objects:
    """Return the store without contacting it yet; `host` may carry a port.

    `public` is the host in presigned URLs and whether it is secure, where it is another.
    """
    http = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5.0, read=60.0),
        maxsize=_THREADS,
        retries=urllib3.Retry(3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )

    def client(host: str, secure: bool) -> Minio:
        return Minio(
            host,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region=region,
            http_client=http,
        )

    inside = client(host, secure)
    return S3Objects(inside, client(*public) if public else inside, bucket, host)
