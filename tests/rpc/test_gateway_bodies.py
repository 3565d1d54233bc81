"""Bodies that are garbled, too large or not what a route wants."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.support.dataset_service import dataset_service
from tests.support.gateway import running_gateway, settings, told
from tests.support.nats_server import nats_server
from tests.support.scripted_owners import Owners, scripted_owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
MIB = 1024 * 1024


@pytest.mark.parametrize(
    "body",
    [b"{bad", b"\xff\xfe", b'{"model": "m",}', b"[" * 100_000, b'{"seed":' + b"1" * 6000 + b"}"],
    ids=["cut", "bytes", "comma", "nested", "digits"],
)
async def test_a_body_that_is_not_json_is_a_bad_request(
    http: httpx2.AsyncClient, body: bytes
) -> None:
    for path in ("/chat/completions", "/fine_tuning/jobs", "/datasets"):
        answer = await http.post(path, content=body, headers=JSON)
        assert answer.status_code == 400
        assert told(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"[1]", b'"text"', b"null", b"3"])
async def test_a_body_that_is_no_object_is_a_bad_request(
    http: httpx2.AsyncClient, body: bytes
) -> None:
    answer = await http.post("/chat/completions", content=body, headers=JSON)
    assert answer.status_code == 400
    assert "object" in told(answer)["message"]


async def test_a_missing_field_is_named(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/fine_tuning/jobs", json={"model": "luthier-starter"})
    error = told(answer)
    assert answer.status_code == 400
    assert (error["param"], error["code"]) == ("training_file", "missing_required_parameter")


@pytest.mark.parametrize(
    "body",
    [
        {"model": "\ud800", "training_file": "f"},
        {"model": "luthier-starter", "training_file": "f", "suffix": "\udfff"},
        {"model": "luthier-starter", "training_file": "f", "metadata": {"\ud800": "1"}},
        {"model": "luthier-starter", "training_file": "f", "metadata": {"a": "\ud800"}},
        {"model": "luthier-starter", "training_file": "f", "method": {"type": "\ud800"}},
    ],
)
async def test_half_a_character_anywhere_is_a_bad_request(
    http: httpx2.AsyncClient, owners: Owners, body: dict[str, Any]
) -> None:
    answer = await http.post("/fine_tuning/jobs", content=json.dumps(body), headers=JSON)
    assert answer.status_code == 400
    told(answer)
    assert not owners.jobs


async def test_half_a_character_in_a_file_id_is_a_bad_request(http: httpx2.AsyncClient) -> None:
    body = {
        "model": "luthier-starter",
        "source_files": ["\ud800"],
        "recipes": [{"type": "headings"}],
    }
    answer = await http.post("/datasets", content=json.dumps(body), headers=JSON)
    assert answer.status_code == 400
    assert told(answer)["param"] == "source_files.0"


async def test_a_broken_line_of_an_upload_is_named_by_the_real_dataset_service(
    tmp_path: Path,
) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    good = json.dumps(row).encode() + b"\n"
    async with (
        nats_server(tmp_path) as nats,
        scripted_owners() as (owners, server),
        dataset_service(tmp_path, nats.url) as datasets,
    ):
        configured = settings(
            tmp_path / "gateway", nats.url, server.address, dataset_address=datasets.address
        )
        async with running_gateway(configured, owners) as running, running.client() as client:
            with pytest.raises(openai.BadRequestError) as caught:
                await client.files.create(
                    file=("rows.jsonl", good * 2 + b"{broken\n" + good * 5000), purpose="fine-tune"
                )
            assert (caught.value.param, caught.value.code) == ("file", "invalid_row")
            assert "line 3: is not valid JSON" in caught.value.message
            assert (await client.files.list()).data == []
            kept = await client.files.create(file=("rows.jsonl", good * 3), purpose="fine-tune")
            assert [file.id for file in (await client.files.list()).data] == [kept.id]
            assert (await client.files.content(kept.id)).read() == good * 3


@pytest.mark.parametrize("body", [b"", b"{}", b"not json"])
async def test_the_body_of_a_cancellation_says_nothing(
    http: httpx2.AsyncClient, owners: Owners, body: bytes
) -> None:
    owners.add_job("ftjob-1")
    answer = await http.post("/fine_tuning/jobs/ftjob-1/cancel", content=body, headers=JSON)
    assert answer.status_code == 200
    assert answer.json()["id"] == "ftjob-1"


async def in_pieces(total: int) -> AsyncIterator[bytes]:
    """A body whose length is not announced."""
    for _ in range(total // MIB + 1):
        yield b" " * MIB


async def test_too_large_a_body_is_told_in_the_same_form(http: httpx2.AsyncClient) -> None:
    announced = await http.post("/fine_tuning/jobs", content=b" " * (9 * MIB), headers=JSON)
    streamed = await http.post("/fine_tuning/jobs", content=in_pieces(9 * MIB), headers=JSON)
    for answer in (announced, streamed):
        assert answer.status_code == 413
        assert told(answer)["code"] == "body_too_large"


async def test_too_large_an_upload_is_refused(sdk: Sdk, owners: Owners) -> None:
    data = b"x" * (21 * MIB)
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk(lambda c: c.files.create(file=("a.md", data), purpose="user_data"))
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    assert not owners.files


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=a", "text/plain"]
)
async def test_a_garbled_form_is_a_bad_request(http: httpx2.AsyncClient, content_type: str) -> None:
    answer = await http.post("/files", content=b"zzz", headers={"content-type": content_type})
    assert answer.status_code == 400
    told(answer)
