"""Which fact each change of a record announces."""

from __future__ import annotations

from google.protobuf.message import Message
from luthier.trainer.v1.events_pb2 import TrainingJobChanged


def event_for(name: str, value: bytes | None, revision: int) -> tuple[str, Message] | None:
    """Return subject and event for a new revision of the record `name`; None: no fact of ours."""
    parts = name.split("/")
    if len(parts) != 4 or parts[2] != "trainingJobs" or value is None:
        return None
    subject = f"luthier.trainer.v1.trainingJobs.{parts[1]}.{parts[3]}.changed"
    return subject, TrainingJobChanged(name=name, revision=revision)
