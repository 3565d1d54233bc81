"""docs/commands.md says what the code does."""

import re
from pathlib import Path

import pytest
from luthier.trainer.v1.command_pb2 import SubmitTrainingJob
from luthier.trainer.v1.events_pb2 import DESCRIPTOR as EVENTS
from luthier_common.events import stream as events
from luthier_standalone.cli import commands_app
from luthier_trainer import commands, dead_letters

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
TOLD = " ".join(PAGE.split())


@pytest.mark.parametrize(
    "fact",
    [
        f"at most {dead_letters.MAX_COMMAND_BYTES >> 10} KiB",
        f"At most {dead_letters.MOST_WAITING:,} commands of a project can wait",
        f"the latest {dead_letters.MOST_DEAD_LETTERS:,} of each project",
        f"for {dead_letters.DEAD_LETTER_DAYS} days",
        f"a defect of the platform {commands.MOST_DEFECTS} times",
        f"`{dead_letters.DEAD_LETTERS}`",
        f"`{commands.REPLY_TO}`",
        f"`{dead_letters.COMMAND_SUBJECT}`",
        f"`{commands.REPLIES}.`",
    ],
)
def test_a_limit_and_a_name_are_told_as_they_are(fact: str) -> None:
    assert fact in TOLD


def test_every_field_of_the_payload_is_told() -> None:
    fields = [field.name for field in SubmitTrainingJob.DESCRIPTOR.fields]
    assert [name for name in fields if f"| `{name}` |" not in PAGE] == []


def test_every_event_is_told_and_lies_in_the_stream_of_events() -> None:
    for name in EVENTS.message_types_by_name:
        assert f"`{name}`" in PAGE
    pattern = re.escape(events.SUBJECTS).replace(r"\*", r"[^.]+").replace(">", ".+")
    told = re.findall(r"`(luthier\.[^`]+\.(?:changed|refused))`", TOLD)
    assert len(told) == len(EVENTS.message_types_by_name)
    assert all(re.fullmatch(pattern, subject) for subject in told)
    assert not re.fullmatch(pattern, dead_letters.COMMAND_SUBJECT)


def test_both_commands_of_the_terminal_are_there() -> None:
    there = {command.name for command in commands_app.registered_commands}
    assert set(re.findall(r"^luthier commands (\w+)", PAGE, re.M)) == there


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
