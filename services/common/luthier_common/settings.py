"""Settings: environment variables into one checked object, every problem reported at once."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import pydantic
import pydantic_settings
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "LUTHIER_"


class SettingsError(Exception):
    """The environment does not describe a process that can run; `problems` lists all of it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("invalid settings:\n" + "\n".join(f"  {line}" for line in problems))
        self.problems = problems


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` (`[host]:port` for IPv6); ValueError otherwise."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError("must be host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _checked_address(address: str) -> str:
    split_address(address)
    return address


Address = Annotated[str, AfterValidator(_checked_address)]
"""`host:port`; port 0 means any free one."""


class ServiceSettings(BaseSettings):
    """What every service needs to know; services add their own fields in a subclass."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, hide_input_in_errors=True)

    grpc_address: Address = "127.0.0.1:0"
    """Where gRPC is served."""

    metrics_address: Address = "127.0.0.1:0"
    """Where `/metrics`, `/healthz` and `/readyz` are served."""

    nats_url: str = "nats://127.0.0.1:4222"
    """The NATS server; may carry credentials."""

    objects_url: str
    """The object store: `file:///dir` or `s3+https://host:port/bucket`."""

    objects_access_key: str = ""
    """Access key of an S3 store."""

    objects_secret_key: SecretStr = SecretStr("")
    """Secret key of an S3 store."""

    identity_secret: Annotated[SecretStr, Field(min_length=32)]
    """The secret that all services share to sign identities; at least 32 bytes."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least level that is logged."""

    drain_seconds: Annotated[float, Field(ge=0)] = 20.0
    """How long running calls may go on after SIGTERM, in seconds."""


S = TypeVar("S", bound=BaseSettings)


def load(settings_class: type[S]) -> S:
    """Read the environment; SettingsError names every variable at fault, never its value."""
    try:
        return settings_class()
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        problems = [_problem(".".join(map(str, item["loc"])), item["msg"]) for item in details]
        raise SettingsError(problems) from None
    except pydantic_settings.SettingsError as error:
        # A list or mapping that is not JSON stops the reading of the environment itself.
        raise SettingsError([str(error)]) from None


def _problem(field: str, message: str) -> str:
    what = "is required" if message == "Field required" else message.removeprefix("Value error, ")
    return f"{PREFIX}{field.upper()}: {what}"
