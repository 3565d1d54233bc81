"""The streams of commands on a real nats-server: their limits, and who may use them."""

import asyncio
import json
import os
import re
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
import pytest
from google.rpc.status_pb2 import Status
from luthier_common.children import spawn
from luthier_common.errors import PlatformError, ResourceExhausted
from luthier_common.events.stream import STREAM, SUBJECTS, ensure_stream
from luthier_common.nats_client import open_nats
from luthier_standalone import commands
from luthier_standalone.cli import app
from luthier_trainer import dead_letters
from luthier_trainer.dead_letters import COMMANDS, DeadLetter, DeadLetters, open_command_streams
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, StreamConfig
from typer.testing import CliRunner, Result

from tests.support.eventually import eventually
from tests.support.nats_server import nats_connection

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
SUBJECT = "luthier.commands.trainer.v1.{}.submit"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with nats_connection(tmp_path) as connected:
        yield connected


async def test_a_project_that_floods_leaves_the_others_their_room(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_WAITING", 3)
    js = client.jetstream()
    await open_command_streams(js)
    for _ in range(3):
        await js.publish(SUBJECT.format("loud"), b"x")
    with pytest.raises(nats.js.errors.ServiceUnavailableError):
        await js.publish(SUBJECT.format("loud"), b"x")
    await js.publish(SUBJECT.format("quiet"), b"x")
    letter = DeadLetter(1, None, SUBJECT.format("loud"), {}, b"x", Status())  # type: ignore[arg-type]
    with pytest.raises(ResourceExhausted):
        await DeadLetters(js).replay(letter)


async def test_a_command_that_is_too_large_is_refused_to_its_publisher(client: Client) -> None:
    js = client.jetstream()
    await open_command_streams(js)
    await js.publish(SUBJECT.format("acme"), bytes(dead_letters.MAX_COMMAND_BYTES))
    with pytest.raises(nats.js.errors.APIError, match="maximum"):
        await js.publish(SUBJECT.format("acme"), bytes(dead_letters.MAX_COMMAND_BYTES + 1))


async def test_streams_of_before_make_room_for_commands_and_keep_what_they_hold(
    client: Client,
) -> None:
    js = client.jetstream()
    before = StreamConfig(
        name=STREAM, subjects=["luthier.>"], max_bytes=1 << 20, discard=DiscardPolicy.OLD
    )
    await js.add_stream(before)
    await js.publish("luthier.trainer.v1.trainingJobs.acme.one.changed", b"x")
    for _ in range(2):
        await ensure_stream(js)
        await open_command_streams(js)
    info = await js.stream_info(STREAM)
    assert (info.config.subjects, info.config.max_bytes) == ([SUBJECTS], 1 << 20)
    assert info.state.messages == 1
    for subject in (SUBJECT.format("acme"), "luthier.deadletters.trainer.v1.acme.submit"):
        ack = await js.publish(subject, b"x")
        assert ack.stream != STREAM
    ack = await js.publish("luthier.trainer.v1.trainingJobs.acme.one.changed", b"x")
    assert ack.stream == STREAM


@asynccontextmanager
async def server_of_the_page(folder: Path) -> AsyncIterator[dict[str, str]]:
    """A server with the users of the page; yields the URL of each."""
    found = re.search(r"<!-- snippet: permissions -->\n```\n(.*?)```", PAGE.read_text(), re.S)
    assert found
    config, ports = folder / "nats.conf", folder / "ports"
    ports.mkdir()
    config.write_text(
        f"listen: 127.0.0.1:-1\nports_file_dir: {json.dumps(str(ports))}\n"
        f"jetstream {{ store_dir: {json.dumps(str(folder / 'jetstream'))} }}\n{found[1]}"
    )
    passwords = {"LUTHIER_NATS_PASSWORD": "one", "BILLING_NATS_PASSWORD": "two"}
    environment = os.environ | passwords
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    async with await spawn(str(program), "--config", str(config), env=environment):
        (file,) = await eventually(lambda: list(ports.glob("*.ports")))
        url = await eventually(lambda: json.loads(file.read_text() or "{}").get("nats"))
        port = url[0].rpartition(":")[2]
        yield {
            user: f"nats://{user}:{password}@127.0.0.1:{port}"
            for user, password in (("luthier", "one"), ("billing", "two"))
        }


async def test_the_user_of_the_page_commands_its_own_project_only(tmp_path: Path) -> None:
    async with (
        server_of_the_page(tmp_path) as urls,
        open_nats(urls["luthier"], name="trainer") as trainer,
    ):
        await open_command_streams(trainer.jetstream())
        await trainer.jetstream().publish(SUBJECT.format("other"), b"x")
        billing = await nats.connect(
            urls["billing"], inbox_prefix="luthier.replies.trainer.acme", error_cb=_ignore
        )
        ack = await billing.jetstream().publish(SUBJECT.format("acme"), b"x")
        assert ack.stream == COMMANDS
        for subject in (
            SUBJECT.format("other"),
            "luthier.trainer.v1.trainingJobs.acme.one.changed",
            "$JS.API.STREAM.MSG.GET.TRAINER_COMMANDS",
        ):
            with pytest.raises(nats.errors.TimeoutError):
                await billing.jetstream().publish(subject, b"x", timeout=0.3)
        events = await billing.subscribe("luthier.trainer.v1.*.acme.>")
        await billing.flush()
        await trainer.publish("luthier.trainer.v1.commands.acme.digest.refused", b"x")
        assert (await events.next_msg(timeout=5)).data == b"x"
        await billing.close()
        assert (await trainer.jetstream().stream_info(COMMANDS)).state.messages == 2


async def test_replaying_without_the_access_it_takes_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_CONNECT_SECONDS", 1.0)

    async def told(url: str) -> str:
        with pytest.raises(PlatformError) as caught:
            async with commands.open_dead_letters(url) as letters:
                await letters.get(1)
        return caught.value.message

    async with server_of_the_page(tmp_path) as urls:
        wrong = urls["luthier"].replace(":one@", ":wrong@")
        limited, refused, early = await asyncio.gather(
            told(urls["billing"]), told(wrong), told(urls["luthier"])
        )
        assert "may not read or replay dead letters" in limited
        assert refused == f"NATS at {wrong.rpartition('@')[2]} refuses our credentials"
        assert "no trainer has run" in early
        line = ["commands", "replay", "--nats-url", wrong]
        result: Result = await asyncio.to_thread(CliRunner().invoke, app, line)
    assert (result.exit_code, result.output) == (1, f"error: {refused}\n")


async def _ignore(error: Exception) -> None:
    """A violation is what the test provokes."""
