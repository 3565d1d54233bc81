"""Commands over NATS: what other services ask for, made into records, and nothing else.

A command is done when its job is stored or, in this order, its dead letter and its event are.
Each of these steps can be repeated, so a command may be delivered any number of times.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Self

import nats.errors
from google.protobuf.message import DecodeError
from luthier.trainer.v1.command_pb2 import SubmitTrainingJob, SubmitTrainingJobReply
from luthier.trainer.v1.events_pb2 import TrainingCommandRefused
from luthier_common.errors import Internal, InvalidArgument, PlatformError
from luthier_common.events.stream import publish_event
from luthier_common.names import check_id
from luthier_common.nats_client import translated
from luthier_common.records.followers import Follower
from luthier_common.rpc.status import to_status
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig
from prometheus_client import CollectorRegistry, Counter

from luthier_trainer.dead_letters import (
    COMMANDS,
    DeadLetters,
    delivery_id,
    open_command_streams,
    project_in,
)
from luthier_trainer.jobs import Jobs
from luthier_trainer.peers import TRANSIENT

REPLY_TO = "Luthier-Reply-To"
"""Header: where the reply goes, below `_INBOX.` or `luthier.replies.trainer.{project}.`."""

_INBOX = "_INBOX"
REPLIES = "luthier.replies.trainer.{project}"
_BELOW = re.compile(r"(\.[A-Za-z0-9_-]{1,64}){1,8}")

_AT_ONCE = 16
_ACK_WAIT_SECONDS = 30.0
_BEAT_SECONDS = 8.0
MOST_DEFECTS = 5
"""Deliveries after which a command that only meets defects of ours is refused."""

logger = logging.getLogger(__name__)


class Commands:
    """Makes jobs of commands, as an async context manager."""

    def __init__(self, client: Client, jobs: Jobs, registry: CollectorRegistry) -> None:
        self._client = client
        self._js = client.jetstream()
        self._jobs = jobs
        self._dead_letters = DeadLetters(self._js)
        self._handled = Counter(
            "luthier_trainer_commands_total",
            "Deliveries of commands, by outcome",
            ["outcome"],
            registry=registry,
        )
        # No limit of deliveries and none of what waits: a service that is away for a day refuses
        # nothing, and commands that wait for it hold nobody up.
        config = ConsumerConfig(
            durable_name="trainer", ack_wait=_ACK_WAIT_SECONDS, max_ack_pending=-1
        )
        self._follower = Follower(
            self._js,
            COMMANDS,
            config,
            self._take,
            batch=_AT_ONCE,
            before=partial(open_command_streams, self._js),
        )

    async def __aenter__(self) -> Self:
        await self._follower.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._follower.__aexit__()

    async def _take(self, messages: Sequence[Msg]) -> Sequence[Msg]:
        done = await asyncio.gather(*map(self._handle, messages))
        return [message for message, is_done in zip(messages, done, strict=True) if is_done]

    async def _handle(self, message: Msg) -> bool:
        """Whether a command is done; it comes again otherwise, after a growing pause."""
        outcome = "retried"
        try:
            async with _held(message):
                outcome = await self._answer(message)
        except asyncio.CancelledError:
            with contextlib.suppress(nats.errors.Error):
                await message.nak()  # the next trainer need not wait for `ack_wait`
            raise
        except TRANSIENT as error:
            logger.warning("a command waits: %s", error, extra={"subject": message.subject})
        except Exception:
            logger.exception("a command fails", extra={"subject": message.subject})
        self._handled.labels(outcome).inc()
        return outcome != "retried"

    async def _answer(self, message: Msg) -> str:
        """Do what the command asks or refuse it, and return which; raises what may pass."""
        reply, outcome = SubmitTrainingJobReply(), "accepted"
        try:
            command = _read(message)
            reply.request_id = command.request_id
            _check(command, message)
            job = await self._jobs.create(
                f"projects/{project_in(message.subject)}",
                command.training_job,
                command.training_job_id,
                command.request_id,
            )
            reply.training_job.CopyFrom(job)
        except Exception as error:
            reply.error.CopyFrom(to_status(_refusal(error, message)))
            outcome = "refused"
            await self._refuse(message, reply)
        await self._reply(message, reply)
        return outcome

    async def _refuse(self, message: Msg, reply: SubmitTrainingJobReply) -> None:
        project = project_in(message.subject)
        event = TrainingCommandRefused(
            parent=f"projects/{project}",
            request_id=reply.request_id,
            error=reply.error,
            dead_letter_sequence=await self._dead_letters.store(message, reply.error),
        )
        digest = hashlib.sha256(reply.request_id.encode()).hexdigest()[:24]
        with translated("announcing a refused command"):
            await publish_event(
                self._js,
                f"luthier.trainer.v1.commands.{project}.{digest}.refused",
                event,
                event_id=delivery_id(message),
                source="luthier.trainer",
            )

    async def _reply(self, message: Msg, reply: SubmitTrainingJobReply) -> None:
        with contextlib.suppress(InvalidArgument):  # told in the refusal
            subject = _reply_subject(message)
            if subject:
                with translated("replying to a command"):
                    await self._client.publish(subject, reply.SerializeToString())


@contextlib.asynccontextmanager
async def _held(message: Msg) -> AsyncIterator[None]:
    """Tell NATS, while the work lasts, that it goes on."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            with contextlib.suppress(nats.errors.Error):
                await message.in_progress()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


def _read(message: Msg) -> SubmitTrainingJob:
    try:
        return SubmitTrainingJob.FromString(message.data)
    except DecodeError as error:
        raise InvalidArgument(
            "the payload is not a luthier.trainer.v1.SubmitTrainingJob", reason="COMMAND_MALFORMED"
        ) from error


def _check(command: SubmitTrainingJob, message: Msg) -> None:
    check_id(project_in(message.subject), field="the project in the subject")
    _reply_subject(message)
    if not command.request_id:
        raise InvalidArgument("request_id is required", reason="REQUIRED", field="request_id")


def _reply_subject(message: Msg) -> str:
    """Return where the reply goes, empty for nowhere; InvalidArgument.

    Elsewhere a publisher could speak with the trainer's voice.
    """
    subject = (message.headers or {}).get(REPLY_TO, "")
    replies = REPLIES.format(project=project_in(message.subject))
    for root in (_INBOX, replies):
        if subject.startswith(root) and _BELOW.fullmatch(subject.removeprefix(root)):
            return subject
    if subject:
        raise InvalidArgument(
            f"{REPLY_TO} must be a subject below {_INBOX} or {replies}",
            reason="INVALID_REPLY_SUBJECT",
            field=REPLY_TO,
        )
    return ""


def _refusal(error: Exception, message: Msg) -> PlatformError:
    """Return why a command is refused; raise what a later delivery may not meet."""
    if isinstance(error, TRANSIENT):
        raise error
    if isinstance(error, PlatformError) and not isinstance(error, Internal):
        return error
    if message.metadata.num_delivered < MOST_DEFECTS:
        raise error
    logger.error("a command is given up", extra={"subject": message.subject}, exc_info=error)
    return Internal(
        "the command could not be carried out; this is a fault of the platform",
        reason="COMMAND_FAILED",
    )
