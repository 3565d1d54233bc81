"""Adapters as folders that another engine's servers read, each named by its digest."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import DataLoss, FailedPrecondition, not_found
from luthier_common.names import parse, project_of
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.folders import fetch_folder

from luthier_inference.adapter_checks import WEIGHTS
from luthier_inference.adapters import ADAPTER, CONFIG
from luthier_inference.digests import adapter_digest


class AdapterFolders:
    """Fetches adapters into a folder; what no server needs any more is removed from it."""

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def path(self, digest: str) -> Path:
        """Return where an adapter is, or would be."""
        return self._folder / digest

    async def fetch(self, adapter: Adapter, server: str) -> Path:
        """Return the adapter's folder, every byte verified; `server` needs it from now on.

        DataLoss when a byte is not what its digest says.
        """
        path = self.path(adapter.digest)
        wanted = [(file.path, file.sha256) for file in adapter.files if file.path in _NEEDED]
        if {name for name, _ in wanted} != _NEEDED or adapter_digest(adapter) != adapter.digest:
            raise DataLoss(
                f"{adapter.name} cannot be loaded: its manifest does not have its digest",
                reason="ADAPTER_DAMAGED",
            )
        async with self._locks[adapter.digest]:
            await fetch_folder(self._blobs, project_of(adapter.name), wanted, path)
            self._users[adapter.digest].add(server)
        return path

    def found(self, digest: str, server: str) -> None:
        """Know that `server` has loaded the adapter from its folder before."""
        self._users[digest].add(server)

    async def release(self, digest: str, server: str) -> None:
        """Remove the folder unless another server needs it."""
        async with self._locks[digest]:
            self._users[digest].discard(server)
            if not self._users[digest]:
                del self._users[digest]
                await asyncio.to_thread(shutil.rmtree, self.path(digest), ignore_errors=True)


_NEEDED = {CONFIG, WEIGHTS}


def check_own(adapter: Adapter, base: BaseModel, parent: str) -> None:
    """NotFound for another project's adapter, FailedPrecondition for one of another base."""
    owner = parse(adapter.name, ADAPTER, field="adapter.name")["project"]
    if owner != project_of(parent, field="parent"):
        raise not_found(adapter.name)
    if (adapter.base_model_digest, adapter.tokenizer_digest) != (
        base.digest,
        base.tokenizer_digest,
    ):
        raise FailedPrecondition(
            f"{adapter.name} was tuned on another base model", reason="BASE_MODEL_MISMATCH"
        )


def check_method(adapter: Adapter, folder: Path) -> dict[str, Any]:
    """Return its configuration; FailedPrecondition where it is not LoRA.

    Only our own engine serves the other methods of peft.
    """
    config: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
    if config.get("peft_type") != "LORA":
        raise _unfit(adapter, f"it is {config.get('peft_type')}, not LoRA", "NOT_LORA")
    return config


def check_limits(adapter: Adapter, folder: Path, max_rank: int) -> None:
    """FailedPrecondition says, with a reason of its own, what vLLM cannot serve.

    As vllm/lora/peft_helper.py (0.32) refuses it, but before a server is asked.
    """
    config = check_method(adapter, folder)
    patterns: dict[str, int] = config.get("rank_pattern") or {}
    rank = max([config.get("r", 0), *patterns.values()])
    init = config.get("init_lora_weights", True)
    if rank > max_rank:
        why = f"its rank is {rank}; the servers' --max-lora-rank, as configured, is {max_rank}"
        raise _unfit(adapter, why, "RANK_TOO_HIGH")
    if config.get("use_dora"):
        raise _unfit(adapter, "vLLM has no DoRA", "DORA")
    if config.get("modules_to_save") or config.get("trainable_token_indices"):
        raise _unfit(adapter, "vLLM takes no modules_to_save", "MODULES_TO_SAVE")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        raise _unfit(adapter, "vLLM takes no biases", "BIAS")
    if isinstance(init, str) and init.lower() not in _HARMLESS_INITS:
        why = f"its init_lora_weights {init!r} changes the base model"
        raise _unfit(adapter, why, "INIT_CHANGES_BASE")
    others = sorted(key for key in _UNKNOWN_TO_VLLM if config.get(key))
    if others:
        raise _unfit(adapter, f"vLLM does not know {', '.join(others)}", "UNKNOWN_OPTION")


_HARMLESS_INITS = {"gaussian", "eva", "orthogonal", "mica", "lora_ga"}
_UNKNOWN_TO_VLLM = (
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
)


def _unfit(adapter: Adapter, why: str, reason: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{adapter.name} is not served by its engine: {why}; serve its base model with our own "
        "engine, or tune it otherwise",
        reason=f"ADAPTER_UNFIT_{reason}",
        field="model",
    )
