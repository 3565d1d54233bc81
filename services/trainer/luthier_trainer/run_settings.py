"""What a run is told: the environment that the trainer gives it and the run reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from google.protobuf.json_format import MessageToJson
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier_common.settings import PREFIX, Address
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from luthier_trainer.settings import TrainerSettings

EXIT_BAD_DATA = 65
"""EX_DATAERR of sysexits.h: the job cannot be done, and trying again would not help."""

EXIT_GAVE_BACK = 75
"""EX_TEMPFAIL of sysexits.h: told to stop, the run has saved its state; it is nobody's fault."""


class RunSettings(BaseSettings):
    """Settings of a run."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, hide_input_in_errors=True)

    trainer_address: Address
    """Where the run reports to."""

    objects_url: str
    """The object store, as in `ServiceSettings`."""

    objects_access_key: str = ""
    objects_secret_key: SecretStr = SecretStr("")
    identity_secret: SecretStr
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    run_folder: Path
    """The job's own folder: its checkpoints outlive a run that fails."""

    run_cache: Path
    """Where base models are kept for all runs, by digest."""

    run_job: str
    """The job's record as JSON, as it was claimed."""

    run_base_model: str
    """The base model's record as JSON."""


def run_environment(
    settings: TrainerSettings, address: str, folder: Path, job: TrainingJob, base: BaseModel
) -> dict[str, str]:
    """Return the environment of a run: this one's without this one's settings."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    given = {
        "TRAINER_ADDRESS": address,
        "OBJECTS_URL": settings.objects_url,
        "OBJECTS_ACCESS_KEY": settings.objects_access_key,
        "OBJECTS_SECRET_KEY": settings.objects_secret_key.get_secret_value(),
        "IDENTITY_SECRET": settings.identity_secret.get_secret_value(),
        "LOG_LEVEL": settings.log_level,
        "RUN_FOLDER": str(folder),
        "RUN_CACHE": str(settings.work_dir / "base-models"),
        "RUN_JOB": MessageToJson(job, indent=None),
        "RUN_BASE_MODEL": MessageToJson(base, indent=None),
    }
    # Nothing is ever fetched from a model hub, and nothing is ever sent to a tracker.
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    return own | {PREFIX + key: value for key, value in given.items()} | offline
