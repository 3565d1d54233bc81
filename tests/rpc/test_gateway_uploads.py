"""Uploads through the official SDK."""

from __future__ import annotations

import hashlib
import json
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from luthier.dataset.v1 import file_pb2, upload_pb2, upload_service_pb2
from luthier_common.errors import FailedPrecondition, InvalidArgument

from tests.support.dataset_service import dataset_service
from tests.support.gateway import running_gateway, settings, told
from tests.support.nats_server import nats_server
from tests.support.s3_server import s3_server
from tests.support.scripted_owners import Owners, scripted_owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
DATA = random.Random(1).randbytes(3_000_000)
BEGIN: dict[str, Any] = {
    "bytes": 6,
    "filename": "book.pdf",
    "mime_type": "application/pdf",
    "purpose": "user_data",
}


async def test_an_upload_begins_as_openai_shows_it(sdk: Sdk, owners: Owners) -> None:
    upload = await sdk(lambda c: c.uploads.create(**BEGIN))
    stored = owners.uploads[f"projects/default/uploads/{upload.id}"]
    assert upload.to_dict() == {
        "id": upload.id,
        "object": "upload",
        "bytes": 6,
        "created_at": stored.create_time.seconds,
        "expires_at": stored.create_time.seconds + 3600,
        "filename": "book.pdf",
        "purpose": "user_data",
        "status": "pending",
        "file": None,
    }
    assert (stored.mime_type, stored.direct) == ("application/pdf", False)
    assert stored.purpose == file_pb2.File.USER_DATA


async def test_parts_are_added_and_made_a_file_in_order(sdk: Sdk, owners: Owners) -> None:
    upload = await sdk(lambda c: c.uploads.create(**BEGIN))
    parts = [
        await sdk(lambda c: c.uploads.parts.create(upload.id, data=b"def")),
        await sdk(lambda c: c.uploads.parts.create(upload.id, data=b"abc")),
    ]
    assert [part.upload_id for part in parts] == [upload.id] * 2
    assert parts[0].object == "upload.part"
    assert parts[0].created_at > 0
    assert parts[0].model_extra == {"bytes": 3, "sha256": hashlib.sha256(b"def").hexdigest()}

    md5 = hashlib.md5(b"abcdef").hexdigest()
    part_ids = [parts[1].id, parts[0].id]
    done = await sdk(lambda c: c.uploads.complete(upload.id, part_ids=part_ids, md5=md5))
    assert (done.id, done.status) == (upload.id, "completed")
    assert (done.file.filename, done.file.bytes) == ("book.pdf", 6)
    assert owners.contents[f"projects/default/files/{done.file.id}"] == b"abcdef"
    sent = owners.last(upload_service_pb2.CompleteUploadRequest)
    assert (sent.md5, sent.sha256) == (md5, "")


async def test_the_sdk_cuts_a_file_into_parts_by_itself(
    sdk: Sdk, owners: Owners, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)
    done = await sdk(
        lambda c: c.uploads.upload_file_chunked(
            file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=MIB
        )
    )
    assert done.status == "completed"
    assert (done.file.filename, done.file.purpose) == ("rows.jsonl", "fine-tune")
    assert owners.contents[f"projects/default/files/{done.file.id}"] == DATA
    assert len(owners.parts) == 3


async def test_a_part_of_64_mib_passes_and_more_is_too_large(
    http: httpx2.AsyncClient, sdk: Sdk, owners: Owners
) -> None:
    upload = owners.add_upload("upload-1", size_bytes=64 * MIB)
    data = bytes(64 * MIB)
    part = await sdk(lambda c: c.uploads.parts.create("upload-1", data=data))
    assert len(owners.parts[f"{upload.name}/parts/{part.id}"]) == 64 * MIB
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk(lambda c: c.uploads.parts.create("upload-1", data=data + bytes(2 * MIB)))
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")


async def test_an_upload_is_cancelled(sdk: Sdk, owners: Owners) -> None:
    owners.add_upload("upload-1")
    cancelled = await sdk(lambda c: c.uploads.cancel("upload-1"))
    assert (cancelled.id, cancelled.status, cancelled.file) == ("upload-1", "cancelled", None)
    with pytest.raises(openai.ConflictError) as caught:
        await sdk(lambda c: c.uploads.parts.create("upload-1", data=b"x"))
    assert caught.value.code == "upload_cancelled"
    assert "upload-1 is CANCELLED" in caught.value.message


async def test_an_upload_is_looked_at_to_go_on_with_it(
    http: httpx2.AsyncClient, sdk: Sdk, owners: Owners
) -> None:
    owners.add_upload("upload-1")
    part = await sdk(lambda c: c.uploads.parts.create("upload-1", data=b"abc"))
    shown = (await http.get("/uploads/upload-1")).json()
    assert shown["status"] == "pending"
    assert shown["parts"] == [part.to_dict()]
    owners.add_upload("upload-2", state=upload_pb2.Upload.EXPIRED)
    assert (await http.get("/uploads/upload-2")).json()["status"] == "expired"


@pytest.mark.parametrize("step", ["parts", "complete", "cancel", "get"])
async def test_an_unknown_upload_is_not_found(sdk: Sdk, step: str) -> None:
    calls: dict[str, Any] = {
        "parts": lambda c: c.uploads.parts.create("upload-0", data=b"x"),
        "complete": lambda c: c.uploads.complete("upload-0", part_ids=["part-0"]),
        "cancel": lambda c: c.uploads.cancel("upload-0"),
        "get": lambda c: c.get("/uploads/upload-0", cast_to=object),
    }
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk(calls[step])
    assert caught.value.code == "upload_not_found"
    assert "No such upload: upload-0" in caught.value.message


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": 2**63}, "bytes"),
        ({"purpose": "assistants"}, "purpose"),
        ({"filename": None}, "filename"),
        ({"mime_type": 3}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3600}}, "expires_after"),
    ],
)
async def test_a_wrong_field_is_named(
    http: httpx2.AsyncClient, owners: Owners, changed: dict[str, Any], param: str
) -> None:
    answer = await http.post("/uploads", json=BEGIN | changed)
    assert answer.status_code == 400
    assert told(answer)["param"] == param
    assert not owners.uploads


async def test_a_form_without_data_names_it(http: httpx2.AsyncClient, owners: Owners) -> None:
    owners.add_upload("upload-1")
    for form in ({"files": {"other": ("a", b"x")}}, {"data": {"data": "text"}}):
        answer = await http.post("/uploads/upload-1/parts", **form)
        assert answer.status_code == 400
        assert told(answer)["param"] == "data"


@pytest.mark.parametrize(
    ("reason", "field", "param"),
    [
        ("SIZE_MISMATCH", "parts", "part_ids"),
        ("PART_NOT_FOUND", "parts[1]", "part_ids.1"),
        ("MD5_MISMATCH", "md5", "md5"),
        ("INVALID_ROW", "file", "file"),
    ],
)
async def test_what_the_owner_refuses_names_the_field_of_the_body(
    sdk: Sdk, owners: Owners, reason: str, field: str, param: str
) -> None:
    owners.add_upload("upload-1")
    owners.failures[upload_service_pb2.CompleteUploadRequest] = InvalidArgument(
        f"{field} is wrong", reason=reason, field=field
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.uploads.complete("upload-1", part_ids=["part-0", "part-1"]))
    assert (caught.value.param, caught.value.code) == (param, reason.lower())
    assert f"{param} is wrong" in caught.value.message


async def test_a_file_too_large_to_upload_is_told_so(sdk: Sdk, owners: Owners) -> None:
    owners.failures[upload_service_pb2.CreateUploadRequest] = InvalidArgument(
        "upload.size_bytes must be at most 8", reason="FILE_TOO_LARGE", field="upload.size_bytes"
    )
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk(lambda c: c.uploads.create(**BEGIN))
    assert (caught.value.status_code, caught.value.body["param"]) == (413, "bytes")  # type: ignore[index]
    assert "bytes must be at most 8" in caught.value.message


async def test_a_direct_upload_has_a_url_and_is_completed_without_parts(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    begun = (await http.post("/uploads", json=BEGIN | {"direct": True})).json()
    assert begun["put_url"] == "https://objects.example.com/here"
    assert owners.last(upload_service_pb2.CreateUploadRequest).upload.direct
    done = await http.post(f"/uploads/{begun['id']}/complete")
    assert done.json()["status"] == "completed"
    assert "put_url" not in done.json()


async def test_a_platform_without_direct_uploads_says_what_to_do(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    owners.failures[upload_service_pb2.CreateUploadRequest] = FailedPrecondition(
        "direct uploads need an S3 object store; upload in parts",
        reason="DIRECT_UPLOAD_UNSUPPORTED",
    )
    answer = await http.post("/uploads", json=BEGIN | {"direct": True})
    assert answer.status_code == 409
    assert told(answer)["code"] == "direct_upload_unsupported"
    assert "upload in parts" in told(answer)["message"]


async def test_through_the_real_service_and_a_real_store(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    rows = (json.dumps(row) + "\n").encode() * 5000
    direct = BEGIN | {"bytes": MIB}
    for folder in ("dataset", "gateway"):
        (tmp_path / folder).mkdir()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        s3 = stack.enter_context(s3_server(tmp_path, presigned=True))
        nats = await enter(nats_server(tmp_path))
        owners, server = await enter(scripted_owners())
        dataset = await enter(dataset_service(tmp_path / "dataset", nats.url, s3=s3))
        configured = settings(
            tmp_path / "gateway", nats.url, server.address, dataset_address=dataset.address
        )
        gateway = await enter(running_gateway(configured, owners))
        client = await enter(gateway.client())

        done = await client.uploads.upload_file_chunked(
            file=rows,
            filename="rows.jsonl",
            bytes=len(rows),
            mime_type="text/jsonl",
            purpose="fine-tune",
            part_size=100_000,
            md5=hashlib.md5(rows).hexdigest(),
        )
        assert done.file is not None
        assert (await client.files.content(done.file.id)).read() == rows

        begun = await client.uploads.create(**direct, extra_body={"direct": True})
        put_url = (begun.model_extra or {})["put_url"]
        async with httpx2.AsyncClient() as outside:
            assert (await outside.put(put_url, content=DATA[:MIB])).status_code == 200
        done = await client.uploads.complete(begun.id, part_ids=[])
        assert done.file is not None
        assert (await client.files.content(done.file.id)).read() == DATA[:MIB]
