"""What the dataset service reads from its environment."""

from __future__ import annotations

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

    max_file_bytes: Annotated[int, Field(gt=0)] = 512 * 1024 * 1024
    """Largest file that is stored, in bytes."""

    question_prompts: QuestionPrompts = QuestionPrompts()
    """How base models are asked for questions; see `recipes/questions.py`."""
