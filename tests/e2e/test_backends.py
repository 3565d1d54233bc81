"""`luthier up` on a NATS server and an S3 store that are not its own, as the README shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.luthier_up import luthier_up, run_luthier
from tests.support.nats_server import nats_server
from tests.support.s3_server import s3_server

pytestmark = pytest.mark.timeout(300)


async def test_records_and_bytes_are_kept_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, content = tmp_path / "data", b"# Kept elsewhere\n"
    with s3_server(tmp_path) as s3:
        async with nats_server(tmp_path / "elsewhere") as nats:
            for name, value in {
                "NATS_URL": nats.url,
                "OBJECTS_URL": s3.url("luthier"),
                "OBJECTS_ACCESS_KEY": s3.access_key,
                "OBJECTS_SECRET_KEY": s3.secret_key,
            }.items():
                monkeypatch.setenv(f"LUTHIER_{name}", value)
            name = await asyncio.to_thread(_use, data, content)
            assert not list(data.glob("objects/*"))
            assert not list(data.glob("nats/*"))
        # The records are lost with their server, and made again from the journals on S3.
        async with nats_server(tmp_path / "new") as nats:
            monkeypatch.setenv("LUTHIER_NATS_URL", nats.url)
            rebuilt = await asyncio.to_thread(
                run_luthier, "records", "rebuild", "--data-dir", str(data)
            )
            assert rebuilt.returncode == 0, rebuilt.stderr
            assert await asyncio.to_thread(_read, data, name) == content


def _use(data: Path, content: bytes) -> str:
    with luthier_up(data) as platform:
        file = platform.client.files.create(file=("a.md", content), purpose="user_data")
        assert platform.ask(platform.model, "Hello?")
        assert platform.stop() == 0
        return file.id


def _read(data: Path, name: str) -> bytes:
    with luthier_up(data) as platform:
        return platform.client.files.content(name).read()
