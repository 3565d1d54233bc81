"""The gateway's gRPC API, called with an API key as any client would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from luthier.dataset.v1.dataset_service_pb2_grpc import DatasetServiceStub
from luthier.gateway.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from luthier.inference.v1.base_model_service_pb2_grpc import BaseModelServiceStub
from luthier.trainer.v1.training_job_service_pb2_grpc import TrainingJobServiceStub
from luthier_common.rpc.status import from_rpc_error

from luthier_standalone.data_dir import Connection

PROJECT = "default"
"""The project that the operator's key belongs to."""

_TIMEOUT_SECONDS = 60.0


class _WithKey(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the key to every call and raises failures as PlatformError."""

    def __init__(self, api_key: str) -> None:
        self._authorization = ("authorization", f"Bearer {api_key}")

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Make the call."""
        details = grpc.aio.ClientCallDetails(
            method=client_call_details.method,
            timeout=client_call_details.timeout or _TIMEOUT_SECONDS,
            metadata=grpc.aio.Metadata(self._authorization),
            credentials=client_call_details.credentials,
            wait_for_ready=client_call_details.wait_for_ready,
        )
        call = await continuation(details, request)
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


class Gateway:
    """Stubs of the public services; every failure is a PlatformError."""

    def __init__(self, connection: Connection) -> None:
        self._channel = grpc.aio.insecure_channel(
            connection.grpc, interceptors=[_WithKey(connection.api_key)]
        )
        self.datasets = DatasetServiceStub(self._channel)
        self.jobs = TrainingJobServiceStub(self._channel)
        self.base_models = BaseModelServiceStub(self._channel)
        self.api_keys = ApiKeyServiceStub(self._channel)

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
