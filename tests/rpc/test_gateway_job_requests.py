"""What a fine-tuning job may be asked for, through the official SDK."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from luthier.trainer.v1 import training_job_pb2, training_job_service_pb2, tuning_pb2
from luthier_common.errors import FailedPrecondition, InvalidArgument

from tests.support.gateway import told
from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Job = training_job_pb2.TrainingJob
Create = training_job_service_pb2.CreateTrainingJobRequest
BASE = "luthier-starter"


def given(owners: Owners) -> dict[str, Any]:
    """Return the hyperparameters that reached the trainer; absent ones are `auto`."""
    job = owners.last(Create).training_job
    return {field.name: value for field, value in job.supervised.hyperparameters.ListFields()}


async def test_a_job_is_created_with_everything_left_to_auto(sdk: Sdk, owners: Owners) -> None:
    job = await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows"))
    request = owners.last(Create)
    assert request.parent == "projects/default"
    assert request.training_job.base_model == "projects/library/baseModels/luthier-starter"
    assert request.training_job.training_file == "projects/default/files/file-rows"
    assert request.training_job.HasField("supervised")
    assert given(owners) == {}
    assert job.id.startswith("ftjob-")
    assert job.object == "fine_tuning.job"
    assert job.model == BASE
    assert job.training_file == "file-rows"
    assert job.validation_file is None
    assert job.organization_id == "default"
    assert job.status == "validating_files"
    assert job.seed == 42
    assert job.created_at > 0
    assert (job.finished_at, job.fine_tuned_model, job.trained_tokens) == (None, None, None)
    assert job.error is None
    assert job.result_files == []
    assert job.hyperparameters.n_epochs == "auto"
    assert job.hyperparameters.batch_size == "auto"
    assert job.hyperparameters.learning_rate_multiplier == "auto"


async def test_everything_a_caller_fixes_reaches_the_trainer(sdk: Sdk, owners: Owners) -> None:
    job = await sdk(
        lambda c: c.fine_tuning.jobs.create(
            model=BASE,
            training_file="file-rows",
            validation_file="file-checks",
            suffix="support desk",
            seed=7,
            metadata={"team": "north"},
            method={
                "type": "supervised",
                "supervised": {
                    "hyperparameters": {
                        "n_epochs": 3,
                        "batch_size": "auto",
                        "learning_rate_multiplier": 0.5,
                    }
                },
            },
        )
    )
    sent = owners.last(Create).training_job
    assert sent.validation_file == "projects/default/files/file-checks"
    assert (sent.suffix, sent.seed, dict(sent.metadata)) == ("support desk", 7, {"team": "north"})
    assert given(owners) == {"epoch_count": 3, "learning_rate_multiplier": 0.5}
    assert (job.seed, job.metadata, job.validation_file) == (7, {"team": "north"}, "file-checks")
    assert job.method.type == "supervised"
    shown = job.method.supervised.hyperparameters
    assert (shown.n_epochs, shown.batch_size, shown.learning_rate_multiplier) == (3, "auto", 0.5)


OWN: dict[str, Any] = {
    "lora_rank": 16,
    "lora_alpha": 32,
    "retain_share": 0.25,
    "tuning_mode": "lora",
    "base_precision": "fp4",
    "double_quantization": False,
    "compute_precision": "bf16",
    "target_modules": ["q_proj", "*.layers.1?.mlp.*"],
    "lora_dropout": 0.1,
    "micro_batch_size": 2,
    "gradient_checkpointing": True,
    "optimizer": "paged_adamw_8bit",
    "packing": False,
    "length_buckets": True,
    "max_row_tokens": 512,
}
"""Each of our own, given."""


async def test_hyperparameters_of_our_own_travel_in_the_same_place(
    sdk: Sdk, owners: Owners
) -> None:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": OWN}}
    job = await sdk(
        lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows", method=method)
    )
    assert given(owners) == OWN | {
        "tuning_mode": tuning_pb2.LORA,
        "base_precision": tuning_pb2.FP4,
        "compute_precision": tuning_pb2.BF16,
        "optimizer": tuning_pb2.PAGED_ADAMW_8BIT,
    }
    shown = job.method.supervised.hyperparameters.model_dump()
    assert {name: shown[name] for name in OWN} == OWN


async def test_each_of_our_own_may_be_left_to_auto(sdk: Sdk, owners: Owners) -> None:
    auto = dict.fromkeys(OWN, "auto")
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": auto}}
    await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", method=method))
    assert given(owners) == {}


@pytest.mark.parametrize(
    ("text", "modules"),
    [("q_proj, v_proj", ["q_proj", "v_proj"]), ("all-linear", ["all-linear"])],
)
async def test_target_modules_may_come_as_one_text(
    sdk: Sdk, owners: Owners, text: str, modules: list[str]
) -> None:
    own = {"target_modules": text}
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": own}}
    await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", method=method))
    assert given(owners) == {"target_modules": modules}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_precision", "int3"),
        ("tuning_mode", "tuning_mode_unspecified"),
        ("compute_precision", "nf4"),
        ("optimizer", "sgd"),
        ("lora_dropout", 0.95),
        ("max_row_tokens", 2**31),
        ("target_modules", []),
        ("packing", "perhaps"),
    ],
)
async def test_a_hyperparameter_that_cannot_be_is_named(sdk: Sdk, name: str, value: object) -> None:
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {name: value}}}
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", method=method))
    assert caught.value.param == f"method.dpo.hyperparameters.{name}"


async def test_what_openai_does_not_have_travels_beside_it(sdk: Sdk, owners: Owners) -> None:
    extra = {
        "priority": 5,
        "gate": {"metric": "rougeL", "improvement": 0.05},
        "regression_file": "file-general",
    }
    job = await sdk(
        lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", extra_body=extra)
    )
    sent = owners.last(Create).training_job
    assert (sent.priority, sent.gate.metric, sent.gate.improvement) == (5, "rougeL", 0.05)
    assert not sent.gate.HasField("threshold")
    assert sent.regression_file == "projects/default/files/file-general"
    assert {name: getattr(job, name) for name in extra} == extra


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        ("priority", 101, "priority"),
        ("gate", {"threshold": 1}, "gate.metric"),
        ("gate", {"metric": "rougeL", "threshold": "high"}, "gate.threshold"),
    ],
)
async def test_what_is_wrong_beside_it_is_named(
    http: httpx2.AsyncClient, name: str, value: object, param: str
) -> None:
    body = {"model": BASE, "training_file": "f", name: value}
    answer = await http.post("/fine_tuning/jobs", json=body)
    assert (answer.status_code, told(answer)["param"]) == (400, param)


async def test_the_older_place_of_hyperparameters_is_understood(sdk: Sdk, owners: Owners) -> None:
    job = await sdk(
        lambda c: c.fine_tuning.jobs.create(
            model=BASE,
            training_file="file-rows",
            hyperparameters={"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": "auto"},
        )
    )
    assert given(owners) == {"epoch_count": 2, "batch_size": 4}
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, 4)


async def test_a_model_of_the_project_hides_the_librarys_of_that_name(
    sdk: Sdk, owners: Owners
) -> None:
    own = owners.add_model(BASE, project="default")
    await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows"))
    assert owners.last(Create).training_job.base_model == own.name


async def test_preferences_are_tuned_by_dpo_with_its_beta(sdk: Sdk, owners: Owners) -> None:
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2}}}
    job = await sdk(
        lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows", method=method)
    )
    sent = owners.last(Create).training_job
    assert sent.WhichOneof("tuning_spec") == "preference"
    assert (sent.preference.beta, sent.preference.hyperparameters.epoch_count) == (0.2, 2)
    assert job.method.type == "dpo"
    assert job.method.supervised is None
    shown = job.method.dpo.hyperparameters
    assert (shown.beta, shown.n_epochs, shown.batch_size) == (0.2, 2, "auto")


@pytest.mark.parametrize("method", [{"type": "dpo"}, {"type": "dpo", "dpo": {}}])
async def test_dpo_leaves_all_to_auto_unless_told(
    sdk: Sdk, owners: Owners, method: dict[str, Any]
) -> None:
    await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", method=method))
    sent = owners.last(Create).training_job
    assert sent.HasField("preference")
    assert not sent.preference.HasField("beta")


async def test_the_older_place_of_hyperparameters_is_none_of_dpos(sdk: Sdk) -> None:
    method: Any = {"type": "dpo"}
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(
            lambda c: c.fine_tuning.jobs.create(
                model=BASE, training_file="f", method=method, hyperparameters={"n_epochs": 2}
            )
        )
    assert caught.value.param == "hyperparameters"
    assert "method.dpo.hyperparameters" in caught.value.message


async def test_a_method_that_is_not_offered_is_refused(sdk: Sdk, owners: Owners) -> None:
    method: Any = {"type": "reinforcement"}
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", method=method))
    assert (caught.value.param, caught.value.code) == ("method.type", "unsupported_method")
    assert "'reinforcement' is not supported; supervised and dpo are" in caught.value.message
    assert not owners.jobs


async def test_an_integration_is_refused_rather_than_forgotten(sdk: Sdk) -> None:
    wanted: Any = [{"type": "wandb", "wandb": {"project": "p"}}]
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(
            lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="f", integrations=wanted)
        )
    assert caught.value.param == "integrations"


async def test_a_job_may_go_on_from_a_tuned_model(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("ad-1")
    model = f"ft:{BASE}:default:support:ad-1"
    job = await sdk(lambda c: c.fine_tuning.jobs.create(model=model, training_file="f"))
    sent = owners.last(Create).training_job
    assert sent.start_adapter == "projects/default/adapters/ad-1"
    assert sent.base_model == f"projects/library/baseModels/{BASE}"
    assert (job.model, job.start_model) == (BASE, model)
    listed = await sdk(lambda c: c.fine_tuning.jobs.list())
    assert [one.start_model for one in listed.data] == [model]
    del owners.adapters["projects/default/adapters/ad-1"]
    gone = await sdk(lambda c: c.fine_tuning.jobs.retrieve(job.id))
    assert gone.start_model == "ad-1"


async def test_a_job_may_go_on_from_a_checkpoint(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("a12-s40")
    model = f"ft:{BASE}:default:support:a12:ckpt-step-40"
    job = await sdk(lambda c: c.fine_tuning.jobs.create(model=model, training_file="f"))
    assert owners.last(Create).training_job.start_adapter == "projects/default/adapters/a12-s40"
    assert job.start_model == model


async def test_a_fully_tuned_model_is_a_base_like_any_other(sdk: Sdk, owners: Owners) -> None:
    tuned = owners.add_model("m12", project="default")
    tuned.tuning_origin.base_model = f"projects/library/baseModels/{BASE}"
    model = f"ft:{BASE}:default::m12"
    job = await sdk(lambda c: c.fine_tuning.jobs.create(model=model, training_file="f"))
    sent = owners.last(Create).training_job
    assert (sent.base_model, sent.start_adapter) == (tuned.name, "")
    assert job.start_model is None


async def test_a_tuned_model_that_is_held_back_is_a_bad_request(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("ad-1")
    owners.failures[Create] = FailedPrecondition(
        "projects/default/adapters/ad-1 is held back: rougeL is 0.1",
        reason="ADAPTER_HELD",
        field="training_job.start_adapter",
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(
            lambda c: c.fine_tuning.jobs.create(
                model=f"ft:{BASE}:default:support:ad-1", training_file="f"
            )
        )
    assert (caught.value.param, caught.value.code) == ("model", "adapter_held")


async def test_a_job_may_only_be_checked(sdk: Sdk, owners: Owners) -> None:
    owners.preflight.trainable_parameters = 1000
    owners.preflight.chosen.devices.add(device_class="cpu", memory_bytes=2**40, fits=True)
    found = await sdk(
        lambda c: c.fine_tuning.jobs.create(
            model=BASE, training_file="file-rows", extra_body={"validate_only": True}
        )
    )
    assert owners.last(Create).validate_only
    assert not owners.jobs
    assert (found.object, found.status, found.id) == ("fine_tuning.job.preflight", "valid", None)
    assert found.preflight["trainable_parameters"] == 1000
    assert found.preflight["chosen"]["devices"][0]["memory_bytes"] == 2**40
    assert found.hyperparameters.n_epochs == "auto"


async def test_an_unknown_base_model_is_a_bad_request(sdk: Sdk, owners: Owners) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(model="gpt-4o", training_file="f"))
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    assert not owners.jobs


async def test_what_the_trainer_refuses_is_told_in_openais_words(sdk: Sdk, owners: Owners) -> None:
    field = "training_job.supervised.hyperparameters.epoch_count"
    owners.failures[Create] = InvalidArgument(
        "epoch_count must be 1 to 1000, not 0", reason="HYPERPARAMETER_OUT_OF_RANGE", field=field
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows"))
    assert caught.value.param == "method.supervised.hyperparameters.n_epochs"
    assert caught.value.code == "hyperparameter_out_of_range"
    assert "n_epochs must be 1 to 1000" in caught.value.message
    assert "epoch_count" not in caught.value.message


async def test_a_refused_beta_is_told_in_openais_words(sdk: Sdk, owners: Owners) -> None:
    owners.failures[Create] = InvalidArgument(
        "beta must be above 0",
        reason="HYPERPARAMETER_OUT_OF_RANGE",
        field="training_job.preference.beta",
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.fine_tuning.jobs.create(model=BASE, training_file="file-rows"))
    assert caught.value.param == "method.dpo.hyperparameters.beta"
