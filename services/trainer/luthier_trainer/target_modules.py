"""Target modules: which linear layers a job's names and patterns mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from luthier_common.errors import InvalidArgument

_WILD = re.compile(r"[*?]")


def matching(names: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """Return those of `names` that any entry means: a name, the end of one, or a pattern.

    In a pattern, `*` stands for any characters and `?` for one; a pattern is of the whole name.
    InvalidArgument for an entry that means none.
    """
    found: set[str] = set()
    for entry in wanted:
        meant = {name for name in names if _means(entry, name)}
        if not meant:
            ends = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
            raise InvalidArgument(
                f"target_modules: '{entry}' is no linear layer of this model; it has {ends}",
                reason="UNKNOWN_TARGET_MODULE",
                field="training_job.hyperparameters.target_modules",
            )
        found |= meant
    return [name for name in names if name in found]


def spelled(names: Sequence[str], chosen: Collection[str]) -> list[str]:
    """Return `chosen` as adapters' configurations have it: by the last parts, where those do.

    Engines look for such names; whole ones are kept where a last part would mean more layers.
    """
    ends = sorted({name.rpartition(".")[2] for name in chosen})
    meant = {name for name in names if name.rpartition(".")[2] in ends}
    return ends if meant == set(chosen) else sorted(chosen)


def _means(entry: str, name: str) -> bool:
    if not _WILD.search(entry):
        return name == entry or name.endswith(f".{entry}")
    return fnmatchcase(name, entry)  # whose expressions do not backtrack beyond a star
