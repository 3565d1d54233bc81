"""The public gRPC API: forwarded to its owners in the name of whose key was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from luthier.dataset.v1 import file_pb2, file_service_pb2, file_service_pb2_grpc
from luthier.gateway.v1 import api_key_pb2, api_key_service_pb2, api_key_service_pb2_grpc
from luthier.inference.v1 import (
    base_model_service_pb2,
    base_model_service_pb2_grpc,
    generation_pb2,
    generation_service_pb2,
    generation_service_pb2_grpc,
)
from luthier.policy.v1 import policy_pb2
from luthier.trainer.v1 import (
    training_job_pb2,
    training_job_service_pb2,
    training_job_service_pb2_grpc,
)
from luthier_common.errors import (
    Conflict,
    InvalidArgument,
    PlatformError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from luthier_common.identity import IDENTITY_HEADER, Identity, IdentitySigner, Role
from luthier_common.rpc.status import from_rpc_error

from tests.support.eventually import eventually
from tests.support.gateway import KEY, RunningGateway, bearer, running_gateway, settings
from tests.support.grpc_server import SECRET
from tests.support.nats_server import nats_server
from tests.support.rpc_methods import (
    all_methods,
    call,
    failure,
    path,
    policy,
    public_methods,
    request_for,
    resource_type,
)
from tests.support.scripted_owners import BASE_DIGEST, Owners, scripted_owners

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = public_methods()
CLOSED = [method for method in all_methods() if not policy(method).public]
FILE = "projects/default/files/file-1"


async def told(calling: Any) -> PlatformError:
    """Return what a call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    return from_rpc_error(caught.value)


def some_request(method: MethodDescriptor, project: str = "default") -> Any:
    kind = resource_type(method).removeprefix("luthier.dev/")
    name = f"projects/{project}"
    if kind:
        name += f"/{kind[0].lower()}{kind[1:]}s/x-1"
    return request_for(method, name)


async def test_there_are_both_public_and_closed_methods() -> None:
    assert len(PUBLIC) >= 30
    assert {method.name for method in CLOSED} >= {
        "CreateAdapter",
        "Generate",
        "ReportRun",
        "CompleteRun",
    }


@pytest.mark.parametrize("method", CLOSED, ids=path)
async def test_a_method_that_is_not_public_is_not_there(
    gateway: RunningGateway, owners: Owners, method: MethodDescriptor
) -> None:
    signed = IdentitySigner(SECRET).sign(Identity("default", Role.SERVICE, "services/trainer"))
    metadata = (*bearer(KEY), (IDENTITY_HEADER, signed))
    async with gateway.channel() as channel:
        error = await failure(channel, method, some_request(method), metadata)
    assert error.reason == "UNIMPLEMENTED"
    assert owners.requests == []


@pytest.mark.parametrize("method", PUBLIC, ids=path)
async def test_a_call_without_a_key_is_refused_whatever_identity_it_claims(
    gateway: RunningGateway, owners: Owners, method: MethodDescriptor
) -> None:
    signed = IdentitySigner(SECRET).sign(Identity("default", Role.OPERATOR, "apiKeys/mine"))
    claims: list[Any] = [
        (),
        bearer("sk-luthier-nobody"),
        ((IDENTITY_HEADER, signed),),
        (("authorization", f"Bearer {signed}"),),
        (("x-api-key", KEY),),
    ]
    async with gateway.channel() as channel:
        for metadata in claims:
            error = await failure(channel, method, some_request(method), metadata)
            assert isinstance(error, Unauthenticated)
            assert error.reason == "INVALID_API_KEY"
    assert owners.requests == []


async def test_the_identity_is_that_of_the_key_and_never_the_callers_word(
    gateway: RunningGateway, owners: Owners
) -> None:
    key = await gateway.issue_key(policy_pb2.ROLE_VIEWER, "acme", "key-reader")
    signed = IdentitySigner(SECRET).sign(Identity("rivals", Role.SERVICE, "services/trainer"))
    metadata = (*bearer(key.secret), (IDENTITY_HEADER, signed))
    async with gateway.channel() as channel:
        files = file_service_pb2_grpc.FileServiceStub(channel)
        await files.ListFiles(
            file_service_pb2.ListFilesRequest(parent="projects/acme"), metadata=metadata
        )
        assert owners.callers == ["acme VIEWER apiKeys/key-reader"]
        theirs = file_service_pb2.ListFilesRequest(parent="projects/rivals")
        error = await told(files.ListFiles(theirs, metadata=metadata))
        assert error.reason == "RESOURCE_NOT_FOUND"
        made = file_service_pb2.DeleteFileRequest(name="projects/acme/files/file-1")
        error = await told(files.DeleteFile(made, metadata=metadata))
        assert error.reason == "ROLE_TOO_LOW"
    assert len(owners.callers) == 1


async def test_a_file_goes_up_and_comes_down(gateway: RunningGateway, owners: Owners) -> None:
    data = bytes(range(256)) * 4_000

    def pieces() -> Iterator[file_service_pb2.CreateFileRequest]:
        file = file_pb2.File(display_name="rows.jsonl", purpose=file_pb2.File.FINE_TUNE)
        yield file_service_pb2.CreateFileRequest(parent="projects/default", file=file)
        for start in range(0, len(data), 100_000):
            yield file_service_pb2.CreateFileRequest(chunk=data[start : start + 100_000])
        yield file_service_pb2.CreateFileRequest(last=True)

    async with gateway.channel() as channel:
        files = file_service_pb2_grpc.FileServiceStub(channel)
        file = await files.CreateFile(pieces(), metadata=bearer(KEY))
        assert file.size_bytes == len(data)
        request = file_service_pb2.DownloadFileRequest(name=file.name)
        answers = files.DownloadFile(request, metadata=bearer(KEY))
        assert b"".join([answer.chunk async for answer in answers]) == data


async def test_a_job_is_created_and_an_answer_is_streamed(
    gateway: RunningGateway, owners: Owners
) -> None:
    job = training_job_pb2.TrainingJob(
        base_model="projects/library/baseModels/luthier-starter", training_file=FILE
    )
    create = training_job_service_pb2.CreateTrainingJobRequest(
        parent="projects/default", training_job=job, request_id="once"
    )
    ask = generation_service_pb2.StreamChatRequest(
        parent="projects/default", model="projects/library/baseModels/luthier-starter"
    )
    async with gateway.channel() as channel:
        jobs = training_job_service_pb2_grpc.TrainingJobServiceStub(channel)
        made = await jobs.CreateTrainingJob(create, metadata=bearer(KEY))
        assert made.state == training_job_pb2.TrainingJob.VALIDATING
        sent = owners.last(training_job_service_pb2.CreateTrainingJobRequest)
        assert sent.request_id == "once"
        generation = generation_service_pb2_grpc.GenerationServiceStub(channel)
        answers = [one async for one in generation.StreamChat(ask, metadata=bearer(KEY))]
    assert [one.text for one in answers] == ["Hel", "lo", ""]
    assert answers[-1].finish.completion_tokens == 2


async def test_every_way_of_asking_a_model_is_forwarded(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.answer = ("{text}", "{index}")
    who: dict[str, Any] = {
        "parent": "projects/default",
        "model": "projects/library/baseModels/luthier-starter",
    }
    sampling = generation_pb2.SamplingParameters(answer_count=2, logprobs=True)
    complete = generation_service_pb2.CompleteRequest(**who, text="a", sampling=sampling)
    stream = generation_service_pb2.StreamCompleteRequest(**who, text="a", sampling=sampling)
    chat = generation_service_pb2.ChatRequest(
        **who,
        messages=[generation_pb2.ChatMessage(role="user", content="Hello")],
        tools=[generation_pb2.Tool(name="clock")],
        tool_choice=generation_pb2.ToolChoice(mode=generation_pb2.ToolChoice.REQUIRED),
    )
    embed = generation_service_pb2.EmbedRequest(**who, texts=["a b", "c"])
    async with gateway.channel() as channel:
        generation = generation_service_pb2_grpc.GenerationServiceStub(channel)
        whole = await generation.Complete(complete, metadata=bearer(KEY))
        pieces = [one async for one in generation.StreamComplete(stream, metadata=bearer(KEY))]
        owners.tool_calls = [generation_pb2.ToolCall(id="call-1", name="clock", arguments="{}")]
        called = await generation.Chat(chat, metadata=bearer(KEY))
        vectors = await generation.Embed(embed, metadata=bearer(KEY))
    assert [answer.text for answer in whole.answers] == ["a0", "a1"]
    assert [token.text for token in whole.answers[1].tokens] == [b"a", b"1"]
    assert [(one.answer_index, one.text) for one in pieces[:4]] == [
        (0, "a"),
        (1, "a"),
        (0, "0"),
        (1, "1"),
    ]
    assert {one.answer_index for one in pieces if one.HasField("finish")} == {0, 1}
    assert called.answers[0].finish.tool_calls == owners.tool_calls
    assert owners.last(generation_service_pb2.ChatRequest) == chat
    assert [one.token_count for one in vectors.embeddings] == [2, 1]
    assert {one.base_model_digest for one in (whole, called, vectors)} == {BASE_DIGEST}


async def test_a_caller_who_gives_up_ends_the_owners_work(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.hang = asyncio.Event()
    ask = generation_service_pb2.ChatRequest(
        parent="projects/default", model="projects/library/baseModels/luthier-starter"
    )
    async with gateway.channel() as channel:
        generation = generation_service_pb2_grpc.GenerationServiceStub(channel)
        calling = generation.Chat(ask, metadata=bearer(KEY))
        await eventually(lambda: owners.writing == 1)
        calling.cancel()
        await eventually(lambda: owners.writing == 0)


async def test_the_library_is_open_to_every_project(
    gateway: RunningGateway, owners: Owners
) -> None:
    key = await gateway.issue_key(policy_pb2.ROLE_VIEWER, "acme")
    async with gateway.channel() as channel:
        models = base_model_service_pb2_grpc.BaseModelServiceStub(channel)
        request = base_model_service_pb2.ListBaseModelsRequest(parent="projects/library")
        listed = await models.ListBaseModels(request, metadata=bearer(key.secret))
    assert [model.name for model in listed.base_models] == [
        "projects/library/baseModels/luthier-starter"
    ]


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("line 3 is bad", reason="INVALID_ROW", field="file"),
        Conflict("the etag is stale", reason="STALE_REVISION"),
        ResourceExhausted("busy", reason="BUSY", metadata={"retry_after_seconds": "2.5"}),
    ],
)
async def test_errors_come_through_as_they_were_raised(
    gateway: RunningGateway, owners: Owners, error: PlatformError
) -> None:
    owners.failure = error
    async with gateway.channel() as channel:
        files = file_service_pb2_grpc.FileServiceStub(channel)
        request = file_service_pb2.DeleteFileRequest(name=FILE)
        got = await told(files.DeleteFile(request, metadata=bearer(KEY)))
    assert type(got) is type(error)
    assert (got.message, got.reason, got.field, got.metadata) == (
        error.message,
        error.reason,
        error.field,
        error.metadata,
    )


async def test_a_stream_that_breaks_breaks_for_the_caller(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.add_file("file-1", b"x" * 300_000)
    owners.break_after = Unavailable("the store went away", reason="STORE_LOST")
    seen = 0
    async with gateway.channel() as channel:
        files = file_service_pb2_grpc.FileServiceStub(channel)
        request = file_service_pb2.DownloadFileRequest(name=FILE)

        async def read() -> None:
            nonlocal seen
            async for answer in files.DownloadFile(request, metadata=bearer(KEY)):
                seen += len(answer.chunk)

        error = await told(read())
    assert seen == 100_000
    assert error.reason == "STORE_LOST"


async def test_the_callers_deadline_is_the_owners(gateway: RunningGateway, owners: Owners) -> None:
    owners.add_file("file-1")
    async with gateway.channel() as channel:
        files = file_service_pb2_grpc.FileServiceStub(channel)
        request = file_service_pb2.GetFileRequest(name=FILE)
        await files.GetFile(request, metadata=bearer(KEY), timeout=3)
    assert owners.deadlines[-1] is not None
    assert owners.deadlines[-1] <= 3.5  # it travels in rounded units


async def test_a_caller_who_hangs_up_ends_the_owners_work(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.hang = asyncio.Event()
    ask = generation_service_pb2.StreamChatRequest(
        parent="projects/default", model="projects/library/baseModels/luthier-starter"
    )
    async with gateway.channel() as channel:
        generation = generation_service_pb2_grpc.GenerationServiceStub(channel)
        answers = generation.StreamChat(ask, metadata=bearer(KEY))
        assert (await anext(aiter(answers))).text == "Hel"
        answers.cancel()
        await eventually(owners.hung_up.is_set)


async def test_health_is_told_to_anybody(gateway: RunningGateway) -> None:
    async with gateway.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # the stubs know no methods
        for service in ("luthier.gateway.v1.ApiKeyService", "luthier.dataset.v1.FileService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_secret_is_shown_once_and_its_digest_never(gateway: RunningGateway) -> None:
    key = await gateway.issue_key(policy_pb2.ROLE_USER, "shown")
    assert key.secret.startswith("sk-luthier-")
    assert key.secret_sha256 == ""
    async with gateway.channel() as channel:
        keys = api_key_service_pb2_grpc.ApiKeyServiceStub(channel)
        request = api_key_service_pb2.ListApiKeysRequest(parent="projects/shown")
        listed = await keys.ListApiKeys(request, metadata=bearer(KEY))
    (shown,) = listed.api_keys
    assert (shown.name, shown.role) == (key.name, policy_pb2.ROLE_USER)
    assert (shown.secret, shown.secret_sha256) == ("", "")


@pytest.mark.parametrize(
    ("key", "key_id", "order", "field"),
    [
        (api_key_pb2.ApiKey(), "", "", "api_key.role"),
        (api_key_pb2.ApiKey(role=policy_pb2.ROLE_SERVICE), "", "", "api_key.role"),
        (
            api_key_pb2.ApiKey(role=policy_pb2.ROLE_USER, display_name="x" * 201),
            "",
            "",
            "api_key.display_name",
        ),
        (api_key_pb2.ApiKey(role=policy_pb2.ROLE_USER), "No Id", "", "api_key_id"),
        (None, "", "secret_sha256", "order_by"),
    ],
)
async def test_a_wrong_field_of_a_key_is_named(
    gateway: RunningGateway, key: api_key_pb2.ApiKey | None, key_id: str, order: str, field: str
) -> None:
    async with gateway.channel() as channel:
        keys = api_key_service_pb2_grpc.ApiKeyServiceStub(channel)
        parent = "projects/default"
        if key is None:
            listing = api_key_service_pb2.ListApiKeysRequest(parent=parent, order_by=order)
            error = await told(keys.ListApiKeys(listing, metadata=bearer(KEY)))
        else:
            request = api_key_service_pb2.CreateApiKeyRequest(
                parent=parent, api_key=key, api_key_id=key_id
            )
            error = await told(keys.CreateApiKey(request, metadata=bearer(KEY)))
    assert isinstance(error, InvalidArgument)
    assert error.field == field


async def test_a_revoked_key_opens_nothing_any_more(
    gateway: RunningGateway, owners: Owners
) -> None:
    key = await gateway.issue_key(policy_pb2.ROLE_ADMIN, "acme")
    method = next(method for method in PUBLIC if method.name == "ListFiles")
    async with gateway.channel() as channel:
        await call(channel, method, some_request(method, "acme"), bearer(key.secret))
        await gateway.revoke_key(key)
        error = await failure(channel, method, some_request(method, "acme"), bearer(key.secret))
    assert error.reason == "INVALID_API_KEY"


async def test_keys_outlive_the_gateway_and_a_new_bootstrap_key_replaces_the_old(
    tmp_path: Path,
) -> None:
    new = "sk-luthier-another-operator-of-the-tests"
    async with nats_server(tmp_path) as nats, scripted_owners() as (owners, server):
        configured = settings(tmp_path, nats.url, server.address)
        async with running_gateway(configured, owners) as first:
            issued = await first.issue_key(policy_pb2.ROLE_VIEWER)
        configured = settings(tmp_path, nats.url, server.address, bootstrap_api_key=new)
        async with running_gateway(configured, owners) as second:
            method = next(method for method in PUBLIC if method.name == "ListFiles")
            async with second.channel() as channel:
                for key in (issued.secret, new):
                    await call(channel, method, some_request(method), bearer(key))
                error = await failure(channel, method, some_request(method), bearer(KEY))
    assert error.reason == "INVALID_API_KEY"


async def test_what_one_gateway_revokes_another_refuses_soon(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats, scripted_owners() as (owners, server):
        configured = settings(tmp_path, nats.url, server.address)
        async with (
            running_gateway(configured, owners) as one,
            running_gateway(configured, owners) as other,
        ):
            key = await one.issue_key(policy_pb2.ROLE_VIEWER)
            async with other.http(key.secret) as client:

                async def answers(status: int) -> bool:
                    return (await client.get("/models")).status_code == status

                await eventually(lambda: answers(200))
                await one.revoke_key(key)
                await eventually(lambda: answers(401))
