"""Policy: who may call a method on which resource, as declared beside it in the proto."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from luthier.policy.v1 import policy_pb2

from luthier_common.errors import Internal, InvalidArgument, PermissionDenied, not_found
from luthier_common.identity import LIBRARY, Identity, Role
from luthier_common.names import project_of


def policy_of(method: str) -> policy_pb2.Policy | None:
    """Return the policy of `/package.Service/Method`; None when it declares none."""
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
    except KeyError:
        return None
    options = descriptor.GetOptions()
    extension = cast(Any, policy_pb2.policy)  # the stub types it as a plain field
    if not options.HasExtension(extension):
        return None
    return cast(policy_pb2.Policy, options.Extensions[extension])


def authorize(policy: policy_pb2.Policy | None, request: Message, identity: Identity) -> None:
    """Let the call pass, or raise.

    PermissionDenied: no policy, or too low a role. InvalidArgument: no sound resource name.
    NotFound: somebody else's resource, told exactly as an absent one is.
    """
    if policy is None or policy.role == policy_pb2.ROLE_UNSPECIFIED or not policy.resource_field:
        raise PermissionDenied("the method is open to nobody", reason="METHOD_CLOSED")
    if identity.role < policy.role:
        needed = Role(policy.role).name
        raise PermissionDenied(
            f"the method needs the role {needed}",
            reason="ROLE_TOO_LOW",
            metadata={"role": identity.role.name, "needed_role": needed},
        )
    name = _resource(request, policy.resource_field)
    project = project_of(name, field=policy.resource_field)
    if project == identity.project or (policy.library and project == LIBRARY):
        return
    if identity.role == Role.OPERATOR and policy.role == policy_pb2.ROLE_OPERATOR:
        return
    raise not_found(name)


def _resource(request: Message, path: str) -> str:
    value: object = request
    for step in path.split("."):
        if not isinstance(value, Message) or step not in value.DESCRIPTOR.fields_by_name:
            break
        value = getattr(value, step)
    else:
        if value == "":
            raise InvalidArgument(f"{path} is required", reason="FIELD_REQUIRED", field=path)
        if isinstance(value, str):
            return value
    raise Internal(f"the policy's field {path} is no string", reason="POLICY_INVALID")
