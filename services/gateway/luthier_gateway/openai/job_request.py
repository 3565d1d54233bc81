"""The body of `POST /v1/fine_tuning/jobs`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from luthier.trainer.v1 import training_job_pb2, tuning_pb2
from pydantic import BeforeValidator, Field

from luthier_gateway.openai.errors import invalid
from luthier_gateway.openai.names import FILES, resource
from luthier_gateway.requests import Body, Text

_INT64 = 2**63
_INT32 = 2**31

PUBLIC_NAMES = {"epoch_count": "n_epochs"}
"""What OpenAI calls a hyperparameter, where the trainer calls it something else."""

T = TypeVar("T")


def _auto(value: object) -> object:
    return None if value == "auto" else value


def _modules(value: object) -> object:
    """Names may come as one text, as papers and command lines have them: `q_proj,v_proj`."""
    if isinstance(value, str) and value != "auto":
        return [name.strip() for name in value.split(",")]
    return value


Auto = Annotated[T | None, BeforeValidator(_auto)]
"""None is `auto`, said or left out."""
Modules = Annotated[list[Text], Field(min_length=1, max_length=64)]
Precision = Literal["fp32", "bf16", "fp16", "int8", "nf4", "fp4"]
Lines = Annotated[int, Field(ge=1, le=1024)]
Share = Annotated[float, Field(ge=0, le=0.9)]


class Hyperparameters(Body):
    """OpenAI's three, and our own under the trainer's names."""

    n_epochs: Auto[Annotated[int, Field(ge=1, le=1000)]] = None
    batch_size: Auto[Lines] = None
    learning_rate_multiplier: Auto[Annotated[float, Field(gt=0, le=100)]] = None
    lora_rank: Auto[Annotated[int, Field(ge=1, le=512)]] = None
    lora_alpha: Auto[Annotated[int, Field(ge=1, le=1024)]] = None
    retain_share: Auto[Share] = None
    tuning_mode: Auto[Literal["lora", "full"]] = None
    base_precision: Auto[Precision] = None
    double_quantization: Auto[bool] = None
    compute_precision: Auto[Literal["fp32", "bf16", "fp16"]] = None
    target_modules: Annotated[Auto[Modules], BeforeValidator(_modules)] = None
    lora_dropout: Auto[Share] = None
    micro_batch_size: Auto[Lines] = None
    gradient_checkpointing: Auto[bool] = None
    optimizer: Auto[Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]] = None
    packing: Auto[bool] = None
    length_buckets: Auto[bool] = None
    max_row_tokens: Auto[Annotated[int, Field(ge=16, lt=_INT32)]] = None

    def to_proto(self) -> tuning_pb2.Hyperparameters:
        """Return what the trainer is told; absent fields are `auto` there, too."""
        values: dict[str, Any] = {}
        for field in tuning_pb2.Hyperparameters.DESCRIPTOR.fields:
            value = getattr(self, PUBLIC_NAMES.get(field.name, field.name))
            if value is not None:
                values[field.name] = value.upper() if field.enum_type is not None else value
        return tuning_pb2.Hyperparameters(**values)


class PreferenceHyperparameters(Hyperparameters):
    """Those of DPO, which has one more."""

    beta: Auto[Annotated[float, Field(gt=0, le=2)]] = None


class Supervised(Body):
    """Configuration of the supervised method."""

    hyperparameters: Hyperparameters | None = None


class Preference(Body):
    """Configuration of DPO."""

    hyperparameters: PreferenceHyperparameters | None = None


class Method(Body):
    """The kind of tuning."""

    type: Text
    supervised: Supervised | None = None
    dpo: Preference | None = None


class Gate(Body):
    """What the result must reach to be served."""

    metric: Text
    threshold: float | None = None
    improvement: float | None = None

    def to_proto(self) -> training_job_pb2.PublicationGate:
        """Return what the trainer is told."""
        return training_job_pb2.PublicationGate(
            metric=self.metric, threshold=self.threshold, improvement=self.improvement
        )


class JobRequest(Body):
    """What to tune, on what, and how; from `priority` on an extension of OpenAI's."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    training_file: Annotated[str, Field(min_length=1, max_length=200)]
    validation_file: Annotated[str, Field(max_length=200)] | None = None
    suffix: Annotated[str, Field(max_length=64)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    metadata: dict[Text, Text] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    integrations: list[Any] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    gate: Gate | None = None
    regression_file: Annotated[str, Field(max_length=200)] | None = None
    validate_only: bool = False

    def to_proto(
        self, project: str, base_model: str, start_adapter: str = ""
    ) -> training_job_pb2.TrainingJob:
        """Return the job to create; InvalidArgument for what is not offered."""
        if self.integrations:
            raise invalid(
                "integrations are not supported yet", "integrations", reason="UNSUPPORTED_PARAMETER"
            )
        job = training_job_pb2.TrainingJob(
            base_model=base_model,
            start_adapter=start_adapter,
            training_file=resource(project, FILES, self.training_file),
            suffix=self.suffix or "",
            seed=self.seed,
            metadata=self.metadata or {},
            priority=self.priority,
            gate=self.gate.to_proto() if self.gate else None,
        )
        if self.validation_file:
            job.validation_file = resource(project, FILES, self.validation_file)
        if self.regression_file:
            job.regression_file = resource(project, FILES, self.regression_file)
        self._set_method(job)
        return job

    def _set_method(self, job: training_job_pb2.TrainingJob) -> None:
        match self.method.type if self.method else "supervised":
            case "supervised":
                supervised = self.method and self.method.supervised
                given = supervised and supervised.hyperparameters
                chosen = given or self.hyperparameters or Hyperparameters()
                job.supervised.hyperparameters.CopyFrom(chosen.to_proto())
            case "dpo":
                self._set_preference(job)
            case other:
                raise invalid(
                    f"method.type: '{other}' is not supported; supervised and dpo are",
                    "method.type",
                    reason="UNSUPPORTED_METHOD",
                )

    def _set_preference(self, job: training_job_pb2.TrainingJob) -> None:
        if self.hyperparameters is not None:
            raise invalid(
                "hyperparameters are the supervised method's; those of dpo belong in "
                "method.dpo.hyperparameters",
                "hyperparameters",
            )
        preference = self.method and self.method.dpo
        given = (preference and preference.hyperparameters) or PreferenceHyperparameters()
        job.preference.hyperparameters.CopyFrom(given.to_proto())
        if given.beta is not None:
            job.preference.beta = given.beta
