"""Reads archives of source code: ZIP and TAR.

What each limit is: `members` for the archive, `source` and `code.syntax` for a file in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from luthier_dataset.readers.code.syntax import Budget
from luthier_dataset.readers.items import CodeFile, Place, Remark, UnreadableDocument
from luthier_dataset.readers.members import BINARY, Member, members_of
from luthier_dataset.readers.source import MAX_DOCUMENT_STEPS, MAX_SOURCE_BYTES, code_file

MAX_REMARKS = 100
"""Single remarks; more are counted by their reason."""

_MAX_PATH_BYTES = 4096
_LONGEST_SHOWN = 200
_SKIPPED_FOLDERS = frozenset(
    (
        *(".git", ".hg", ".svn", "node_modules", "bower_components", "vendor", "third_party"),
        *("__MACOSX", "__pycache__", ".venv", "venv", "site-packages", ".tox", ".mypy_cache"),
        *("dist", "build", "target", "obj", ".gradle", ".next", ".idea", ".vscode"),
    )
)
"""Folders of what others wrote or a machine made."""
_LOCK_FILES = frozenset(
    (
        *("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml"),
        *("poetry.lock", "uv.lock", "Pipfile.lock", "Cargo.lock", "Gemfile.lock"),
        *("composer.lock", "go.sum", "gradle.lockfile", "packages.lock.json"),
    )
)
_MINIFIED = re.compile(r"\.(?:min\.(?:js|css|mjs)|js\.map|css\.map)$", re.IGNORECASE)
_ARCHIVES = re.compile(r"\.(?:zip|jar|war|ear|whl|tar|tgz|gz|bz2|xz|zst|7z|rar)$", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def read_archive(path: Path) -> Iterator[CodeFile | Remark]:
    """Yield the source files and other texts of an archive, sorted by path, then remarks.

    Nothing is unpacked to disk and no link is followed. Members that cannot or should not be read
    are named or counted in remarks. UnreadableDocument: no archive, one beyond the limits, or one
    without any text.
    """
    skipped = _Skipped()
    budget = Budget(MAX_DOCUMENT_STEPS)
    files = 0
    for name, data in members_of(path, skipped.wants):
        if isinstance(data, str):
            skipped.add(name, data)
            continue
        try:
            for item in code_file(data, name, budget, member=name):
                if isinstance(item, CodeFile):
                    files += 1
                    yield item
                else:
                    skipped.remark(item)
        except UnreadableDocument:
            skipped.add(name, BINARY)
    remarks = list(skipped.remarks())
    if not files:
        why = f": {remarks[0].detail}" if remarks else ""
        raise UnreadableDocument(f"it holds no text that can be read{why}")
    yield from remarks


class _Skipped:
    """Decides which members are read, and remembers why the others are not."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._remarks: list[Remark] = []
        self._more: Counter[tuple[str, str]] = Counter()
        self._folders: Counter[str] = Counter()
        self._binary = 0

    def wants(self, member: Member) -> bool:
        """Say whether a member is read."""
        if problem := _problem(member):
            self.add(member.name, problem)
        elif made := _made_by_machine(member.name):
            self._folders[made] += 1
        else:
            if member.name in self._names:
                self.add(member.name, "several members have this name; the last one is read")
            self._names.add(member.name)
            return True
        return False

    def add(self, name: str, reason: str) -> None:
        """Count a member that is not read."""
        if reason == BINARY:
            self._binary += 1
        else:
            shown = _shown(name)
            detail = f"{shown} is left out: {reason}"
            # In brackets are the words of a library, which name the member.
            general = f"left out: {reason.partition(' (')[0]}"
            self.remark(Remark("skipped_member", detail, Place(member=shown)), general)

    def remark(self, remark: Remark, general: str = "read with some loss") -> None:
        """Keep a remark; of many, only how many there are of a general reason."""
        if len(self._remarks) < MAX_REMARKS:
            self._remarks.append(remark)
        else:
            self._more[remark.code, general] += 1

    def remarks(self) -> Iterator[Remark]:
        """Yield what is to be said, single members first."""
        yield from self._remarks
        for (code, general), count in sorted(self._more.items()):
            yield Remark(code, f"{count} more members are {general}")
        if self._folders:
            names = ", ".join(f"{name} ({count})" for name, count in self._folders.most_common(20))
            count = self._folders.total()
            detail = f"files left out because others or a machine made them ({count}): {names}"
            yield Remark("skipped_member", detail)
        if self._binary:
            yield Remark("skipped_member", f"binary files left out: {self._binary}")


def _problem(member: Member) -> str:
    """Why a member must not or cannot be read; empty if it can."""
    name = member.name
    if not name or _UNPRINTABLE.search(name):
        return "its name has control characters or is not UTF-8"
    if len(name.encode("utf-8")) > _MAX_PATH_BYTES:
        return f"its name has more than {_MAX_PATH_BYTES} bytes"
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        return "its name is an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "its name leads out of the archive"
    if member.obstacle:
        return member.obstacle
    if _ARCHIVES.search(name):
        return "archives inside archives are not opened"
    if member.size > MAX_SOURCE_BYTES:
        return f"it has more than {MAX_SOURCE_BYTES} bytes"
    return ""


def _made_by_machine(name: str) -> str:
    """The folder or kind of file for which a member is left out; empty if it is not."""
    *folders, last = re.split(r"[/\\]", name)
    for folder in folders:
        if folder in _SKIPPED_FOLDERS:
            return folder
    if last in _LOCK_FILES:
        return "lock files"
    return "minified files" if _MINIFIED.search(last) else ""


def _shown(name: str) -> str:
    """A name fit for people: nothing unprintable, not too long."""
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    shown = _UNPRINTABLE.sub(lambda found: f"\\x{ord(found.group()):02x}", shown)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
