"""How much memory there is for what an engine keeps beside its model."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_SHARE_OF_DEVICE = 0.8
"""Of a GPU's free memory, for keys and values; the rest is what steps compute in."""
_SHARE_OF_MACHINE = 0.25
"""Of a machine's free memory, which other processes want, too."""
_CGROUP = Path("/sys/fs/cgroup")


def cache_budget(device: torch.device) -> int:
    """Return the bytes for keys and values of requests where the settings do not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * _SHARE_OF_DEVICE)
    return int(min(_free_bytes(), _free_of_group()) * _SHARE_OF_MACHINE)


def _free_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _free_of_group() -> int:
    """Return what the container may still use; what the machine has where there is no limit."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return _free_bytes()
    return _free_bytes() if limit == "max" else max(0, int(limit) - used)
