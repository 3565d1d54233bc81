"""Identity: who is asking, as a short-lived signed token between services."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import jwt

from luthier_common.errors import InvalidArgument, Unauthenticated
from luthier_common.names import check_id

LIBRARY = "library"
"""The project whose resources all projects may read where a method's policy says so."""

IDENTITY_HEADER = "luthier-identity"
"""The gRPC metadata key that carries the token."""

LIFETIME_SECONDS = 300
_LEEWAY_SECONDS = 10  # clocks of two machines never agree quite
_ALGORITHM = "HS256"
_PARTY = "luthier"  # issuer and audience: tokens of other systems sharing a secret are refused
_CLAIMS = ["aud", "exp", "iat", "iss", "project", "role", "sub"]


class Role(enum.IntEnum):
    """What an identity may do; each role includes those below it. Numbers as in policy.proto."""

    VIEWER = 1
    USER = 2
    TUNER = 3
    ADMIN = 4
    OPERATOR = 5
    SERVICE = 6


@dataclass(frozen=True)
class Identity:
    """Who asks: `subject` (a key, a person, a service) acting in `project` with `role`."""

    project: str
    role: Role
    subject: str


def service_identity(project: str, service: str) -> Identity:
    """Return the identity of a platform service that works on behalf of `project`."""
    return Identity(project, Role.SERVICE, f"services/{service}")


class IdentitySigner:
    """Signs and verifies identities with the secret that all services share (32 bytes or more)."""

    def __init__(self, secret: str) -> None:
        if len(secret.encode()) < 32:
            raise ValueError("the identity secret must have at least 32 bytes")
        self._secret = secret

    def sign(self, identity: Identity) -> str:
        """Return a token that is good for `LIFETIME_SECONDS`."""
        now = int(time.time())
        claims = {
            "iss": _PARTY,
            "aud": _PARTY,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "sub": identity.subject,
            "project": identity.project,
            "role": identity.role.name,
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def verify(self, token: str) -> Identity:
        """Return the identity in `token`; Unauthenticated when it is not ours or is expired."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_PARTY,
                issuer=_PARTY,
                leeway=_LEEWAY_SECONDS,
                options={"require": _CLAIMS},
            )
            project = check_id(str(claims["project"]), field="project")
            return Identity(project, Role[str(claims["role"])], str(claims["sub"]))
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the identity has expired", reason="IDENTITY_EXPIRED") from error
        except (jwt.InvalidTokenError, InvalidArgument, KeyError) as error:
            raise Unauthenticated("the identity is not valid", reason="IDENTITY_INVALID") from error

    async def authenticate(self, metadata: Mapping[str, str]) -> Identity:
        """Return the identity that came with a call; Unauthenticated when there is none."""
        token = metadata.get(IDENTITY_HEADER)
        if not token:
            raise Unauthenticated("the call carries no identity", reason="IDENTITY_MISSING")
        return self.verify(token)


_current: ContextVar[Identity | None] = ContextVar("identity", default=None)


def current_identity() -> Identity:
    """Return who is being served; Unauthenticated outside of a call."""
    identity = _current.get()
    if identity is None:
        raise Unauthenticated("no identity is at hand", reason="IDENTITY_MISSING")
    return identity


def identity_or_none() -> Identity | None:
    """Return who is being served, if anybody."""
    return _current.get()


def set_identity(identity: Identity) -> None:
    """Make `identity` the current one for the rest of this task: for servers, a task a call."""
    _current.set(identity)


@contextmanager
def use_identity(identity: Identity) -> Iterator[None]:
    """Make `identity` the current one inside the block."""
    token = _current.set(identity)
    try:
        yield
    finally:
        _current.reset(token)
