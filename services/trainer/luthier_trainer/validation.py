"""From VALIDATING to QUEUED: what a job's rows are, what `auto` makes of them, and the cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.preflight_pb2 import Preflight
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import ResolvedHyperparameters
from luthier_common.errors import InvalidArgument
from luthier_common.names import parent_of, project_of
from luthier_common.objects.blobs import Blobs

from luthier_trainer import hyperparameters
from luthier_trainer.architectures import ROWS_MIXED
from luthier_trainer.auto import Sizes
from luthier_trainer.lines import most_tokens
from luthier_trainer.peers import Peers
from luthier_trainer.preflight.devices import Devices
from luthier_trainer.preflight.estimate import check_fits, preflight
from luthier_trainer.preflight.headers import Snapshot, Snapshots
from luthier_trainer.preflight.rows import Row, Survey, Teaching, survey
from luthier_trainer.preflight.setup import setup_of
from luthier_trainer.preflight.steps import Layout, Lengths, passes_of
from luthier_trainer.preflight.tokens import TokenCounter
from luthier_trainer.shapes import shape_of

GENERAL_ROWS = "retain.jsonl"
"""The base model's file of rows that show what it can do."""
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_CONFIG_BYTES = 1 << 20
"""As the registry takes it."""


@dataclass(frozen=True)
class Examined:
    """What was found of a job that can be done."""

    hyperparameters: ResolvedHyperparameters
    preflight: Preflight


class Validation:
    """Checks jobs against the bytes that they have pinned, and says what they will take."""

    def __init__(self, blobs: Blobs, peers: Peers, devices: Devices) -> None:
        self._blobs = blobs
        self._peers = peers
        self._devices = devices
        self._snapshots = Snapshots(blobs)

    async def examine(self, job: TrainingJob) -> Examined:
        """Return what the run shall use and will take; a PlatformError says what is wrong."""
        base = await self._peers.base_model(parent_of(job.name), job.base_model)
        snapshot = await self._snapshots.of(base)
        rows = await self._survey(job, snapshot, "training_file")
        for field in ("validation_file", "regression_file"):
            if getattr(job, field):
                await self._survey(job, snapshot, field)
        inventory = snapshot.inventory
        lengths = await asyncio.to_thread(
            _lengths, rows.sample, snapshot.counter, sides=inventory.encoder_decoder
        )
        resolved = await self._resolve(job, base, snapshot, rows, lengths)
        preference = job.HasField("preference")
        packs = resolved.packing and inventory.family not in ROWS_MIXED
        layout = Layout(
            most=most_tokens(resolved) if packs else 0,
            preference=preference,
            encoder_decoder=inventory.encoder_decoder,
        )
        passes = passes_of(lengths, resolved, layout, seed=job.seed)
        if not passes.tokens:
            raise InvalidArgument(
                f"{job.training_file}: no row is within max_row_tokens, "
                f"{resolved.max_row_tokens} tokens",
                reason="NO_ROWS_TO_LEARN",
                field="training_job.training_file",
            )
        setup = setup_of(resolved, inventory, passes, preference=preference)
        if self._devices.own is not None:
            check_fits(setup, inventory, self._devices.own)
        answer = await preflight(resolved, setup, inventory, rows, passes, self._devices)
        return Examined(resolved, answer)

    async def _resolve(
        self,
        job: TrainingJob,
        base: BaseModel,
        snapshot: Snapshot,
        rows: Survey,
        lengths: Sequence[Lengths],
    ) -> ResolvedHyperparameters:
        # They are chats, of no use to a model that cannot read those.
        ships = any(file.path == GENERAL_ROWS for file in base.files)
        general = ships and base.has_chat_template
        if hyperparameters.given_in(job).retain_share and not general:
            raise InvalidArgument(
                f"{base.name} ships no general rows ({GENERAL_ROWS}), so there are none to retain",
                reason="NO_GENERAL_ROWS",
                field=f"{hyperparameters.field_of(job)}.retain_share",
            )
        sampled = sum(map(sum, lengths))
        sizes = Sizes(
            parameters=base.parameter_count,
            lora_parameters_per_rank=base.lora_parameters_per_rank,
            rows=rows.accepted,
            tokens=sampled * rows.accepted // len(lengths),
            ships_general_rows=general,
        )
        return hyperparameters.resolve(
            job,
            sizes,
            context_tokens=base.context_tokens,
            encoder_decoder=snapshot.inventory.encoder_decoder,
            start=await self._start(job) if job.start_adapter else None,
        )

    async def _start(self, job: TrainingJob) -> Mapping[str, str]:
        """Return the configuration of the adapter to go on from; InvalidArgument if no LoRA.

        What an adapter that was registered by hand does not tell is in its file.
        """
        (file,) = (file for file in job.start_adapter_files if file.path == _ADAPTER_CONFIG)
        told = await self._blobs.read(
            project_of(job.name), file.sha256, max_bytes=_ADAPTER_CONFIG_BYTES
        )
        # The registry has more methods, and only the file tells which.
        config = json.loads(told)
        method = config["peft_type"]
        if method != "LORA":
            raise InvalidArgument(
                f"{job.start_adapter} is an adapter of {method}, and only LoRA can be gone on "
                "from; start from an adapter of LoRA, or from the base model without start_adapter",
                reason="START_NOT_LORA",
                field="training_job.start_adapter",
            )
        adapter = await self._peers.adapter(parent_of(job.name), job.start_adapter)
        shape = {
            "lora_rank": str(config["r"]),
            "lora_alpha": str(config["lora_alpha"]),
            "target_modules": ",".join(sorted(config["target_modules"])),
        }
        return shape | dict(adapter.configuration)

    async def _survey(self, job: TrainingJob, snapshot: Snapshot, field: str) -> Survey:
        """Read one of a job's files; InvalidArgument if it is of no use to it."""
        teaching = Teaching(
            preference=job.HasField("preference") and field != "regression_file",
            encoder_decoder=snapshot.inventory.encoder_decoder,
            has_chat_template=snapshot.counter.has_chat_template,
        )
        return await survey(
            self._lines(project_of(job.name), getattr(job, f"{field}_sha256")),
            teaching,
            where=getattr(job, field),
            request_field=f"training_job.{field}",
            seed=job.seed,
        )

    async def _lines(self, project: str, sha256: str) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._blobs.stream(project, sha256):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line
        if rest:
            yield rest


def _lengths(sample: Sequence[Row], counter: TokenCounter, *, sides: bool) -> list[Lengths]:
    return [counter.lengths(shape_of(row), row, sides=sides) for row in sample]
