"""Commands over a real NATS: each makes its job once, or rests with the reason."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.rpc.status_pb2 import Status
from luthier.dataset.v1.file_pb2 import File
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.command_pb2 import SubmitTrainingJob, SubmitTrainingJobReply
from luthier.trainer.v1.events_pb2 import TrainingCommandRefused
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.training_job_service_pb2 import ListTrainingJobsRequest
from luthier_common.errors import Unavailable
from luthier_common.events.subscribe import Event, Subscription
from luthier_common.nats_client import open_nats
from luthier_common.nats_process import NatsProcess
from luthier_common.rpc.status import from_status
from luthier_standalone.cli import app
from luthier_trainer import commands, jobs
from luthier_trainer.dead_letters import (
    COMMANDS,
    MAX_COMMAND_BYTES,
    DeadLetter,
    DeadLetters,
)
from nats.aio.client import Client
from typer.testing import CliRunner, Result

from tests.support.eventually import eventually
from tests.support.inference_service import inference_service
from tests.support.nats_server import nats_server
from tests.support.scripted_datasets import ScriptedDatasets, scripted_datasets
from tests.support.tiny_model import save_base
from tests.support.trainer_house import ACME, ROWS
from tests.support.trainer_service import Trainer, trainer_service

ROOT = Path(__file__).parents[2]
SUBJECT = "luthier.commands.trainer.v1.{}.submit"
MALFORMED = b"\x0a\xff\xff\xff\xff\x0f"


class Site:
    """A trainer that can be stopped and started again, on a NATS server of its own."""

    def __init__(
        self,
        folder: Path,
        server: NatsProcess,
        client: Client,
        dataset: ScriptedDatasets,
        inference: str,
        base: BaseModel,
        rows: File,
    ) -> None:
        self.server = server
        self.client = client
        self.js = client.jetstream()
        self.dataset = dataset
        self.base = base
        self.rows = rows
        self.dead_letters = DeadLetters(self.js)
        self._folder = folder
        self._inference = inference

    @asynccontextmanager
    async def trainer(self) -> AsyncIterator[Trainer]:
        """Run the trainer; again to restart it."""
        async with trainer_service(
            self._folder, self.server.url, self.dataset.address, self._inference
        ) as trainer:
            yield trainer

    def command(self, request_id: str = "one", **fields: Any) -> SubmitTrainingJob:
        job = TrainingJob(base_model=self.base.name, training_file=self.rows.name)
        job.supervised.SetInParent()
        for field, value in fields.items():
            setattr(job, field, value)
        return SubmitTrainingJob(request_id=request_id, training_job=job)

    async def publish(
        self, command: SubmitTrainingJob | bytes, project: str = "acme", **headers: str
    ) -> None:
        payload = command if isinstance(command, bytes) else command.SerializeToString()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.js.publish(SUBJECT.format(project), payload, timeout=0.5, headers=named)

    async def ask(
        self, command: SubmitTrainingJob | bytes, project: str = "acme", **headers: str
    ) -> SubmitTrainingJobReply:
        """Publish a command and wait for the reply."""
        inbox = self.client.new_inbox()
        replies = await self.client.subscribe(inbox)
        await self.publish(command, project, Luthier_Reply_To=inbox, **headers)
        return SubmitTrainingJobReply.FromString((await replies.next_msg(timeout=10)).data)

    async def letters(self, project: str = "") -> list[DeadLetter]:
        return [letter async for letter in self.dead_letters.list(project)]

    async def waiting(self) -> int:
        """How many commands are not done."""
        return (await self.js.stream_info(COMMANDS)).state.messages

    async def all_done(self) -> bool:
        return await self.waiting() == 0


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
async def site(tmp_path: Path, snapshot: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        inference = await enter(inference_service(tmp_path))
        base = await inference.import_base(snapshot)
        dataset = await enter(scripted_datasets(inference.blobs))
        server = await enter(nats_server(tmp_path / "trainer-nats"))
        client = await enter(open_nats(server.url, name="publisher"))
        rows = await dataset.add(ROWS)
        yield Site(tmp_path, server, client, dataset, inference.address, base, rows)


@pytest.fixture
async def trainer(site: Site) -> AsyncIterator[Trainer]:
    async with site.trainer() as running:
        yield running


async def jobs_of(trainer: Trainer) -> list[TrainingJob]:
    listed = await trainer.jobs().ListTrainingJobs(ListTrainingJobsRequest(parent=ACME))
    return list(listed.training_jobs)


def reason_of(error: Status) -> str:
    return from_status(error).reason


async def test_a_command_published_five_times_makes_one_job(site: Site, trainer: Trainer) -> None:
    replies = await asyncio.gather(*(site.ask(site.command(suffix="care")) for _ in range(5)))
    (name,) = {reply.training_job.name for reply in replies}
    assert {reply.request_id for reply in replies} == {"one"}
    (job,) = await jobs_of(trainer)
    assert (job.name, job.suffix, job.request_id) == (name, "care", "one")
    assert job.training_file_sha256 == site.rows.sha256
    await eventually(site.all_done)
    assert await site.letters() == []


async def test_nats_drops_a_second_command_of_the_same_message_id(
    site: Site, trainer: Trainer
) -> None:
    subject, payload = SUBJECT.format("acme"), site.command().SerializeToString()
    acks = [
        await site.js.publish(subject, payload, headers={"Nats-Msg-Id": "acme/one"})
        for _ in range(2)
    ]
    assert [bool(ack.duplicate) for ack in acks] == [False, True]


async def test_the_job_is_announced(site: Site, trainer: Trainer) -> None:
    heard: list[Event] = []

    async def hear(event: Event) -> None:
        heard.append(event)

    subjects = ["luthier.trainer.v1.*.acme.>"]
    async with Subscription(site.js, subjects, hear):
        await site.publish(site.command())
        await eventually(lambda: heard)
    assert heard[0].type == "luthier.trainer.v1.TrainingJobChanged"


def wrong_rank(site: Site) -> SubmitTrainingJob:
    command = site.command()
    command.training_job.supervised.hyperparameters.lora_rank = 0
    return command


REFUSED: dict[str, tuple[Callable[[Site], SubmitTrainingJob], str]] = {
    "no request id": (lambda s: s.command(request_id=""), "REQUIRED"),
    "no job": (lambda s: SubmitTrainingJob(request_id="one"), "INVALID_RESOURCE_NAME"),
    "an unknown base model": (
        lambda s: s.command(base_model="projects/library/baseModels/absent"),
        "RESOURCE_NOT_FOUND",
    ),
    "a base model of another project": (
        lambda s: s.command(base_model="projects/other/baseModels/tiny"),
        "RESOURCE_NOT_FOUND",
    ),
    "a wrong hyperparameter": (wrong_rank, "HYPERPARAMETER_OUT_OF_RANGE"),
}


async def test_refused_commands_are_told_and_rest_whole(site: Site, trainer: Trainer) -> None:
    events: dict[int, TrainingCommandRefused] = {}

    async def hear(event: Event) -> None:
        refused = event.parse(TrainingCommandRefused)
        events[refused.dead_letter_sequence] = refused

    cases = {"no protobuf": (MALFORMED, "", "COMMAND_MALFORMED")}
    for case, (make, reason) in REFUSED.items():
        command = make(site)
        cases[case] = (command.SerializeToString(), command.request_id, reason)
    async with Subscription(site.js, ["luthier.trainer.v1.commands.acme.*.refused"], hear):
        for case, (payload, request_id, reason) in cases.items():
            reply = await site.ask(payload, Trace_Id="t-1", Nats_Msg_Id=f"acme/{case}")
            assert reason_of(reply.error) == reason, case
            letter = (await site.letters("acme"))[-1]
            assert (letter.subject, letter.payload) == (SUBJECT.format("acme"), payload)
            assert letter.headers["Luthier-Reply-To"].startswith("_INBOX.")
            assert (letter.headers["Nats-Msg-Id"], letter.headers["Trace-Id"]) == (
                f"acme/{case}",
                "t-1",
            )
            assert letter.error == reply.error
            await eventually(partial(events.__contains__, letter.sequence))
            assert events[letter.sequence] == TrainingCommandRefused(
                parent=ACME,
                request_id=request_id,
                error=reply.error,
                dead_letter_sequence=letter.sequence,
            )
    assert len(events) == len(cases)
    await eventually(site.all_done)
    assert await jobs_of(trainer) == []


async def test_a_file_of_another_project_is_answered_as_an_absent_one(
    site: Site, trainer: Trainer
) -> None:
    foreign = await site.dataset.add(ROWS, project="other")
    refused = await site.ask(site.command(training_file=foreign.name))
    absent = foreign.name.replace("file-", "none-")
    expected = await site.ask(site.command(training_file=absent))
    assert reason_of(refused.error) == "RESOURCE_NOT_FOUND"
    assert str(refused.error) == str(expected.error).replace("none-", "file-")


async def test_a_reply_goes_to_no_subject_of_anybody_else(site: Site, trainer: Trainer) -> None:
    subjects = (
        "luthier.commands.trainer.v1.acme.submit",
        "luthier.trainer.v1.trainingJobs.acme.x.changed",
        "luthier.replies.trainer.other.1",
        "_INBOX",
        "_INBOX.>",
        "_INBOX..a",
        "$JS.API.STREAM.DELETE.EVENTS",
    )
    for subject in subjects:
        await site.publish(site.command(), Luthier_Reply_To=subject)
    await eventually(lambda: _count(site, len(subjects)))
    reasons = {reason_of(letter.error) for letter in await site.letters()}
    assert reasons == {"INVALID_REPLY_SUBJECT"}
    assert await jobs_of(trainer) == []


async def test_a_project_that_is_none_is_refused(site: Site, trainer: Trainer) -> None:
    assert reason_of((await site.ask(site.command(), project="ACME")).error) == "INVALID_ID"


async def test_a_replayed_command_makes_the_job_once_its_cause_is_mended(
    site: Site, trainer: Trainer
) -> None:
    late = File(name=f"{ACME}/files/late", purpose=File.Purpose.FINE_TUNE)
    for project in ("acme", "other"):
        command = site.command(training_file=late.name)
        await site.publish(command, project, Nats_Msg_Id=f"{project}/one", Trace_Id="t-1")
    await eventually(lambda: _count(site, 2))
    (letter,) = await site.letters("acme")
    assert "late was not found" in letter.error.message
    # The console takes its width when it is made, so the sentence may be wrapped.
    assert "was not found" in await said(site, "list", "--project", "acme")
    await site.dataset.store(late, ROWS)
    last = (await site.letters("acme"))[0].sequence
    missing = await said(site, "replay", "--sequence", str(last + 7), code=1)
    assert f"there is no dead letter {last + 7}" in missing
    assert f"replayed {last}" in await said(site, "replay", "--project", "acme")
    (job,) = await eventually(lambda: jobs_of(trainer))
    assert job.training_file == late.name
    assert {letter.project for letter in await site.letters()} == {"other"}


async def test_what_is_refused_again_rests_again(site: Site, trainer: Trainer) -> None:
    await site.publish(MALFORMED)
    (first,) = await eventually(site.letters)
    assert "replayed in all: 1" in await said(site, "replay")

    async def rests_again() -> list[DeadLetter]:
        return [letter for letter in await site.letters() if letter.sequence != first.sequence]

    (second,) = await eventually(rests_again)
    assert (second.payload, second.subject) == (first.payload, first.subject)
    assert len(await site.letters()) == 1


@pytest.mark.parametrize("created", [False, True], ids=["before", "after"])
async def test_a_trainer_restarted_in_mid_work_makes_the_job_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, created: bool
) -> None:
    create, at_work = jobs.Jobs.create, asyncio.Event()

    async def stuck(self: Any, *args: Any) -> TrainingJob:
        if created:
            await create(self, *args)
        at_work.set()
        await asyncio.Event().wait()
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(jobs.Jobs, "create", stuck)
        async with site.trainer() as trainer:
            await site.publish(site.command())
            await asyncio.wait_for(at_work.wait(), 10)
            assert len(await jobs_of(trainer)) == created
    async with site.trainer() as trainer:
        await eventually(site.all_done)
        (job,) = await jobs_of(trainer)
    assert job.request_id == "one"


async def test_a_killed_nats_keeps_what_it_has_acknowledged(site: Site) -> None:
    async with site.trainer() as trainer:
        await site.ask(site.command("zero"))
    await site.publish(site.command("one"))
    await site.server.kill()
    await site.server.start()
    async with site.trainer() as trainer:
        await eventually(site.all_done)
        await site.server.kill()
        await site.server.start()

        async def again() -> bool:
            reply = await site.ask(site.command("two"))
            return reply.training_job.request_id == "two"

        await until_connected(again)
        assert {job.request_id for job in await jobs_of(trainer)} == {"zero", "one", "two"}


async def test_what_may_pass_is_waited_for(
    site: Site, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, failures = jobs.Jobs.create, [Unavailable("away", reason="AWAY")] * 2

    async def sometimes(self: Any, parent: str, draft: TrainingJob, *args: Any) -> TrainingJob:
        if draft.suffix == "unlucky" and failures:
            raise failures.pop()
        return await create(self, parent, draft, *args)

    monkeypatch.setattr(jobs.Jobs, "create", sometimes)
    unlucky = asyncio.create_task(site.ask(site.command("unlucky", suffix="unlucky")))
    lucky = await site.ask(site.command("lucky"))
    assert lucky.training_job.name
    assert failures or not unlucky.done(), "the lucky one has overtaken it"
    assert (await unlucky).training_job.suffix == "unlucky"
    assert await site.letters() == []


async def test_a_defect_of_ours_is_met_only_so_often(
    site: Site, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defective(self: Any, *args: Any) -> TrainingJob:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(jobs.Jobs, "create", defective)
    monkeypatch.setattr(commands, "MOST_DEFECTS", 2)
    reply = await site.ask(site.command())
    assert reason_of(reply.error) == "COMMAND_FAILED"
    assert "secret" not in str(reply)
    assert len(await site.letters()) == 1


async def test_hostile_messages_hold_nobody_up(site: Site, trainer: Trainer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    subject, command = SUBJECT.format("acme").encode(), site.command("hostile").SerializeToString()
    for to, head in (
        (subject, b"NATS/1.0 \xff\xfe\xff\r\n\r\n"),
        (subject, b"NATS/1.0 503 No\r\n\r\n"),
        (subject, b"NATS/1.0\r\nStatus: 404\r\n\r\n"),
        (subject, b"NATS/1.0\r\nno colon\r\nX: \xff\r\nsp ace: 1\r\n\r\n"),
        (subject.replace(b"acme", b"\xff\xfe"), b"NATS/1.0\r\nX: y\r\n\r\n"),
    ):
        size = len(head) + len(command)
        writer.write(b"HPUB %s %d %d\r\n%s%s\r\n" % (to, len(head), size, head, command))
    writer.write(b"PING\r\n")
    await writer.drain()
    assert await reader.readline() == b"PONG\r\n"
    reply = await asyncio.wait_for(site.ask(site.command("good")), 5)
    assert reply.training_job.request_id == "good"
    assert {job.request_id for job in await jobs_of(trainer)} == {"hostile", "good"}
    writer.close()


async def test_a_refused_command_of_escaped_bytes_still_finds_room(
    site: Site, trainer: Trainer
) -> None:
    await site.publish(MALFORMED, Noise="\x01" * (MAX_COMMAND_BYTES - 500))
    (letter,) = await eventually(site.letters)
    assert letter.headers["Noise"].count("\x01") == MAX_COMMAND_BYTES - 500


async def test_a_dead_letter_with_headers_that_cannot_be_sent_is_replayed(
    site: Site, trainer: Trainer
) -> None:
    await site.publish(MALFORMED, Trace_Id="t-1")
    (letter,) = await eventually(site.letters)
    letter.headers["sp ace"] = "1"
    listener = await site.client.subscribe(SUBJECT.format("acme"))
    await site.dead_letters.replay(letter)
    message = await listener.next_msg(timeout=5)
    assert message.headers is not None
    assert message.headers["Trace-Id"] == "t-1"
    assert "sp ace" not in message.headers


async def test_the_page_s_example_works_as_pasted(site: Site, trainer: Trainer) -> None:
    environment = {
        "NATS_URL": site.server.url,
        "BASE_MODEL": site.base.name,
        "TRAINING_FILE": site.rows.name,
    }
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", snippet("submit")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    (job,) = await jobs_of(trainer)
    assert ran.stdout == f"{job.name}\n"
    assert job.suffix == "invoices"


def snippet(name: str) -> str:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- snippet: {name} -->\n```\w*\n(.*?)```", page, re.S)
    assert found, name
    return found[1]


async def said(site: Site, *arguments: str, code: int = 0) -> str:
    """What `luthier commands` prints."""
    line = ["commands", *arguments, "--nats-url", site.server.url]
    runner = CliRunner(env={"COLUMNS": "200"})
    result: Result = await asyncio.to_thread(runner.invoke, app, line)
    assert result.exit_code == code, result.output
    return result.output


async def _count(site: Site, expected: int) -> bool:
    return len(await site.letters()) == expected


async def until_connected(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Try again while the connection is being made again."""

    async def connected() -> bool:
        try:
            return await attempt()
        except Exception as error:
            raise AssertionError("not yet") from error

    await eventually(connected)
