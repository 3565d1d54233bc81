"""Settings of the gateway."""

from __future__ import annotations

from typing import Annotated

from luthier_common.settings import Address, ServiceSettings
from pydantic import Field, SecretStr

BootstrapKey = Annotated[SecretStr, Field(min_length=24, max_length=200)]


class GatewaySettings(ServiceSettings):
    """What the gateway needs to know besides the common settings."""

    grpc_address: Address = "127.0.0.1:8081"
    """Where the public gRPC API is served."""

    rest_address: Address = "127.0.0.1:8080"
    """Where the OpenAI-compatible REST API is served, under `/v1`."""

    dataset_address: Address
    """The dataset service."""

    trainer_address: Address
    """The trainer service."""

    inference_address: Address
    """The inference service."""

    bootstrap_api_key: BootstrapKey
    """The operator key of project `default`; its record is made at start when missing."""

    max_upload_bytes: Annotated[int, Field(gt=0)] = 512 * 1024 * 1024
    """The largest body of a file upload, in bytes."""
