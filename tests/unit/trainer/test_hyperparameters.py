"""What callers may give, what goes together, and what becomes of what they leave out."""

import math
from typing import Any

import pytest
from luthier.trainer.v1.training_job_pb2 import TrainingJob
from luthier.trainer.v1.tuning_pb2 import (
    ADAMW,
    BF16,
    FP4,
    FP16,
    FP32,
    FULL,
    INT8,
    LORA,
    NF4,
    PAGED_ADAMW_8BIT,
    Hyperparameters,
    Optimizer,
    Precision,
    PreferenceTuningSpec,
    ResolvedHyperparameters,
    SupervisedTuningSpec,
    TuningMode,
)
from luthier_common.errors import InvalidArgument
from luthier_trainer.auto import Choice, Method, Sizes, choose
from luthier_trainer.hyperparameters import check, field_of, given_in, is_full
from luthier_trainer.hyperparameters import resolve as resolve_job

SIZES = Sizes(2_000_000, 12_000, rows=300, tokens=40_000, ships_general_rows=True)
AUTO: Choice = choose(SIZES)
CONTEXT = 512

TINY = math.ulp(0.0)
RANGES: dict[str, tuple[float, float]] = {
    "epoch_count": (1, 1000),
    "batch_size": (1, 1024),
    "learning_rate_multiplier": (TINY, 100.0),
    "lora_rank": (1, 512),
    "lora_alpha": (1, 1024),
    "retain_share": (0.0, 0.9),
    "lora_dropout": (0.0, 0.9),
    "micro_batch_size": (1, 1024),
    "max_row_tokens": (16, 2**31 - 1),
}
FRACTIONS = ("learning_rate_multiplier", "retain_share", "lora_dropout")
OUT_OF_RANGE = [
    ("epoch_count", 0),
    ("epoch_count", 1001),
    ("epoch_count", -(2**31)),
    ("batch_size", 0),
    ("batch_size", 1025),
    ("learning_rate_multiplier", 0.0),
    ("learning_rate_multiplier", -1.0),
    ("learning_rate_multiplier", math.nextafter(100, 101)),
    ("lora_rank", 0),
    ("lora_rank", 513),
    ("lora_alpha", 0),
    ("lora_alpha", 1025),
    ("retain_share", -TINY),
    ("retain_share", math.nextafter(0.9, 1)),
    ("lora_dropout", -TINY),
    ("lora_dropout", math.nextafter(0.9, 1)),
    ("micro_batch_size", 0),
    ("micro_batch_size", 1025),
    ("max_row_tokens", 15),
    *[(field, value) for field in FRACTIONS for value in (math.nan, math.inf, -math.inf)],
]
CHOICES: dict[str, tuple[Any, set[str]]] = {
    "tuning_mode": (TuningMode, {"LORA", "FULL"}),
    "base_precision": (Precision, {"FP32", "BF16", "FP16", "INT8", "NF4", "FP4"}),
    "compute_precision": (Precision, {"FP32", "BF16", "FP16"}),
    "optimizer": (Optimizer, {"ADAMW", "ADAMW_8BIT", "PAGED_ADAMW", "PAGED_ADAMW_8BIT"}),
}
SUPERVISED = "training_job.supervised.hyperparameters"
PREFERENCE = "training_job.preference.hyperparameters"


def supervised(**given: Any) -> TrainingJob:
    return TrainingJob(supervised=SupervisedTuningSpec(hyperparameters=Hyperparameters(**given)))


def preference(beta: float | None = None, **given: Any) -> TrainingJob:
    spec = PreferenceTuningSpec(hyperparameters=Hyperparameters(**given), beta=beta)
    return TrainingJob(preference=spec)


def resolve(job: TrainingJob, **more: Any) -> ResolvedHyperparameters:
    return resolve_job(job, SIZES, context_tokens=CONTEXT, **more)


def refusal(job: TrainingJob) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refused:
        check(job)
    return refused.value


@pytest.mark.parametrize("make", [supervised, preference])
@pytest.mark.parametrize("field", RANGES)
def test_the_ends_of_a_range_belong_to_it(field: str, make: Any) -> None:
    for end in RANGES[field]:
        if make is supervised or field not in ("retain_share", "lora_dropout") or not end:
            check(make(**{field: end}))


@pytest.mark.parametrize(
    ("make", "path"), [(supervised, SUPERVISED), (preference, PREFERENCE)], ids=["answers", "dpo"]
)
@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE)
def test_what_is_out_of_range_is_refused_by_name(
    field: str, value: float, make: Any, path: str
) -> None:
    refused = refusal(make(**{field: value}))
    assert refused.message.startswith(f"{field} must be ")
    assert refused.field == f"{path}.{field}"
    assert refused.reason == "HYPERPARAMETER_OUT_OF_RANGE"


@pytest.mark.parametrize("field", CHOICES)
def test_each_choice_is_taken_and_others_are_refused_with_what_there_is(field: str) -> None:
    kind, names = CHOICES[field]
    for number in (*kind.values(), 99):
        if number and (number == 99 or kind.Name(number) not in names):
            refused = refusal(supervised(**{field: number}))
            assert refused.field == f"{SUPERVISED}.{field}"
            assert refused.reason == "HYPERPARAMETER_OUT_OF_RANGE"
            assert set(refused.message.partition(" one of ")[2].split(", ")) == names
        else:
            check(supervised(**{field: number}))


def test_every_number_has_a_range_and_every_enumeration_its_choices() -> None:
    switches = {"double_quantization", "gradient_checkpointing", "packing", "length_buckets"}
    fields = {field.name for field in Hyperparameters.DESCRIPTOR.fields}
    assert fields == {*RANGES, *CHOICES, *switches, "target_modules"}


@pytest.mark.parametrize("job", [supervised(), preference(), TrainingJob()])
def test_what_is_absent_is_not_checked(job: TrainingJob) -> None:
    check(job)


@pytest.mark.parametrize("beta", [TINY, 0.1, 2])
def test_beta_is_above_zero_and_at_most_two(beta: float) -> None:
    job = preference(beta)
    check(job)
    assert resolve(job).beta == beta


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nextafter(2, 3), math.nan, math.inf, -math.inf])
def test_any_other_beta_is_refused(beta: float) -> None:
    refused = refusal(preference(beta))
    assert refused.message.startswith("beta must be above 0, at most 2")
    assert refused.field == "training_job.preference.beta"
    assert refused.reason == "HYPERPARAMETER_OUT_OF_RANGE"


@pytest.mark.parametrize(
    "modules",
    [
        ["all-linear"],
        ["q_proj", "v_proj"],
        ["*.layers.1?.*"],
        ["model.layers.0.mlp.up_proj"],
        ["-" * 200],
        ["a"] * 64,
        ["*a" * 8],
    ],
)
def test_modules_are_names_and_patterns(modules: list[str]) -> None:
    check(supervised(target_modules=modules))
    assert list(resolve(supervised(target_modules=modules)).target_modules) == modules


@pytest.mark.parametrize(
    "modules",
    [
        [""],
        ["q_proj", "v proj"],
        ["q_proj\n"],
        ["[qv]_proj"],
        ["(a+)+"],
        ["ä"],
        ["a" * 201],
        ["a"] * 65,
        ["*a" * 9],
        ["all-linear", "q_proj"],
        ["all-linear", "all-linear"],
    ],
)
def test_other_modules_are_refused(modules: list[str]) -> None:
    refused = refusal(supervised(target_modules=modules))
    assert refused.message.startswith("target_modules")
    assert refused.field == f"{SUPERVISED}.target_modules"
    assert refused.reason == "INVALID_TARGET_MODULES"


DO_NOT_FIT: list[tuple[TrainingJob, str]] = [
    (supervised(tuning_mode=FULL, lora_rank=8), "lora_rank"),
    (supervised(tuning_mode=FULL, lora_alpha=8), "lora_alpha"),
    (supervised(tuning_mode=FULL, lora_dropout=0.0), "lora_dropout"),
    (supervised(tuning_mode=FULL, target_modules=["q_proj"]), "target_modules"),
    (supervised(tuning_mode=FULL, double_quantization=True), "double_quantization"),
    *[
        (supervised(tuning_mode=FULL, base_precision=held), "base_precision")
        for held in (FP16, INT8, NF4, FP4)
    ],
    *[
        (supervised(base_precision=held, double_quantization=True), "double_quantization")
        for held in (FP32, BF16, FP16, INT8)
    ],
    (preference(packing=True), "packing"),
    (preference(retain_share=0.1), "retain_share"),
    (preference(tuning_mode=FULL, lora_rank=8), "lora_rank"),
]


@pytest.mark.parametrize(("job", "field"), DO_NOT_FIT)
def test_what_does_not_go_together_is_refused(job: TrainingJob, field: str) -> None:
    refused = refusal(job)
    assert field in refused.message
    assert refused.field == f"{field_of(job)}.{field}"
    assert refused.reason == "HYPERPARAMETERS_DO_NOT_FIT"


@pytest.mark.parametrize(("held", "computed"), [(BF16, FP32), (FP16, FP32), (FP32, FP16)])
def test_types_that_do_not_go_together_are_refused(held: Any, computed: Any) -> None:
    refused = refusal(supervised(base_precision=held, compute_precision=computed))
    assert refused.field == f"{SUPERVISED}.compute_precision"
    assert refused.reason == "HYPERPARAMETERS_DO_NOT_FIT"


@pytest.mark.parametrize(
    "job",
    [
        supervised(tuning_mode=FULL),
        supervised(tuning_mode=FULL, base_precision=FP32, compute_precision=BF16),
        supervised(tuning_mode=FULL, base_precision=BF16, optimizer=PAGED_ADAMW_8BIT),
        supervised(base_precision=NF4, double_quantization=True, compute_precision=FP16),
        supervised(base_precision=FP4, double_quantization=False),
        supervised(base_precision=INT8, double_quantization=False),
        supervised(double_quantization=True),
        preference(packing=False, retain_share=0.0),
        preference(tuning_mode=FULL, base_precision=BF16),
    ],
)
def test_what_goes_together_is_taken(job: TrainingJob) -> None:
    check(job)


def test_given_values_are_those_of_the_method() -> None:
    assert given_in(supervised(lora_rank=3)).lora_rank == 3
    assert given_in(preference(lora_rank=4)).lora_rank == 4
    assert (field_of(supervised()), field_of(preference())) == (SUPERVISED, PREFERENCE)
    assert is_full(preference(tuning_mode=FULL))
    assert not is_full(supervised(tuning_mode=LORA))
    assert not is_full(supervised())


def test_nothing_given_is_the_choice_of_auto_with_all_its_reasons() -> None:
    resolved = resolve(supervised())
    assert resolved.epoch_count == AUTO.epochs
    assert resolved.batch_size == AUTO.batch_size
    assert resolved.learning_rate == AUTO.learning_rate
    assert resolved.learning_rate_multiplier == 1
    assert (resolved.lora_rank, resolved.lora_alpha) == (AUTO.rank, AUTO.alpha)
    assert resolved.retain_share == AUTO.retain_share
    assert list(resolved.reasons) == list(AUTO.reasons.values())


def test_nothing_given_is_qlora_on_packed_lines() -> None:
    resolved = resolve(supervised())
    assert (resolved.tuning_mode, resolved.base_precision) == (LORA, NF4)
    assert resolved.double_quantization
    assert list(resolved.target_modules) == ["all-linear"]
    assert resolved.optimizer == ADAMW
    assert resolved.packing
    assert resolved.length_buckets
    assert resolved.max_row_tokens == CONTEXT
    assert not resolved.compute_precision, "the device decides"
    assert not resolved.gradient_checkpointing
    assert (resolved.lora_dropout, resolved.micro_batch_size, resolved.beta) == (0, 0, 0)


def test_given_values_win_without_a_reason() -> None:
    job = supervised(
        epoch_count=7,
        batch_size=5,
        learning_rate_multiplier=0.5,
        lora_rank=3,
        lora_alpha=4,
        retain_share=0.0,
    )
    resolved = resolve(job)
    assert (resolved.epoch_count, resolved.batch_size) == (7, 5)
    assert (resolved.lora_rank, resolved.lora_alpha) == (3, 4)
    assert resolved.learning_rate == AUTO.learning_rate / 2
    assert resolved.learning_rate_multiplier == 0.5
    assert resolved.retain_share == 0
    assert not resolved.reasons


def test_given_choices_and_switches_win_also_where_they_say_no() -> None:
    job = supervised(
        base_precision=FP4,
        double_quantization=False,
        compute_precision=BF16,
        target_modules=["q_proj", "v_proj"],
        lora_dropout=0.05,
        micro_batch_size=2,
        gradient_checkpointing=True,
        optimizer=PAGED_ADAMW_8BIT,
        packing=False,
        length_buckets=False,
        max_row_tokens=100,
    )
    resolved = resolve(job)
    for field, value in given_in(job).ListFields():
        assert getattr(resolved, field.name) == value, field.name
    assert not resolved.double_quantization
    assert not resolved.packing
    assert not resolved.length_buckets


@pytest.mark.parametrize("field", sorted(AUTO.reasons))
def test_a_given_field_loses_its_own_reason_only(field: str) -> None:
    left = [why for key, why in AUTO.reasons.items() if key not in (field, "lora_alpha")]
    reasons = resolve(supervised(**{field: 1})).reasons
    assert [why for why in reasons if not why.startswith("alpha")] == left


def test_alpha_follows_a_given_rank_and_says_so() -> None:
    resolved = resolve(supervised(lora_rank=512))
    assert (resolved.lora_rank, resolved.lora_alpha) == (512, 1024)
    assert [why for why in resolved.reasons if why.startswith("alpha")] == [
        "alpha 1024: twice the rank"
    ]
    check(supervised(lora_rank=resolved.lora_rank, lora_alpha=resolved.lora_alpha))


def test_a_given_alpha_leaves_the_rank_to_auto() -> None:
    resolved = resolve(supervised(lora_alpha=100))
    assert (resolved.lora_rank, resolved.lora_alpha) == (AUTO.rank, 100)


@pytest.mark.parametrize("held", [FP32, BF16, FP16, INT8])
def test_only_four_bits_are_quantized_twice(held: Any) -> None:
    assert not resolve(supervised(base_precision=held)).double_quantization
    assert resolve(supervised(base_precision=FP4)).double_quantization


def test_full_tuning_has_no_rank_and_whole_weights() -> None:
    resolved = resolve(supervised(tuning_mode=FULL))
    auto = choose(SIZES, Method(full=True))
    assert (resolved.lora_rank, resolved.lora_alpha) == (0, 0)
    assert not resolved.target_modules
    assert (resolved.base_precision, resolved.double_quantization) == (FP32, False)
    assert resolved.learning_rate == auto.learning_rate
    assert not any("rank" in why or "alpha" in why for why in resolved.reasons)
    assert resolve(supervised(tuning_mode=FULL, base_precision=BF16)).base_precision == BF16


def test_preferences_have_beta_and_lines_of_their_own() -> None:
    resolved = resolve(preference())
    auto = choose(SIZES, Method(preference=True))
    assert resolved.beta == 0.1
    assert (resolved.learning_rate, resolved.epoch_count) == (auto.learning_rate, auto.epochs)
    assert not resolved.packing
    assert resolved.length_buckets
    assert resolved.retain_share == 0


@pytest.mark.parametrize(("given", "used"), [(16, 16), (512, 512), (513, 512), (2**31 - 1, 512)])
def test_rows_are_no_longer_than_the_context(given: int, used: int) -> None:
    assert resolve(supervised(max_row_tokens=given)).max_row_tokens == used


def test_an_encoder_decoder_reads_a_row_at_a_time() -> None:
    assert not resolve(supervised(), encoder_decoder=True).packing
    assert not resolve(supervised(packing=False), encoder_decoder=True).packing
    with pytest.raises(InvalidArgument, match="packing is for decoders") as refused:
        resolve(supervised(packing=True), encoder_decoder=True)
    assert refused.value.field == f"{SUPERVISED}.packing"
    assert refused.value.reason == "HYPERPARAMETERS_DO_NOT_FIT"


def test_an_encoder_decoder_learns_no_preferences() -> None:
    with pytest.raises(InvalidArgument, match="learned by decoders only") as refused:
        resolve(preference(), encoder_decoder=True)
    assert refused.value.field == "training_job.preference"
    assert refused.value.reason == "HYPERPARAMETERS_DO_NOT_FIT"
