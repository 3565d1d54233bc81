"""API keys: issued, listed and revoked; their secrets are shown once and never stored."""

from __future__ import annotations

import secrets
from typing import Any

from google.protobuf import empty_pb2
from google.protobuf.message import Message
from luthier.gateway.v1 import api_key_pb2, api_key_service_pb2, api_key_service_pb2_grpc
from luthier.gateway.v1.events_pb2 import ApiKeyCreated, ApiKeyDeleted
from luthier.policy.v1 import policy_pb2
from luthier_common.errors import AlreadyExists, InvalidArgument
from luthier_common.identity import LIBRARY
from luthier_common.names import check_id, format_name, new_id, parse
from luthier_common.paging import coerce_page_size
from luthier_common.records.collection import Collection

from luthier_gateway.identity import API_KEY, SECRET_PREFIX, KeyRing, digest_of

BOOTSTRAP_PROJECT = "default"
BOOTSTRAP_ID = "bootstrap"

_SECRET_BYTES = 32
_ISSUED_ROLES = range(policy_pb2.ROLE_VIEWER, policy_pb2.ROLE_OPERATOR + 1)
_DISPLAY_NAME_LIMIT = 200
_ORDERS = ("create_time desc", "create_time")


class ApiKeyService(api_key_service_pb2_grpc.ApiKeyServiceServicer):
    """Serves keys out of their collection; the ring learns of every change at once."""

    def __init__(self, records: Collection[api_key_pb2.ApiKey], ring: KeyRing) -> None:
        self._records = records
        self._ring = ring

    async def CreateApiKey(
        self, request: api_key_service_pb2.CreateApiKeyRequest, context: Any
    ) -> api_key_pb2.ApiKey:
        """Issue a key; only this answer shows the secret."""
        project = parse(request.parent, "projects/{project}", field="parent")["project"]
        if project == LIBRARY:
            raise InvalidArgument(
                f"{LIBRARY} holds what all projects share and has no keys of its own",
                reason="LIBRARY_HAS_NO_KEYS",
                field="parent",
            )
        key_id = request.api_key_id or new_id("key")
        name = format_name(API_KEY, project=project, api_key=check_id(key_id, field="api_key_id"))
        secret = SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        wanted = _checked(request.api_key)
        wanted.secret_sha256 = digest_of(secret)
        key = await self._records.create(name, wanted)
        self._ring.refresh()
        return _shown(key, secret=secret)

    async def ListApiKeys(
        self, request: api_key_service_pb2.ListApiKeysRequest, context: Any
    ) -> api_key_service_pb2.ListApiKeysResponse:
        """List a project's keys, without secrets and digests."""
        order_by = request.order_by or _ORDERS[0]
        if order_by not in _ORDERS:  # an order by digest would tell about secrets
            raise InvalidArgument(
                f"order_by must be one of {', '.join(_ORDERS)}",
                reason="INVALID_ORDER_BY",
                field="order_by",
            )
        page = self._records.list(
            request.parent,
            order_by=order_by,
            after=request.after or None,
            page_size=coerce_page_size(request.page_size, default=100, maximum=1000),
            page_token=request.page_token,
        )
        return api_key_service_pb2.ListApiKeysResponse(
            api_keys=[_shown(key) for key in page.items], next_page_token=page.next_page_token
        )

    async def DeleteApiKey(
        self, request: api_key_service_pb2.DeleteApiKeyRequest, context: Any
    ) -> empty_pb2.Empty:
        """Revoke a key."""
        parse(request.name, API_KEY)
        await self._records.delete(request.name)
        self._ring.refresh()
        return empty_pb2.Empty()


async def ensure_bootstrap_key(records: Collection[api_key_pb2.ApiKey], secret: str) -> None:
    """Have the operator key of project `default` be the one that the settings name."""
    name = format_name(API_KEY, project=BOOTSTRAP_PROJECT, api_key=BOOTSTRAP_ID)
    key = api_key_pb2.ApiKey(
        display_name="Bootstrap key, from the gateway's settings",
        role=policy_pb2.ROLE_OPERATOR,
        secret_sha256=digest_of(secret),
    )

    def renewed(stored: api_key_pb2.ApiKey) -> api_key_pb2.ApiKey | None:
        if stored.secret_sha256 == key.secret_sha256:
            return None
        stored.secret_sha256 = key.secret_sha256
        return stored

    try:
        await records.create(name, key)
    except AlreadyExists:
        await records.update(name, renewed)


def event_for(name: str, value: bytes | None, revision: int) -> tuple[str, Message]:
    """Return subject and fact of a committed change of a key's record."""
    ids = parse(name, API_KEY)
    subject = f"luthier.gateway.v1.apiKeys.{ids['project']}.{ids['api_key']}"
    if value is None:
        return f"{subject}.deleted", ApiKeyDeleted(name=name, revision=revision)
    return f"{subject}.created", ApiKeyCreated(name=name, revision=revision)


def _checked(given: api_key_pb2.ApiKey) -> api_key_pb2.ApiKey:
    if given.role not in _ISSUED_ROLES:
        raise InvalidArgument(
            "api_key.role must be one of ROLE_VIEWER, ROLE_USER, ROLE_TUNER, ROLE_ADMIN and "
            "ROLE_OPERATOR",
            reason="INVALID_ROLE",
            field="api_key.role",
        )
    if len(given.display_name) > _DISPLAY_NAME_LIMIT:
        raise InvalidArgument(
            f"api_key.display_name must have at most {_DISPLAY_NAME_LIMIT} characters",
            reason="DISPLAY_NAME_TOO_LONG",
            field="api_key.display_name",
        )
    return api_key_pb2.ApiKey(display_name=given.display_name, role=given.role)


def _shown(key: api_key_pb2.ApiKey, *, secret: str = "") -> api_key_pb2.ApiKey:
    shown = api_key_pb2.ApiKey()
    shown.CopyFrom(key)
    shown.secret_sha256 = ""
    shown.secret = secret
    return shown
