"""Files through the official SDK."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from luthier.dataset.v1 import file_pb2, file_service_pb2
from luthier_common.errors import DataLoss, InvalidArgument

from tests.support.eventually import eventually
from tests.support.gateway import RunningGateway
from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = b'{"messages": []}\n'


async def test_an_upload_comes_back_as_a_file_object(sdk: Sdk, owners: Owners) -> None:
    made = await sdk(lambda c: c.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune"))
    stored = owners.files[f"projects/default/files/{made.id}"]
    assert made.object == "file"
    assert made.bytes == len(ROWS)
    assert made.created_at == stored.create_time.seconds
    assert made.filename == "rows.jsonl"
    assert made.purpose == "fine-tune"
    assert made.status == "processed"
    assert stored.purpose == file_pb2.File.FINE_TUNE
    assert owners.contents[stored.name] == ROWS


async def test_documents_are_uploaded_as_user_data(sdk: Sdk, owners: Owners) -> None:
    made = await sdk(lambda c: c.files.create(file=io.BytesIO(b"# Handbook"), purpose="user_data"))
    assert made.purpose == "user_data"
    assert owners.last(file_service_pb2.CreateFileRequest).file.purpose == file_pb2.File.USER_DATA


async def test_a_large_upload_passes_through_whole_and_in_pieces(sdk: Sdk, owners: Owners) -> None:
    data = bytes(range(256)) * 20_000
    made = await sdk(lambda c: c.files.create(file=("book.docx", data), purpose="user_data"))
    content = await sdk(lambda c: c.files.content(made.id))
    assert made.bytes == len(data)
    assert content.read() == data


async def test_names_in_any_script_survive(sdk: Sdk, owners: Owners) -> None:
    name = "Handbuch größe 日本.md"
    made = await sdk(lambda c: c.files.create(file=(name, b"text"), purpose="user_data"))
    assert made.filename == name
    content = await sdk(lambda c: c.files.content(made.id))
    assert "filename*=UTF-8''Handbuch%20gr%C3%B6" in content.response.headers["content-disposition"]


async def test_a_file_is_retrieved_and_waited_for(sdk: Sdk, owners: Owners) -> None:
    owners.add_file("file-a", b"12345", display_name="a.jsonl")
    file = await sdk(lambda c: c.files.retrieve("file-a"))
    assert (file.id, file.bytes, file.filename) == ("file-a", 5, "a.jsonl")
    waited = await sdk(lambda c: c.files.wait_for_processing("file-a"))
    assert waited.id == "file-a"


async def test_a_deleted_file_is_gone(sdk: Sdk, owners: Owners) -> None:
    owners.add_file("file-a")
    deleted = await sdk(lambda c: c.files.delete("file-a"))
    assert (deleted.id, deleted.object, deleted.deleted) == ("file-a", "file", True)
    assert deleted.model_extra == {"dependents": []}
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk(lambda c: c.files.retrieve("file-a"))
    assert caught.value.code == "file_not_found"
    assert "No such file: file-a" in caught.value.message


async def test_a_deletion_names_the_datasets_that_depend_on_the_file(
    sdk: Sdk, owners: Owners
) -> None:
    owners.add_file("file-a")
    owners.dependents = [f"projects/default/datasets/dataset-{number}" for number in (1, 2)]
    deleted = await sdk(lambda c: c.files.delete("file-a"))
    assert deleted.model_extra == {"dependents": ["dataset-1", "dataset-2"]}


async def test_paging_visits_every_file_once_and_newest_first(sdk: Sdk, owners: Owners) -> None:
    for number in range(5):
        owners.add_file(f"file-{number}")
    page = await sdk(lambda c: c.files.list(limit=2))
    assert [file.id for file in page.data] == ["file-4", "file-3"]
    assert (page.has_more, page.first_id, page.last_id) == (True, "file-4", "file-3")
    files = await sdk.all(lambda c: c.files.list(limit=2))
    assert [file.id for file in files] == [f"file-{number}" for number in (4, 3, 2, 1, 0)]
    rest = await sdk(lambda c: c.files.list(after="file-2"))
    assert [file.id for file in rest.data] == ["file-1", "file-0"]
    assert rest.has_more is False


async def test_without_a_limit_all_files_come_at_once(sdk: Sdk, owners: Owners) -> None:
    for number in range(1_100):  # more than an owner's page
        owners.add_file(f"file-{number}")
    page = await sdk(lambda c: c.files.list())
    assert len(page.data) == 1_100
    assert page.has_more is False


async def test_the_oldest_come_first_on_demand(sdk: Sdk, owners: Owners) -> None:
    for number in range(3):
        owners.add_file(f"file-{number}")
    files = await sdk.all(lambda c: c.files.list(order="asc", limit=1))
    assert [file.id for file in files] == ["file-0", "file-1", "file-2"]


async def test_lists_are_filtered_by_purpose(sdk: Sdk, owners: Owners) -> None:
    owners.add_file("file-rows")
    owners.add_file("file-book", purpose=file_pb2.File.USER_DATA)
    owners.add_file("file-figures", purpose=file_pb2.File.FINE_TUNE_RESULTS)

    async def ids(purpose: str) -> list[str]:
        return [file.id for file in await sdk.all(lambda c: c.files.list(purpose=purpose))]

    assert await ids("fine-tune") == ["file-rows"]
    assert await ids("user_data") == ["file-book"]
    assert await ids("fine-tune-results") == ["file-figures"]
    assert await ids("vision") == []


async def test_an_empty_list_has_no_ends(sdk: Sdk) -> None:
    page = await sdk(lambda c: c.files.list())
    assert (page.data, page.has_more, page.first_id, page.last_id) == ([], False, None, None)


async def test_an_unknown_after_is_a_bad_request_that_names_it(sdk: Sdk, owners: Owners) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.files.list(after="file-nowhere"))
    assert caught.value.param == "after"


@pytest.mark.parametrize("purpose", ["assistants", "fine-tune-results", "nonsense"])
async def test_purposes_that_nobody_may_upload_are_refused(sdk: Sdk, purpose: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.files.create(file=("a", b"x"), purpose=purpose))
    assert (caught.value.param, caught.value.code) == ("purpose", "invalid_purpose")


async def test_an_expiry_is_refused_rather_than_forgotten(sdk: Sdk, owners: Owners) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(
            lambda c: c.files.create(file=("a", b"x"), purpose="user_data", expires_after=expiry)
        )
    assert caught.value.param == "expires_after"
    assert not owners.files


@pytest.mark.parametrize(
    ("form", "file", "param"),
    [
        ({}, {"file": ("a", b"x")}, "purpose"),
        ({"purpose": "user_data"}, {"other": ("a", b"x")}, "file"),
        ({"purpose": "user_data", "file": "text"}, {"other": ("a", b"x")}, "file"),
    ],
)
async def test_a_form_that_lacks_a_part_names_it(
    http: httpx2.AsyncClient,
    form: dict[str, str],
    file: dict[str, tuple[str, bytes]],
    param: str,
) -> None:
    answer = await http.post("/files", data=form, files=file)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["code"] == "missing_required_parameter"


def form(*parts: tuple[str, bytes], end: str = "--x--\r\n") -> bytes:
    """A form: head of each part, without its `form-data; `, and its data."""
    whole = b"".join(
        f"--x\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    return whole + end.encode()


async def post_form(http: httpx2.AsyncClient, content: Any) -> httpx2.Response:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    return await http.post("/files", content=content, headers=headers)


PURPOSE = ('name="purpose"', b"user_data")


async def test_an_upload_goes_on_while_it_comes_in(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    whole = form(PURPOSE, ('name="file"; filename="a.md"', b"first " + b"x" * 300_000))
    here: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        yield whole[:200_000]
        # The rest is sent only once the owner has the beginning.
        here.append(await eventually(lambda: owners.arrived))
        yield whole[200_000:]

    answer = await post_form(http, body())
    assert answer.json()["bytes"] == 300_006
    assert 0 < here[0] < 200_000


async def test_a_purpose_may_stand_behind_the_file(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    data = bytes(range(256)) * 8000
    whole = form(('name="file"; filename="a.md"', data), PURPOSE)
    made = (await post_form(http, whole)).json()
    assert (made["bytes"], made["purpose"]) == (len(data), "user_data")
    assert owners.contents[f"projects/default/files/{made['id']}"] == data


async def test_what_is_refused_behind_the_file_leaves_no_file(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    file = ('name="file"; filename="a.md"', b"x" * 3_000_000)
    whole = form(PURPOSE, file, ('name="expires_after[anchor]"', b"created_at"))
    answer = await post_form(http, whole)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "expires_after")
    assert not owners.files


async def test_a_refusal_on_the_way_is_told(http: httpx2.AsyncClient, owners: Owners) -> None:
    owners.refusal = InvalidArgument("line 1 is bad", reason="INVALID_ROW", field="file")
    file = ('name="file"; filename="a.jsonl"', b"bad" + b"x" * 20_000_000)
    for _ in range(5):
        answer = await post_form(http, form(PURPOSE, file))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_row")
    assert not owners.files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (form(PURPOSE, ('name="file"; filename="a"', b"x"), end=""), "breaks off"),
        (b"no form at all", "RFC 7578"),
        (form(*[PURPOSE] * 12), "too many parts"),
        (form(('name="purpose"', b"x" * 100_000)), "too long"),
        (b"", "breaks off"),
    ],
)
async def test_a_form_that_is_none_is_refused(
    http: httpx2.AsyncClient, owners: Owners, content: bytes, said: str
) -> None:
    answer = await post_form(http, content)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert not owners.files


async def test_a_download_that_breaks_off_cannot_pass_for_a_whole_one(
    sdk: Sdk, owners: Owners
) -> None:
    owners.add_file("file-a", b"x" * 250_000)
    owners.break_after = DataLoss("bytes are gone", reason="BLOB_MISSING")
    with pytest.raises(openai.APIConnectionError):
        await sdk(lambda c: c.files.content("file-a"))


async def test_a_download_that_fails_at_once_has_a_status(sdk: Sdk, owners: Owners) -> None:
    owners.add_file("file-a")
    owners.failures[file_service_pb2.DownloadFileRequest] = DataLoss(
        "bytes are gone", reason="BLOB_MISSING"
    )
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk(lambda c: c.files.content("file-a"))
    assert caught.value.status_code == 500
    assert caught.value.code == "blob_missing"
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_requests_are_counted_by_route_and_never_by_id(
    gateway: RunningGateway, sdk: Sdk, owners: Owners
) -> None:
    owners.add_file("file-counted")
    await sdk(lambda c: c.files.retrieve("file-counted"))
    samples = [sample for family in gateway.registry.collect() for sample in family.samples]
    routes = {sample.labels["route"] for sample in samples if "route" in sample.labels}
    assert any(route.endswith("/files/{file_id}") for route in routes)
    assert not any("file-counted" in route for route in routes)
