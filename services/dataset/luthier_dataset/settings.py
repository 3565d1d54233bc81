"""What the dataset service reads from its environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from luthier_common.settings import Address, ServiceSettings
from pydantic import Field

from luthier_dataset.recipes.questions import QuestionPrompts


class DatasetSettings(ServiceSettings):
    """Settings of the dataset service, beside those of every service."""

    inference_address: Address
    """The inference service, asked for base models and for what they write."""

    work_dir: Path
    """Scratch folder; may be emptied whenever the service is down."""

    max_file_bytes: Annotated[int, Field(gt=0)] = 8 * 1024**3
    """Largest file that is stored, in bytes."""

    objects_public_url: str = ""
    """Where callers outside reach an S3 store, `https://host:port`, if not at `objects_url`."""

    build_workers: Annotated[int, Field(gt=0)] = len(os.sched_getaffinity(0))
    """Processes that one build works with: a core each."""

    question_prompts: QuestionPrompts = QuestionPrompts()
    """How base models are asked for questions; see `recipes/questions.py`."""
