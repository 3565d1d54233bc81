"""What the service asks of a worker process, and what it answers."""

from __future__ import annotations

import hashlib

import msgspec

from luthier_dataset.build.workspace import KEYS, ROWS, SIGNATURES, USED
from luthier_dataset.quality.report import Tally
from luthier_dataset.readers.items import Remark
from luthier_dataset.recipes.questions import QuestionPrompts

DISK_FULL = "DISK_FULL"
"""Reason of the one refusal that waiting cures."""
PREVIEW_SECONDS = 120.0
"""Most time for each job of a preview."""
UNIT_SECONDS = 1800.0
"""Most time for a unit of a build, to which `UNIT_SECONDS_PER_MIB` of its items come."""
UNIT_SECONDS_PER_MIB = 30.0
STEP_SECONDS = 12 * 3600.0
"""Most time for what is done once for a whole dataset, whatever its size."""
_MIB = 1024 * 1024
UNIT_FILES = (ROWS, KEYS, SIGNATURES, USED)


class Source(msgspec.Struct, frozen=True):
    """A source of the dataset."""

    file: str
    """Resource name."""
    display_name: str
    sha256: str


class Setting(msgspec.Struct, frozen=True):
    """What is the same for every unit of a build."""

    workspace: str
    """Folder of the build."""
    recipes: tuple[bytes, ...]
    """`Recipe` messages."""
    sources: tuple[Source, ...]
    prompts: QuestionPrompts
    context_tokens: int
    """Tokens that the base model's context holds; 0 if that is not known."""
    base_model: str
    digests: dict[str, str]
    """Digest of each model that may be asked, by resource name."""
    seed: int
    shares: int = 0
    """Into so many groups documents are dealt where rows show passages of several; 0: into none."""
    balances: bool = False
    """Labels are balanced."""
    languages: tuple[str, ...] = ()
    """Those that rows are expected in; none if any will do."""
    partial: bool = False
    """Rows are made although questions are open: for previews."""
    encoder_decoder: bool = False
    """The base model reads a row's prompt with one context and writes its answer with another."""

    def group_of(self, sha256: str) -> str:
        """Return the group of a document's rows, which a split keeps together.

        It is the document's own, unless documents are dealt into groups.
        """
        if not self.shares:
            return sha256
        dealt = hashlib.blake2b(f"{self.seed} {sha256}".encode(), digest_size=8).digest()
        return f"group {int.from_bytes(dealt, 'little') % self.shares}"


class MakeUnit(msgspec.Struct, frozen=True, tag="unit"):
    """Run one recipe over one part of one source."""

    recipe: int
    source: int
    part: int
    start: int
    end: int
    """Range of bytes in the file of items."""


class MakeIndex(msgspec.Struct, frozen=True, tag="index"):
    """Index the passages of all sources for search."""


class Finish(msgspec.Struct, frozen=True, tag="finish"):
    """Judge all rows together and write the artifacts."""

    units: tuple[tuple[int, int, int], ...]
    """Recipe, source and part of each unit, in the order of rows."""
    actions: dict[int, int]
    """What is done about each `QualityCheck`."""
    validation_share: float
    remarks: dict[str, int]
    """Remarks of readers, by code, and sources left out as `unreadable_document`."""
    examples: tuple[tuple[int, Remark], ...]
    """Some of them, with the number of their source."""


class ReadAsModel(msgspec.Struct, frozen=True, tag="read_as_model"):
    """Read rows and texts as the base model does."""

    rows: tuple[tuple[str, str], ...]
    """Shape and line of each row."""
    texts: tuple[str, ...]


Task = MakeUnit | MakeIndex | Finish | ReadAsModel


class Job(msgspec.Struct, frozen=True):
    """One job."""

    setting: Setting
    task: Task

    @property
    def seconds(self) -> float:
        """Most time for the job: generous, but a chat template that never ends is ended."""
        if self.setting.partial:
            return PREVIEW_SECONDS
        if isinstance(self.task, MakeUnit):
            size = self.task.end - self.task.start
            return UNIT_SECONDS + UNIT_SECONDS_PER_MIB * size / _MIB
        return STEP_SECONDS


class UnitMade(msgspec.Struct, frozen=True, tag="unit"):
    """The rows of a unit lie in its files, unless something was asked."""

    rows: int
    shapes: tuple[str, ...]
    dropped: dict[str, int]
    tally: Tally
    sizes: tuple[int, ...]
    """Of its UNIT_FILES, which shows whether they are whole."""
    asked: int
    """Questions without a reply yet, in the unit's `.asks`; rows are made when all have one."""


class IndexMade(msgspec.Struct, frozen=True, tag="index"):
    """The index is there."""


class Finished(msgspec.Struct, frozen=True, tag="finish"):
    """The artifacts lie in the workspace's `out`."""

    statistics: bytes
    """`DatasetStatistics`."""
    report: bytes
    """`QualityReport`, as JSON."""
    digest: str
    """SHA-256 of the canonical rows."""
    blocked: str = ""
    """Why nothing comes out; then there are no artifacts."""
    reason: str = ""
    """The same as an error's reason."""


class AsModel(msgspec.Struct, frozen=True, tag="as_model"):
    """What the base model reads."""

    spans: tuple[tuple[tuple[str, bool], ...], ...]
    """Of each row: its pieces, and whether each is learned."""
    tokens: tuple[int, ...]
    """Of each text."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The job cannot be done; another try changes nothing, unless the reason is DISK_FULL."""

    message: str
    reason: str


Answer = UnitMade | IndexMade | Finished | AsModel | Refused
