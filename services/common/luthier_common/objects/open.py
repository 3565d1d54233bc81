"""From an address in the settings to an object store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from luthier_common.errors import InvalidArgument
from luthier_common.objects import s3
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.objects.port import ObjectStore


async def open_object_store(
    url: str,
    *,
    access_key: str = "",
    secret_key: str = "",
    region: str = "us-east-1",
    public_url: str = "",
) -> ObjectStore:
    """Open `file:///folder` or `s3+http[s]://host[:port]/bucket`, creating the bucket if absent.

    `public_url` (`http[s]://host[:port]`) is where callers outside reach an S3 store, if
    elsewhere. Errors: InvalidArgument for another address, and those of the store itself.
    """
    parts = urlsplit(url)
    folder, bucket = unquote(parts.path), parts.path.strip("/")
    if parts.scheme == "file" and not parts.netloc and folder.startswith("/") and folder != "/":
        return DirectoryObjects(Path(folder))
    if parts.scheme in ("s3+http", "s3+https") and parts.netloc and bucket and "/" not in bucket:
        store = s3.connect(
            parts.netloc,
            bucket,
            secure=parts.scheme == "s3+https",
            access_key=access_key,
            secret_key=secret_key,
            region=region,
            public=_public(public_url) if public_url else None,
        )
        await store.ensure_bucket()
        return store
    raise InvalidArgument(
        "the object store must be file:///folder or s3+http[s]://host[:port]/bucket",
        reason="INVALID_OBJECTS_URL",
        field="objects_url",
    )


def _public(url: str) -> tuple[str, bool]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise InvalidArgument(
            "the public address of the object store must be http[s]://host[:port]",
            reason="INVALID_OBJECTS_URL",
            field="objects_public_url",
        )
    return parts.netloc, parts.scheme == "https"
