import pytest
from luthier.dataset.v1 import file_pb2, file_service_pb2
from luthier.policy.v1 import policy_pb2
from luthier_common.errors import (
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PlatformError,
    not_found,
)
from luthier_common.identity import Identity, Role
from luthier_common.policy import authorize, policy_of

GetFileRequest = file_service_pb2.GetFileRequest
OWN = GetFileRequest(name="projects/acme/files/f1")
FOREIGN = GetFileRequest(name="projects/other/files/f1")
SHARED = GetFileRequest(name="projects/library/files/f1")


def policy(
    role: Role = Role.VIEWER, field: str = "name", *, library: bool = False
) -> policy_pb2.Policy:
    return policy_pb2.Policy(
        role=policy_pb2.Role.Name(role.value), resource_field=field, library=library
    )


def who(role: Role, project: str = "acme") -> Identity:
    return Identity(project, role, "somebody")


def told(error: PlatformError) -> tuple[object, ...]:
    return type(error), error.message, error.reason, error.field, error.metadata


def test_reads_the_declared_option() -> None:
    declared = policy_of("/luthier.dataset.v1.FileService/GetFile")
    assert declared is not None
    assert (declared.role, declared.resource_field) == (policy_pb2.ROLE_VIEWER, "name")


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Check", "/no.such.Service/Get", ""])
def test_a_method_without_option_has_no_policy(method: str) -> None:
    assert policy_of(method) is None


@pytest.mark.parametrize(
    "closed",
    [None, policy_pb2.Policy(), policy_pb2.Policy(resource_field="name"), policy(field="")],
)
def test_no_policy_no_entry(closed: policy_pb2.Policy | None) -> None:
    with pytest.raises(PermissionDenied):
        authorize(closed, OWN, who(Role.SERVICE))


@pytest.mark.parametrize("needed", Role)
@pytest.mark.parametrize("given", Role)
def test_a_role_includes_those_below(needed: Role, given: Role) -> None:
    if given >= needed:
        authorize(policy(needed), OWN, who(given))
    else:
        with pytest.raises(PermissionDenied) as caught:
            authorize(policy(needed), OWN, who(given))
        assert caught.value.metadata == {"role": given.name, "needed_role": needed.name}


@pytest.mark.parametrize("role", Role)
def test_a_foreign_name_is_told_as_an_absent_one(role: Role) -> None:
    with pytest.raises(NotFound) as caught:
        authorize(policy(), FOREIGN, who(role))
    assert told(caught.value) == told(not_found(FOREIGN.name))


def test_only_an_operator_crosses_projects_and_only_on_operator_methods() -> None:
    authorize(policy(Role.OPERATOR), FOREIGN, who(Role.OPERATOR))
    with pytest.raises(NotFound):
        authorize(policy(Role.ADMIN), FOREIGN, who(Role.OPERATOR))
    with pytest.raises(NotFound):
        authorize(policy(Role.OPERATOR), FOREIGN, who(Role.SERVICE))


def test_the_library_is_open_where_the_policy_says_so() -> None:
    authorize(policy(library=True), SHARED, who(Role.VIEWER))
    with pytest.raises(NotFound):
        authorize(policy(), SHARED, who(Role.SERVICE))
    with pytest.raises(NotFound):
        authorize(policy(library=True), FOREIGN, who(Role.VIEWER))


@pytest.mark.parametrize(
    "name", ["", "projects", "projects/", "files/f1", "projects/A/files/f", "projects//files/f"]
)
def test_a_name_without_a_project_is_the_callers_mistake(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        authorize(policy(), GetFileRequest(name=name), who(Role.ADMIN))
    assert caught.value.field == "name"


def test_a_path_leads_into_messages() -> None:
    create = file_service_pb2.CreateFileRequest
    nested = policy(field="file.name")
    authorize(nested, create(file=file_pb2.File(name=OWN.name)), who(Role.ADMIN))
    with pytest.raises(NotFound):
        authorize(nested, create(file=file_pb2.File(name=FOREIGN.name)), who(Role.ADMIN))
    with pytest.raises(InvalidArgument) as caught:
        authorize(nested, create(parent="projects/acme"), who(Role.ADMIN))
    assert caught.value.field == "file.name"


@pytest.mark.parametrize("field", ["nope", "file.nope", "file", "chunk", "parent.x"])
def test_a_policy_that_names_no_string_lets_nobody_in(field: str) -> None:
    request = file_service_pb2.CreateFileRequest(parent="projects/acme")
    with pytest.raises(Internal):
        authorize(policy(field=field), request, who(Role.SERVICE))
