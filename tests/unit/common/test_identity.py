import asyncio
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from luthier.policy.v1 import policy_pb2
from luthier_common.errors import Unauthenticated
from luthier_common.identity import (
    Identity,
    IdentitySigner,
    Role,
    current_identity,
    service_identity,
    use_identity,
)

SECRET = "x" * 32
WHO = Identity("acme", Role.TUNER, "apiKeys/k1")


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": "luthier", "aud": "luthier", "iat": now, "exp": now + 60}
    good |= {"sub": "s", "project": "acme", "role": "ADMIN"}
    return {key: value for key, value in (good | changes).items() if value is not None}


def test_what_is_signed_is_verified() -> None:
    signer = IdentitySigner(SECRET)
    assert signer.verify(signer.sign(WHO)) == WHO
    assert IdentitySigner(SECRET).verify(jwt.encode(claims(), SECRET, "HS256")).project == "acme"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"aud": "other"},
        {"role": "ROOT"},
        {"role": 6},
        {"project": "Acme/../x"},
        {"iat": 4_102_444_800},  # the year 2100
        *({key: None} for key in ("iss", "aud", "iat", "exp", "sub", "project", "role")),
    ],
    ids=str,
)
def test_refuses_wrong_or_missing_claims(changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        IdentitySigner(SECRET).verify(jwt.encode(claims(**changes), SECRET, "HS256"))
    assert caught.value.reason == "IDENTITY_INVALID"


def test_refuses_expired() -> None:
    token = jwt.encode(claims(exp=int(time.time()) - 60), SECRET, "HS256")
    with pytest.raises(Unauthenticated) as caught:
        IdentitySigner(SECRET).verify(token)
    assert caught.value.reason == "IDENTITY_EXPIRED"


@pytest.mark.parametrize(
    "forge",
    [
        lambda: jwt.encode(claims(), "", "none"),
        lambda: jwt.encode(claims(), "y" * 32, "HS256"),
        lambda: jwt.encode(claims(), SECRET * 2, "HS512"),
        lambda: jwt.encode(claims(), SECRET, "HS256").rpartition(".")[0] + ".",
        lambda: "not a token",
        lambda: "ünicode.ünicode.ünicode",
    ],
    ids=["alg none", "wrong secret", "other algorithm", "stripped", "garbage", "unicode"],
)
def test_refuses_forged(forge: Callable[[], str]) -> None:
    with pytest.raises(Unauthenticated):
        IdentitySigner(SECRET).verify(forge())


def test_a_token_lives_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = IdentitySigner(SECRET)
    token = signer.sign(WHO)
    body = jwt.decode(token, options={"verify_signature": False})
    assert body["exp"] - body["iat"] == 300


def test_refuses_a_short_secret() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        IdentitySigner("short")


def test_roles_are_those_of_the_proto() -> None:
    declared = {name.removeprefix("ROLE_"): number for name, number in policy_pb2.Role.items()}
    declared.pop("UNSPECIFIED")
    assert {role.name: role.value for role in Role} == declared


async def test_the_current_identity_belongs_to_its_task() -> None:
    async def seen(identity: Identity) -> Identity:
        with use_identity(identity):
            await asyncio.sleep(0)
            return current_identity()

    others = [service_identity(f"p{number}", "trainer") for number in range(5)]
    assert await asyncio.gather(*map(seen, others)) == others
    with pytest.raises(Unauthenticated):
        current_identity()


async def test_a_call_without_a_token_is_refused() -> None:
    with pytest.raises(Unauthenticated) as caught:
        await IdentitySigner(SECRET).authenticate({})
    assert caught.value.reason == "IDENTITY_MISSING"
