"""Where a platform keeps what it keeps: its data directory's own, or a real S3 and NATS.

`LUTHIER_OBJECTS_URL` (with `LUTHIER_OBJECTS_ACCESS_KEY` and `…_SECRET_KEY`) and
`LUTHIER_NATS_URL` take the place of the directory and of the nats-server of our own; they have to
be given to every command that works on the same platform.
"""

from __future__ import annotations

from luthier_common.nats_process import NatsProcess
from luthier_common.objects.open import open_object_store
from luthier_common.objects.port import ObjectStore
from luthier_common.settings import PREFIX
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from luthier_standalone.data_dir import DataDir


class Backends(BaseSettings):
    """The servers named in the environment; empty addresses mean the platform's own."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, hide_input_in_errors=True)

    nats_url: str = ""
    objects_url: str = ""
    objects_access_key: str = ""
    objects_secret_key: SecretStr = SecretStr("")

    def objects_address(self, data: DataDir) -> str:
        """Return the address of the object store."""
        return self.objects_url or data.objects.as_uri()

    async def open_objects(self, data: DataDir) -> ObjectStore:
        """Open the object store."""
        return await open_object_store(
            self.objects_address(data),
            access_key=self.objects_access_key,
            secret_key=self.objects_secret_key.get_secret_value(),
        )


def own_nats(data: DataDir, *, port: int = 0) -> NatsProcess:
    """Return a nats-server of a data directory's own, closed to whoever lacks its password."""
    return NatsProcess(data.nats, port=port, password=data.secrets().nats)
