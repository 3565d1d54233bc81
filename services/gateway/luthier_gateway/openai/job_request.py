"""The body of `POST /v1/fine_tuning/jobs`."""

from __future__ import annotations

from typing import Annotated, Any

from luthier.trainer.v1 import training_job_pb2
from pydantic import BeforeValidator, Field

from luthier_gateway.openai.errors import invalid
from luthier_gateway.openai.names import FILES, resource
from luthier_gateway.requests import Body, Text

_INT64 = 2**63


def _auto(value: object) -> object:
    return None if value == "auto" else value


Epochs = Annotated[Annotated[int, Field(ge=1, le=1000)] | None, BeforeValidator(_auto)]
BatchSize = Annotated[Annotated[int, Field(ge=1, le=1024)] | None, BeforeValidator(_auto)]
Multiplier = Annotated[Annotated[float, Field(gt=0, le=100)] | None, BeforeValidator(_auto)]
Rank = Annotated[Annotated[int, Field(ge=1, le=512)] | None, BeforeValidator(_auto)]
Alpha = Annotated[Annotated[int, Field(ge=1, le=1024)] | None, BeforeValidator(_auto)]
Share = Annotated[Annotated[float, Field(ge=0, le=0.9)] | None, BeforeValidator(_auto)]


class Hyperparameters(Body):
    """OpenAI's three, and three of our own; None is `auto`."""

    n_epochs: Epochs = None
    batch_size: BatchSize = None
    learning_rate_multiplier: Multiplier = None
    lora_rank: Rank = None
    lora_alpha: Alpha = None
    retain_share: Share = None

    def to_proto(self) -> training_job_pb2.Hyperparameters:
        """Return what the trainer is told; absent fields are `auto` there, too."""
        return training_job_pb2.Hyperparameters(
            epoch_count=self.n_epochs,
            batch_size=self.batch_size,
            learning_rate_multiplier=self.learning_rate_multiplier,
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            retain_share=self.retain_share,
        )


class Supervised(Body):
    """Configuration of the supervised method."""

    hyperparameters: Hyperparameters | None = None


class Method(Body):
    """The kind of tuning."""

    type: Text
    supervised: Supervised | None = None


class JobRequest(Body):
    """What to tune, on what, and how."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    training_file: Annotated[str, Field(min_length=1, max_length=200)]
    validation_file: Annotated[str, Field(max_length=200)] | None = None
    suffix: Annotated[str, Field(max_length=64)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    metadata: dict[Text, Text] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    integrations: list[Any] | None = None

    def to_proto(self, project: str, base_model: str) -> training_job_pb2.TrainingJob:
        """Return the job to create; InvalidArgument for what is not offered."""
        job = training_job_pb2.TrainingJob(
            base_model=base_model,
            training_file=resource(project, FILES, self.training_file),
            suffix=self.suffix or "",
            seed=self.seed,
            metadata=self.metadata or {},
            supervised=training_job_pb2.SupervisedTuningSpec(
                hyperparameters=self._hyperparameters().to_proto()
            ),
        )
        if self.validation_file:
            job.validation_file = resource(project, FILES, self.validation_file)
        return job

    def _hyperparameters(self) -> Hyperparameters:
        if self.integrations:
            raise invalid(
                "integrations are not supported yet", "integrations", reason="UNSUPPORTED_PARAMETER"
            )
        if self.method is None:
            return self.hyperparameters or Hyperparameters()
        if self.method.type != "supervised":
            raise invalid(
                f"method.type: '{self.method.type}' is not supported; supervised is",
                "method.type",
                reason="UNSUPPORTED_METHOD",
            )
        given = self.method.supervised and self.method.supervised.hyperparameters
        return given or self.hyperparameters or Hyperparameters()
