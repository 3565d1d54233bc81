"""One unit of a build: a recipe over a part of a source, measured and checked row by row."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePath

import msgspec
from luthier.dataset.v1.quality_pb2 import QualityCheck
from luthier.dataset.v1.recipe_pb2 import Recipe
from luthier_common.errors import FailedPrecondition

from luthier_dataset.build.jobs import UNIT_FILES, MakeUnit, Setting, UnitMade
from luthier_dataset.build.replies import Question, Replies, key_of, write_questions, write_used
from luthier_dataset.build.stored import RowWriter, StoredRow, row_keys
from luthier_dataset.build.workspace import Workspace, finish, sizes_of
from luthier_dataset.models import counter_in
from luthier_dataset.quality.checks import findings_in
from luthier_dataset.quality.findings import Finding
from luthier_dataset.quality.language import language_of
from luthier_dataset.quality.report import Tally
from luthier_dataset.readers.items import Item, load
from luthier_dataset.recipes.recipe import (
    Ask,
    Document,
    Kind,
    Origin,
    Passage,
    Reply,
    Row,
    prompt_and_answer,
)
from luthier_dataset.recipes.registry import registry
from luthier_dataset.rows import MAX_LINE_BYTES, format_row
from luthier_dataset.search import Index
from luthier_dataset.tokens import Measured

DEFAULT_CONTEXT = 2048
"""Where a model does not say how many tokens its context holds."""


MOST_QUESTIONS = 20_000
"""Questions that a unit asks at once, so that those of a long document do not fill the memory."""


class UnitTools:
    """The tools of a recipe that runs in a worker; implements `Tools`."""

    def __init__(self, setting: Setting, replies: Replies) -> None:
        self.setting = setting
        self._replies = replies
        self._place = Workspace(Path(setting.workspace))
        self.tokenizer = tokenizer(self._place.model)
        self.context_tokens = setting.context_tokens or DEFAULT_CONTEXT
        self._digests = {source.file: source.sha256 for source in setting.sources}
        self.dropped: Counter[str] = Counter()
        self.tally = Tally()
        self.questions: dict[str, Ask] = {}
        """What has no reply yet, by key."""
        self.used: dict[str, None] = {}
        """Keys of the replies that were there."""

    def ask(self, ask: Ask) -> Reply | None:
        """See `Tools`."""
        model = ask.model or self.setting.base_model
        key = key_of(ask, self.setting.digests[model])
        reply = self._replies.get(key)
        if reply is not None:
            self.used[key] = None
        elif len(self.questions) < MOST_QUESTIONS:
            self.questions[key] = msgspec.structs.replace(ask, model=model)
        return reply

    def search(self, query: str, most: int, *, beside: str = "") -> list[Passage]:
        """See `Tools`."""
        together = self.group_of(beside) if beside and self.setting.shares else ""
        return _index(self._place.index).search(query, most, together)

    def group_of(self, file: str) -> str:
        """See `Tools`."""
        return self.setting.group_of(self._digests[file])

    def drop(self, reason: str, count: int = 1) -> None:
        """See `Tools`."""
        self.dropped[reason] += count

    def longest(self, measured: Measured) -> int:
        """Return the tokens of a row that must fit into the context together."""
        if not self.setting.encoder_decoder:
            return measured.tokens
        return max(measured.learned, measured.tokens - measured.learned)

    def malformed(self, reason: str, detail: str, origin: Origin) -> None:
        """See `Tools`."""
        self.drop(reason)
        self.tally.note(Finding(QualityCheck.MALFORMED_ROW, detail), origin)

    def random(self, key: str) -> random.Random:
        """See `Tools`."""
        digest = hashlib.sha256(f"{self.setting.seed}:{key}".encode("utf-8", "surrogatepass"))
        return random.Random(digest.digest())


def make_unit(setting: Setting, task: MakeUnit) -> UnitMade:
    """Make a unit's rows; if something has to be asked first, write that down instead."""
    workspace = Workspace(Path(setting.workspace))
    path = workspace.unit(task.recipe, task.source, task.part)
    config = Recipe.FromString(setting.recipes[task.recipe])
    name = config.WhichOneof("recipe") or ""
    kind = registry(setting.prompts)[name]
    document = document_of(setting, task.source, task.start, task.end)
    shapes: set[str] = set()
    with Replies(workspace.replies) as replies, RowWriter(path) as writer:
        tools = UnitTools(setting, replies)
        for row in kind.make_rows(config, document, tools):
            # What a run with open questions makes is made again.
            if tools.questions and not setting.partial:
                if len(tools.questions) == MOST_QUESTIONS:
                    break
                continue
            if _store(row, name, kind, document, tools, task.recipe, writer):
                shapes.add(str(row.shape))
    write_used(path, tools.used)
    made = UnitMade(
        writer.rows,
        tuple(sorted(shapes)),
        dict(tools.dropped),
        tools.tally,
        sizes_of(path, UNIT_FILES),
        asked=len(tools.questions),
    )
    if tools.questions:
        write_questions(path, [Question(key, ask) for key, ask in tools.questions.items()])
    else:
        finish(path, made)
    return made


def _store(
    row: Row,
    name: str,
    kind: Kind,
    document: Document,
    tools: UnitTools,
    recipe: int,
    writer: RowWriter,
) -> bool:
    measured = _measured(row, tools)
    if measured is None:
        return False
    findings = list(findings_in(row))
    if expected := tools.setting.languages:
        language = language_of("\n".join(prompt_and_answer(row)))
        if language and language not in expected:
            findings.append(Finding(QualityCheck.UNEXPECTED_LANGUAGE, f"in {language}"))
    if (longest := tools.longest(measured)) > tools.context_tokens:
        detail = f"{longest} tokens; the model's context holds {tools.context_tokens}"
        findings.append(Finding(QualityCheck.OVER_LONG, detail))
    line = format_row(row.body)
    if len(line) > MAX_LINE_BYTES:
        # What was uploaded may have been written more tightly.
        tools.drop("line_too_long")
        return False
    stored = StoredRow(
        line=line.decode().rstrip("\n"),
        shape=str(row.shape),
        recipe=name,
        origins=row.origins,
        tokens=measured.tokens,
        learned=measured.learned,
        findings=tuple(sorted({finding.check for finding in findings})),
        label=row.label,
    )
    # Two recipes over one source part it differently: only whole documents are then apart.
    alone = len(tools.setting.recipes) == 1
    group = row.group if alone and row.group else tools.setting.group_of(document.sha256)
    keys = row_keys(row, stored, recipe, one_answer=kind.one_answer, group=group)
    writer.write(stored, keys, "\n".join(prompt_and_answer(row)))
    tools.tally.add(findings, row.origins[0], row.label)
    return True


def _measured(row: Row, tools: UnitTools) -> Measured | None:
    """Return the tokens of a row; None, once it is dropped, if the model cannot read it."""
    if row.text_tokens:
        return Measured(row.text_tokens, row.text_tokens)
    try:
        return tools.tokenizer.measure(row.shape, row.body)
    except FailedPrecondition:
        reads = tools.tokenizer.reads_chats
        tools.drop("chat_template_refuses" if reads else "chat_template_missing")
        return None


def document_of(setting: Setting, number: int, start: int, end: int) -> Document:
    """Return a source, with the items that lie between two offsets of its file of items."""
    source = setting.sources[number]
    path = Workspace(Path(setting.workspace)).items(number)

    def items() -> Iterator[Item]:
        with path.open("rb") as file:
            file.seek(start)
            while file.tell() < end and (line := file.readline()):
                yield load(line)

    title = PurePath(source.display_name).stem
    return Document(source.file, title, source.sha256, items)


tokenizer = lru_cache(maxsize=2)(counter_in)
"""`counter_in`, once a folder."""


@lru_cache(maxsize=2)
def _index(path: Path) -> Index:
    return Index(path)
