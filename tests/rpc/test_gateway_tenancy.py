"""Projects: what belongs to another one answers exactly as what does not exist.

The routes and methods are enumerated, so that a new one is tested without being thought of.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

import httpx2
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from luthier.policy.v1 import policy_pb2
from luthier_common.errors import NotFound, PermissionDenied, PlatformError
from luthier_gateway.rest import create_api

from tests.support.gateway import RunningGateway, bearer
from tests.support.rpc_methods import (
    failure,
    path,
    policy,
    public_methods,
    request_for,
    resource_type,
)
from tests.support.scripted_owners import Owners

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN, RIVAL, NOBODY = "acme", "rivals", "nobody"

# By path parameter: names that a rival has, and names that nobody has, of the same length.
NAMES = {
    "file_id": [("file-secret", "file-absent")],
    "upload_id": [("upload-secret", "upload-absent")],
    "job_id": [("ftjob-secret", "ftjob-absent")],
    "dataset_id": [("dataset-secret", "dataset-absent")],
    "model": [
        ("base-secret", "base-absent"),
        (
            "ft:luthier-starter:rivals:support:ad-secret",
            "ft:luthier-starter:rivals:support:ad-absent",
        ),
        ("ft:luthier-starter:acme:support:ad-secret", "ft:luthier-starter:acme:support:ad-absent"),
        ("ad-secret", "ad-absent"),
    ],
}
# By resource type of the protos.
RESOURCES = {
    "luthier.dev/File": ("files/file-secret", "files/file-absent"),
    "luthier.dev/Upload": ("uploads/upload-secret", "uploads/upload-absent"),
    "luthier.dev/Dataset": ("datasets/dataset-secret", "datasets/dataset-absent"),
    "luthier.dev/QualityReport": (
        "datasets/dataset-secret/qualityReport",
        "datasets/dataset-absent/qualityReport",
    ),
    "luthier.dev/Manifest": (
        "datasets/dataset-secret/manifest",
        "datasets/dataset-absent/manifest",
    ),
    "luthier.dev/TrainingJob": ("trainingJobs/ftjob-secret", "trainingJobs/ftjob-absent"),
    "luthier.dev/BaseModel": ("baseModels/base-secret", "baseModels/base-absent"),
    "luthier.dev/Adapter": ("adapters/ad-secret", "adapters/ad-absent"),
    "luthier.dev/ApiKey": ("apiKeys/key-secret", "apiKeys/key-absent"),
}


def rest_routes() -> list[tuple[str, str]]:
    """Return method and template of every route."""
    api = create_api(cast(Any, None), cast(Any, None))
    paths: dict[str, dict[str, Any]] = api.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def parameters(template: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", template)


ROUTES = rest_routes()
NAMING_ROUTES = [route for route in ROUTES if parameters(route[1])]
METHODS = public_methods()


def hold_everything(owners: Owners, project: str) -> None:
    """Have a project own one of everything."""
    owners.add_file("file-secret", b"secret", project)
    owners.add_upload("upload-secret", project)
    job = owners.add_job("ftjob-secret", project)
    owners.add_event(job.name, 1, message="secret")
    owners.add_dataset("dataset-secret", project)
    owners.add_adapter("ad-secret", project)
    owners.add_model("base-secret", project)


def held(owners: Owners) -> dict[str, bytes]:
    """Return everything that anybody has."""
    shelves: tuple[Any, ...] = (
        owners.files,
        owners.uploads,
        owners.jobs,
        owners.datasets,
        owners.adapters,
        owners.base_models,
    )
    return {name: one.SerializeToString() for shelf in shelves for name, one in shelf.items()}


@dataclass(frozen=True)
class Project:
    """Somebody's access: a key, and a client that sends it."""

    secret: str
    http: httpx2.AsyncClient

    async def ask(self, method: str, path: str) -> httpx2.Response:
        headers = {"content-type": "application/json"}
        return await self.http.request(method, path, headers=headers)


Projects = dict[str, Project]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def projects(gateway_process: RunningGateway) -> AsyncIterator[Projects]:
    """The caller, an operator of the same project, and a rival, whose key has an id to guess."""
    async with AsyncExitStack() as stack:

        async def project(role: policy_pb2.Role, name: str, key_id: str = "") -> Project:
            key = await gateway_process.issue_key(role, name, key_id)
            http = await stack.enter_async_context(gateway_process.http(key.secret))
            http.base_url = gateway_process.rest
            return Project(key.secret, http)

        yield {
            OWN: await project(policy_pb2.ROLE_ADMIN, OWN),
            RIVAL: await project(policy_pb2.ROLE_ADMIN, RIVAL, "key-secret"),
            "operator": await project(policy_pb2.ROLE_OPERATOR, OWN),
        }


def without(answer: httpx2.Response, name: str) -> tuple[int, str, dict[str, str]]:
    """Return an answer without the name that was asked for and what every answer has its own."""
    headers = {
        key: value for key, value in answer.headers.items() if key not in ("date", "x-request-id")
    }
    return answer.status_code, answer.text.replace(name, "…"), headers


async def test_the_tables_know_every_parameter_and_every_resource() -> None:
    assert {one for _, template in ROUTES for one in parameters(template)} == set(NAMES)
    assert {resource_type(method) for method in METHODS} - {""} == set(RESOURCES)
    assert len(NAMING_ROUTES) >= 12
    assert len(METHODS) >= 30


@pytest.mark.parametrize("route", NAMING_ROUTES, ids=" ".join)
async def test_a_foreign_name_in_a_path_answers_as_an_absent_one(
    gateway: RunningGateway,
    owners: Owners,
    projects: Projects,
    route: tuple[str, str],
) -> None:
    method, template = route
    (parameter,) = parameters(template)
    hold_everything(owners, RIVAL)
    before = held(owners)
    for foreign, absent in NAMES[parameter]:
        answers = [
            without(
                await projects[OWN].ask(
                    method,
                    template.replace(f"{{{parameter}}}", quote(name, "")),
                ),
                name,
            )
            for name in (foreign, absent)
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
    assert held(owners) == before
    foreign, _ = NAMES[parameter][0]
    theirs = template.replace(f"{{{parameter}}}", foreign)
    answer = await projects[RIVAL].ask(method, theirs)
    assert answer.status_code != 404, "the name to hide must exist"


@pytest.mark.parametrize(
    ("path", "foreign", "absent"),
    [
        ("/v1/files", "file-secret", "file-absent"),
        ("/v1/fine_tuning/jobs", "ftjob-secret", "ftjob-absent"),
        ("/v1/datasets", "dataset-secret", "dataset-absent"),
    ],
)
async def test_a_foreign_name_to_go_on_from_answers_as_an_absent_one(
    gateway: RunningGateway,
    owners: Owners,
    projects: Projects,
    path: str,
    foreign: str,
    absent: str,
) -> None:
    hold_everything(owners, RIVAL)
    answers = [
        without(await projects[OWN].ask("GET", f"{path}?after={name}"), name)
        for name in (foreign, absent)
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 400


LISTS = [template for method, template in ROUTES if method == "GET" and not parameters(template)]


@pytest.mark.parametrize("path", LISTS)
async def test_lists_hold_nothing_of_others(
    gateway: RunningGateway, owners: Owners, projects: Projects, path: str
) -> None:
    hold_everything(owners, RIVAL)
    answer = await projects[OWN].ask("GET", path)
    assert answer.status_code == 200
    assert "secret" not in answer.text
    assert RIVAL not in answer.text
    theirs = await projects[RIVAL].ask("GET", path)
    assert "secret" in theirs.text


BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"model": "NAME", "messages": [{"role": "user", "content": "x"}]}),
    ("/v1/completions", {"model": "NAME", "prompt": "x"}),
    ("/v1/embeddings", {"model": "NAME", "input": "x"}),
    ("/v1/fine_tuning/jobs", {"model": "NAME", "training_file": "file-1"}),
    (
        "/v1/datasets",
        {"model": "NAME", "source_files": ["file-1"], "recipes": [{"type": "headings"}]},
    ),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_a_foreign_model_in_a_body_answers_as_an_absent_one(
    gateway: RunningGateway,
    owners: Owners,
    projects: Projects,
    path: str,
    body: dict[str, Any],
) -> None:
    hold_everything(owners, RIVAL)
    client = projects[OWN].http
    for foreign, absent in NAMES["model"]:
        answers = [
            without(await client.post(path, json=body | {"model": name}), name)
            for name in (foreign, absent)
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] in (400, 404)


async def test_ids_in_bodies_mean_resources_of_the_caller_and_nothing_else(
    gateway: RunningGateway, owners: Owners, projects: Projects
) -> None:
    client = projects[OWN].http
    job = {
        "model": "luthier-starter",
        "training_file": "file-secret",
        "validation_file": "file-secret",
    }
    dataset = {
        "model": "luthier-starter",
        "source_files": ["file-secret"],
        "recipes": [{"type": "headings"}],
    }
    for where, body in (("/v1/fine_tuning/jobs", job), ("/v1/datasets", dataset)):
        assert (await client.post(where, json=body)).status_code == 200
        text = json.dumps(body).replace("file-secret", "../../rivals/files/file-secret")
        answer = await client.post(where, json=json.loads(text))
        assert answer.status_code == 404
    named = {project for request in owners.requests for project in projects_in(request)}
    assert named == {OWN, "library"}
    assert {caller.split()[0] for caller in owners.callers} == {OWN}


def projects_in(message: Message) -> set[str]:
    """Return the projects of all names in a message."""
    found: set[str] = set()
    for field, value in message.ListFields():
        values = list(value) if isinstance(value, list) or field.is_repeated else [value]
        for one in values:
            if field.type == FieldDescriptor.TYPE_MESSAGE and isinstance(one, Message):
                found |= projects_in(one)
            elif isinstance(one, str):
                found |= set(re.findall(r"projects/([^/]+)", one))
    return found


def facts(error: PlatformError, name: str) -> tuple[Any, ...]:
    """Return everything an error tells, without the name that was asked for."""
    metadata = {key: value.replace(name, "…") for key, value in error.metadata.items()}
    message = error.message.replace(name, "…")
    return type(error), message, error.reason, error.field, metadata


@pytest.mark.parametrize("method", METHODS, ids=path)
async def test_a_foreign_name_in_a_call_answers_as_an_absent_one(
    gateway: RunningGateway,
    owners: Owners,
    projects: Projects,
    method: MethodDescriptor,
) -> None:
    hold_everything(owners, RIVAL)
    before = held(owners)
    names = [f"projects/{RIVAL}", f"projects/{NOBODY}"]
    kind = resource_type(method)
    if kind:
        secret, absent = RESOURCES[kind]
        names = [f"{project}/{one}" for project in names for one in (secret, absent)]
        names.append(f"projects/{OWN}/{absent}")
    async with gateway.channel() as channel:
        answers = [
            facts(
                await failure(
                    channel, method, request_for(method, name), bearer(projects[OWN].secret)
                ),
                name,
            )
            for name in names
        ]
    assert all(answer == answers[0] for answer in answers)
    for_operators = policy(method).role == policy_pb2.ROLE_OPERATOR
    assert answers[0][0] is (PermissionDenied if for_operators else NotFound)
    assert held(owners) == before
    assert all(caller.startswith(f"{OWN} ") for caller in owners.callers)


async def test_an_operator_of_one_project_reads_nothing_of_another(
    gateway: RunningGateway, owners: Owners, projects: Projects
) -> None:
    hold_everything(owners, RIVAL)
    operator = projects["operator"]
    for method, template in NAMING_ROUTES:
        (parameter,) = parameters(template)
        where = template.replace(f"{{{parameter}}}", NAMES[parameter][0][0])
        assert (await projects["operator"].ask(method, where)).status_code == 404
    async with gateway.channel() as channel:
        for one in METHODS:
            if policy(one).role != policy_pb2.ROLE_OPERATOR:
                name = f"projects/{RIVAL}"
                if kind := resource_type(one):
                    name = f"{name}/{RESOURCES[kind][0]}"
                error = await failure(channel, one, request_for(one, name), bearer(operator.secret))
                assert isinstance(error, NotFound)
