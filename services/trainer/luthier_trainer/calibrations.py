"""Calibrations: what finished runs have measured, for estimates of the next ones.

A record for each device class, architecture, tuning mode and precision of the base model's
weights; it lies under the library project, since it says nothing of anybody's data.
"""

from __future__ import annotations

import hashlib
import math

from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.calibration_pb2 import Calibration, CalibrationPoint
from luthier.trainer.v1.training_job_pb2 import Measurement, TrainingJob
from luthier.trainer.v1.tuning_pb2 import Precision, TuningMode
from luthier_common.errors import AlreadyExists, NotFound
from luthier_common.identity import LIBRARY
from luthier_common.names import format_name
from luthier_common.records.collection import Collection

PATTERN = "projects/{project}/calibrations/{calibration}"
_MOST_POINTS = 20
"""Enough for a curve over sizes of models; older machines and code are forgotten."""


class Calibrations:
    """The measurements of all runs."""

    def __init__(self, records: Collection[Calibration]) -> None:
        self._records = records

    async def record(self, job: TrainingJob, base: BaseModel, measurement: Measurement) -> None:
        """Add what the run of a job that succeeded has measured; nothing if it measured nothing."""
        speed = measurement.tokens_per_second
        if not measurement.device_class or not math.isfinite(speed) or speed <= 0:
            return
        chosen = job.resolved_hyperparameters
        point = CalibrationPoint(
            parameter_count=base.parameter_count,
            tokens_per_second=speed,
            gradient_checkpointing=chosen.gradient_checkpointing,
            peak_memory_bytes=measurement.peak_memory_bytes,
            preference=job.HasField("preference"),
        )
        fresh = Calibration(
            device_class=measurement.device_class,
            architecture=base.architecture,
            tuning_mode=chosen.tuning_mode,
            base_precision=chosen.base_precision,
            points=[point],
        )

        def add(found: Calibration) -> Calibration:
            found.points.append(point)
            del found.points[:-_MOST_POINTS]
            return found

        name = _name(
            fresh.device_class, fresh.architecture, fresh.tuning_mode, fresh.base_precision
        )
        try:
            await self._records.update(name, add)
        except NotFound:
            try:
                await self._records.create(name, fresh)
            except AlreadyExists:  # by another run, just now
                await self._records.update(name, add)

    async def find(
        self,
        device_class: str,
        architecture: str,
        tuning_mode: TuningMode,
        base_precision: Precision,
    ) -> Calibration | None:
        """Return what runs of this kind have measured; None when there was none."""
        try:
            return await self._records.get(
                _name(device_class, architecture, tuning_mode, base_precision)
            )
        except NotFound:
            return None


def _name(device_class: str, architecture: str, mode: TuningMode, precision: Precision) -> str:
    kind = "\n".join((device_class, architecture, str(int(mode)), str(int(precision))))
    digest = hashlib.sha256(kind.encode()).hexdigest()
    return format_name(PATTERN, project=LIBRARY, calibration=f"c{digest[:24]}")
