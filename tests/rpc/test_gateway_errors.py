"""Failures in OpenAI's form, and the exceptions that the official SDK makes of them."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from luthier.policy.v1 import policy_pb2
from luthier_common import errors
from luthier_common.errors import PlatformError

from tests.support.gateway import KEY, RunningGateway, told
from tests.support.scripted_owners import Owners
from tests.support.sdk import Half, Sdk, official_sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    "key", ["sk-luthier-nobody", KEY[:-1], KEY + "x", KEY.upper(), "x" * 5_000]
)
async def test_a_key_of_nobody_is_an_authentication_error(
    gateway: RunningGateway, key: str
) -> None:
    halves: tuple[Half, Half] = ("async", "sync")
    for half in halves:
        async with official_sdk(gateway, half, key) as sdk:
            with pytest.raises(openai.AuthenticationError) as caught:
                await sdk(lambda c: c.models.list())
    assert caught.value.status_code == 401
    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id is not None
    assert key not in caught.value.message
    assert gateway.owners.requests == []


@pytest.mark.parametrize(
    "header",
    [None, b"", b"Bearer", KEY.encode(), b"Basic " + KEY.encode(), b"Bearer \xff\xfe"],
)
async def test_without_a_sound_key_nothing_is_served(
    gateway: RunningGateway, header: bytes | None
) -> None:
    headers = {} if header is None else {b"authorization": header}
    async with gateway.http(key="") as client:
        for path in ("/models", "/nowhere", "/files/file-1"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401
            assert told(answer)["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
    assert gateway.owners.requests == []


async def test_a_revoked_key_is_refused_at_once(gateway: RunningGateway) -> None:
    key = await gateway.issue_key(policy_pb2.ROLE_VIEWER)
    async with gateway.client(key.secret) as client:
        await client.models.list()
        await gateway.revoke_key(key)
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"


async def test_a_role_that_is_too_low_is_a_permission_error(gateway: RunningGateway) -> None:
    key = await gateway.issue_key(policy_pb2.ROLE_VIEWER)
    async with gateway.client(key.secret) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.files.create(file=("a.md", b"text"), purpose="user_data")
    assert (caught.value.code, caught.value.type) == ("role_too_low", "permission_error")
    assert gateway.owners.files == {}


async def test_routes_that_do_not_exist_are_told_in_the_same_form(sdk: Sdk) -> None:
    works: list[Any] = [
        lambda c: c.moderations.create(input="text"),
        lambda c: c.responses.create(model="luthier-starter", input="text"),
        lambda c: c.batches.list(),
        lambda c: c.get("/", cast_to=object),
    ]
    for work in works:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk(work)
        assert caught.value.code == "unknown_url"
        assert "Unknown request URL" in caught.value.message


async def test_paths_outside_of_v1_are_unknown_too(gateway: RunningGateway) -> None:
    async with gateway.http() as client:
        for path in ("", "/", "/docs", "/openapi.json", "/models", "/v1models", "/v1/%FF%FE"):
            answer = await client.get(gateway.rest + path)
            assert answer.status_code == 404
            assert told(answer)["code"] == "unknown_url"


async def test_a_wrong_method_is_told_in_the_same_form(http: httpx2.AsyncClient) -> None:
    answer = await http.put("/files/file-1")
    assert answer.status_code == 405
    assert told(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_epochs", 0),
        ("n_epochs", 1001),
        ("n_epochs", "many"),
        ("batch_size", 1025),
        ("learning_rate_multiplier", 0),
        ("learning_rate_multiplier", 100.5),
        ("lora_rank", 513),
        ("lora_alpha", 0),
        ("retain_share", 0.95),
    ],
)
async def test_a_hyperparameter_out_of_range_is_named(
    sdk: Sdk, owners: Owners, name: str, value: Any
) -> None:
    values: Any = {name: value}
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": values}}
    given: dict[str, Any] = {"model": "luthier-starter", "training_file": "file-1"}
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(**given, method=method))
    assert caught.value.param == f"method.supervised.hyperparameters.{name}"
    assert caught.value.code == "invalid_value"
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(**given, hyperparameters=values))
    assert caught.value.param == f"hyperparameters.{name}"
    assert not owners.jobs


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "100000"}, "limit"),
        ({"order": "sideways"}, "order"),
        ({"after": "x" * 201}, "after"),
    ],
)
async def test_a_wrong_query_parameter_is_named(
    http: httpx2.AsyncClient, query: dict[str, str], param: str
) -> None:
    answer = await http.get("/files", params=query)
    assert answer.status_code == 400
    assert told(answer)["param"] == param


@pytest.mark.parametrize(
    ("kind", "status", "exception"),
    [
        (errors.InvalidArgument, 400, openai.BadRequestError),
        (errors.PermissionDenied, 403, openai.PermissionDeniedError),
        (errors.NotFound, 404, openai.NotFoundError),
        (errors.AlreadyExists, 409, openai.ConflictError),
        (errors.FailedPrecondition, 409, openai.ConflictError),
        (errors.Aborted, 409, openai.ConflictError),
        (errors.Conflict, 409, openai.ConflictError),
        (errors.ResourceExhausted, 429, openai.RateLimitError),
        (errors.Internal, 500, openai.InternalServerError),
        (errors.DataLoss, 500, openai.InternalServerError),
        (errors.DeadlineExceeded, 504, openai.InternalServerError),
    ],
)
async def test_every_failure_of_an_owner_has_its_exception(
    sdk: Sdk,
    owners: Owners,
    kind: type[PlatformError],
    status: int,
    exception: type[openai.APIStatusError],
) -> None:
    owners.failure = kind("What happened", reason="IT_HAPPENED")
    with pytest.raises(exception) as caught:
        await sdk(lambda c: c.files.retrieve("file-1"))
    assert caught.value.status_code == status
    assert caught.value.code == "it_happened"
    assert "What happened" in caught.value.message
    assert (caught.value.type == "server_error") == (status >= 500)


async def test_an_unavailable_owner_is_503_with_a_time_to_try_again(
    sdk: Sdk, owners: Owners
) -> None:
    owners.failure = errors.Unavailable("starting", reason="STARTING")
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk(lambda c: c.files.delete("file-1"))
    assert (caught.value.status_code, caught.value.code) == (503, "starting")
    assert caught.value.type == "server_error"
    assert caught.value.response.headers["retry-after"] == "1"
    owners.failure = errors.Unavailable(
        "starting", reason="STARTING", metadata={"retry_after_seconds": "2.5"}
    )
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk(lambda c: c.files.delete("file-1"))
    assert caught.value.response.headers["retry-after"] == "3"


async def test_what_repeating_cannot_help_is_marked(sdk: Sdk, owners: Owners) -> None:
    async def marked(error: PlatformError) -> str | None:
        owners.failure = error
        with pytest.raises(openai.APIStatusError) as caught:
            await sdk(lambda c: c.files.delete("file-1"))
        value: str | None = caught.value.response.headers.get("x-should-retry")
        return value

    assert await marked(errors.FailedPrecondition("no", reason="WRONG_STATE")) == "false"
    assert await marked(errors.AlreadyExists("no", reason="TAKEN")) == "false"
    assert await marked(errors.DataLoss("no", reason="GONE")) == "false"
    assert await marked(errors.ResourceExhausted("no", reason="QUOTA_EXCEEDED")) == "false"
    assert await marked(errors.ResourceExhausted("no", reason="ENGINES_BUSY")) is None
    assert await marked(errors.Aborted("no", reason="CONTENDED")) is None


async def test_an_encoded_slash_stays_part_of_a_models_name(sdk: Sdk, owners: Owners) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk(lambda c: c.models.retrieve("meta/llama 3:ft@1"))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "The model 'meta/llama 3:ft@1' does not exist" in caught.value.message


async def test_an_encoded_slash_in_another_id_names_nothing(sdk: Sdk, owners: Owners) -> None:
    owners.add_file("file-1")
    owners.add_job("ftjob-1")
    works: list[Any] = [
        lambda c: c.files.retrieve("file-1/x"),
        lambda c: c.files.content("../file-1"),
        lambda c: c.files.delete("x/file-1"),
        lambda c: c.fine_tuning.jobs.retrieve("x/ftjob-1"),
        lambda c: c.fine_tuning.jobs.cancel("ftjob-1/x"),
    ]
    for work in works:
        with pytest.raises(openai.NotFoundError):
            await sdk(work)
    assert list(owners.files) == ["projects/default/files/file-1"]


@pytest.mark.parametrize("job", ["FTJOB-1", "ftjob_1", "ftjob-1 ", "%", "ü", "x" * 70])
async def test_an_id_that_cannot_exist_is_absent(sdk: Sdk, owners: Owners, job: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.retrieve(job))
    assert caught.value.code == "fine_tuning_job_not_found"
    assert caught.value.body == {
        "message": f"No such fine-tuning job: {job}",
        "type": "invalid_request_error",
        "param": None,
        "code": "fine_tuning_job_not_found",
    }


async def test_every_answer_has_an_id_of_its_own_that_the_owners_see(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.add_file("file-1")
    async with gateway.client() as client:
        file = await client.files.retrieve("file-1")
        assert file._request_id == owners.request_ids[-1]
        with pytest.raises(openai.NotFoundError) as caught:
            await client.files.retrieve("file-2")
        assert caught.value.request_id == owners.request_ids[-1]
        assert caught.value.request_id != file._request_id


async def test_an_id_given_by_the_caller_is_not_taken_over(
    http: httpx2.AsyncClient, owners: Owners
) -> None:
    answer = await http.get("/models", headers={"x-request-id": "mine", "luthier-request-id": "x"})
    assert answer.headers["x-request-id"].startswith("req_")
    assert set(owners.request_ids) == {answer.headers["x-request-id"]}
