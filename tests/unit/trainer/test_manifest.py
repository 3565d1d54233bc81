from typing import Any

import pytest
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import (
    Optimizer,
    Precision,
    PreferenceTuningSpec,
    ResolvedHyperparameters,
    TuningMode,
)
from luthier_trainer.manifest import configuration


def job(preference: bool = False, **chosen: Any) -> TrainingJob:
    values: dict[str, Any] = {
        "epoch_count": 3,
        "batch_size": 8,
        "learning_rate": 0.00012345678901,
        "lora_rank": 16,
        "lora_alpha": 32,
        "retain_share": 0.25,
        "reasons": ["rank 16: it holds the data"],
        "learning_rate_multiplier": 1.0,
        "tuning_mode": TuningMode.LORA,
        "base_precision": Precision.NF4,
        "double_quantization": True,
        "target_modules": ["q_proj", "v_proj"],
        "optimizer": Optimizer.PAGED_ADAMW_8BIT,
        "max_row_tokens": 512,
    }
    tuned = TrainingJob(seed=7, resolved_hyperparameters=ResolvedHyperparameters(**values | chosen))
    if preference:
        tuned.preference.CopyFrom(PreferenceTuningSpec())
    return tuned


def test_a_manifest_tells_all_that_the_run_used() -> None:
    assert configuration(job()) == {
        "method": "supervised",
        "quantization": "nf4, double",
        "seed": "7",
        "epoch_count": "3",
        "batch_size": "8",
        "learning_rate": "0.00012345678901",
        "lora_rank": "16",
        "lora_alpha": "32",
        "retain_share": "0.25",
        "learning_rate_multiplier": "1.0",
        "tuning_mode": "lora",
        "base_precision": "nf4",
        "double_quantization": "true",
        "target_modules": "q_proj,v_proj",
        "lora_dropout": "0.0",
        "gradient_checkpointing": "false",
        "optimizer": "paged_adamw_8bit",
        "packing": "false",
        "length_buckets": "false",
        "max_row_tokens": "512",
    }


def test_full_tuning_has_nothing_of_lora() -> None:
    told = configuration(job(tuning_mode=TuningMode.FULL, base_precision=Precision.BF16))
    assert (told["tuning_mode"], told["quantization"]) == ("full", "none")
    assert not {name for name in told if "lora" in name} - {"lora"}
    assert "target_modules" not in told
    assert "double_quantization" not in told


def test_dpo_tells_its_beta_and_retains_nothing() -> None:
    told = configuration(job(preference=True, beta=0.1))
    assert (told["method"], told["beta"]) == ("dpo", "0.1")
    assert "retain_share" not in told


@pytest.mark.parametrize(
    ("precision", "double", "words"),
    [
        (Precision.NF4, False, "nf4"),
        (Precision.FP4, True, "fp4, double"),
        (Precision.INT8, False, "int8"),
        (Precision.BF16, False, "none"),
    ],
)
def test_quantization_is_told_in_words(precision: Precision, double: bool, words: str) -> None:
    told = configuration(job(base_precision=precision, double_quantization=double))
    assert told["quantization"] == words


def test_what_a_job_was_given_besides_rows_is_told_by_digest() -> None:
    tuned = job(micro_batch_size=2)
    tuned.start_adapter, tuned.start_adapter_digest = "projects/acme/adapters/a", "5" * 64
    tuned.validation_file_sha256 = "6" * 64
    told = configuration(tuned)
    assert (told["start_adapter"], told["start_adapter_digest"]) == (tuned.start_adapter, "5" * 64)
    assert (told["validation_digest"], told["micro_batch_size"]) == ("6" * 64, "2")
    assert "regression_digest" not in told
