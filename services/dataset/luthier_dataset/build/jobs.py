"""What the service asks of a worker process, and what it answers."""

from __future__ import annotations

import msgspec

from luthier_dataset.quality.report import Tally
from luthier_dataset.readers.items import Remark
from luthier_dataset.recipes.questions import QuestionPrompts


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
    partial: bool = False
    """Rows are made although questions are open: for previews."""


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


class Job(msgspec.Struct, frozen=True):
    """One job."""

    setting: Setting
    task: MakeUnit | MakeIndex | Finish


class UnitMade(msgspec.Struct, frozen=True, tag="unit"):
    """The rows of a unit lie in its files, unless something was asked."""

    rows: int
    shapes: tuple[str, ...]
    dropped: dict[str, int]
    tally: Tally
    asked: int
    """Questions without a reply yet, in the unit's `.asks`; rows are made when all have one."""


class IndexMade(msgspec.Struct, frozen=True, tag="index"):
    """The index is there."""

    passages: int


class Finished(msgspec.Struct, frozen=True, tag="finish"):
    """The artifacts lie in the workspace's `out`."""

    statistics: bytes
    """`DatasetStatistics`."""
    report: bytes
    """`QualityReport`."""
    digest: str
    """SHA-256 of the canonical rows."""
    blocked: str = ""
    """Why nothing comes out; then there are no artifacts."""
    reason: str = ""
    """The same as an error's reason."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The job cannot be done, for a reason that another try does not change."""

    message: str
    reason: str


Answer = UnitMade | IndexMade | Finished | Refused
