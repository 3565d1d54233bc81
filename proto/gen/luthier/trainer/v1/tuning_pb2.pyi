from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TuningMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TUNING_MODE_UNSPECIFIED: _ClassVar[TuningMode]
    LORA: _ClassVar[TuningMode]
    FULL: _ClassVar[TuningMode]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    FP32: _ClassVar[Precision]
    BF16: _ClassVar[Precision]
    FP16: _ClassVar[Precision]
    INT8: _ClassVar[Precision]
    NF4: _ClassVar[Precision]
    FP4: _ClassVar[Precision]

class Optimizer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPTIMIZER_UNSPECIFIED: _ClassVar[Optimizer]
    ADAMW: _ClassVar[Optimizer]
    ADAMW_8BIT: _ClassVar[Optimizer]
    PAGED_ADAMW: _ClassVar[Optimizer]
    PAGED_ADAMW_8BIT: _ClassVar[Optimizer]
TUNING_MODE_UNSPECIFIED: TuningMode
LORA: TuningMode
FULL: TuningMode
PRECISION_UNSPECIFIED: Precision
FP32: Precision
BF16: Precision
FP16: Precision
INT8: Precision
NF4: Precision
FP4: Precision
OPTIMIZER_UNSPECIFIED: Optimizer
ADAMW: Optimizer
ADAMW_8BIT: Optimizer
PAGED_ADAMW: Optimizer
PAGED_ADAMW_8BIT: Optimizer

class SupervisedTuningSpec(_message.Message):
    __slots__ = ("hyperparameters",)
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    hyperparameters: Hyperparameters
    def __init__(self, hyperparameters: _Optional[_Union[Hyperparameters, _Mapping]] = ...) -> None: ...

class PreferenceTuningSpec(_message.Message):
    __slots__ = ("hyperparameters", "beta")
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    hyperparameters: Hyperparameters
    beta: float
    def __init__(self, hyperparameters: _Optional[_Union[Hyperparameters, _Mapping]] = ..., beta: _Optional[float] = ...) -> None: ...

class Hyperparameters(_message.Message):
    __slots__ = ("epoch_count", "batch_size", "learning_rate_multiplier", "lora_rank", "lora_alpha", "retain_share", "tuning_mode", "base_precision", "double_quantization", "compute_precision", "target_modules", "lora_dropout", "micro_batch_size", "gradient_checkpointing", "optimizer", "packing", "length_buckets", "max_row_tokens")
    EPOCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    LORA_RANK_FIELD_NUMBER: _ClassVar[int]
    LORA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    RETAIN_SHARE_FIELD_NUMBER: _ClassVar[int]
    TUNING_MODE_FIELD_NUMBER: _ClassVar[int]
    BASE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODULES_FIELD_NUMBER: _ClassVar[int]
    LORA_DROPOUT_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    PACKING_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    epoch_count: int
    batch_size: int
    learning_rate_multiplier: float
    lora_rank: int
    lora_alpha: int
    retain_share: float
    tuning_mode: TuningMode
    base_precision: Precision
    double_quantization: bool
    compute_precision: Precision
    target_modules: _containers.RepeatedScalarFieldContainer[str]
    lora_dropout: float
    micro_batch_size: int
    gradient_checkpointing: bool
    optimizer: Optimizer
    packing: bool
    length_buckets: bool
    max_row_tokens: int
    def __init__(self, epoch_count: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate_multiplier: _Optional[float] = ..., lora_rank: _Optional[int] = ..., lora_alpha: _Optional[int] = ..., retain_share: _Optional[float] = ..., tuning_mode: _Optional[_Union[TuningMode, str]] = ..., base_precision: _Optional[_Union[Precision, str]] = ..., double_quantization: _Optional[bool] = ..., compute_precision: _Optional[_Union[Precision, str]] = ..., target_modules: _Optional[_Iterable[str]] = ..., lora_dropout: _Optional[float] = ..., micro_batch_size: _Optional[int] = ..., gradient_checkpointing: _Optional[bool] = ..., optimizer: _Optional[_Union[Optimizer, str]] = ..., packing: _Optional[bool] = ..., length_buckets: _Optional[bool] = ..., max_row_tokens: _Optional[int] = ...) -> None: ...

class ResolvedHyperparameters(_message.Message):
    __slots__ = ("epoch_count", "batch_size", "learning_rate", "lora_rank", "lora_alpha", "retain_share", "reasons", "learning_rate_multiplier", "tuning_mode", "base_precision", "double_quantization", "compute_precision", "target_modules", "lora_dropout", "micro_batch_size", "gradient_checkpointing", "optimizer", "packing", "length_buckets", "max_row_tokens", "beta")
    EPOCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    LORA_RANK_FIELD_NUMBER: _ClassVar[int]
    LORA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    RETAIN_SHARE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    TUNING_MODE_FIELD_NUMBER: _ClassVar[int]
    BASE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODULES_FIELD_NUMBER: _ClassVar[int]
    LORA_DROPOUT_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    PACKING_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    epoch_count: int
    batch_size: int
    learning_rate: float
    lora_rank: int
    lora_alpha: int
    retain_share: float
    reasons: _containers.RepeatedScalarFieldContainer[str]
    learning_rate_multiplier: float
    tuning_mode: TuningMode
    base_precision: Precision
    double_quantization: bool
    compute_precision: Precision
    target_modules: _containers.RepeatedScalarFieldContainer[str]
    lora_dropout: float
    micro_batch_size: int
    gradient_checkpointing: bool
    optimizer: Optimizer
    packing: bool
    length_buckets: bool
    max_row_tokens: int
    beta: float
    def __init__(self, epoch_count: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., lora_rank: _Optional[int] = ..., lora_alpha: _Optional[int] = ..., retain_share: _Optional[float] = ..., reasons: _Optional[_Iterable[str]] = ..., learning_rate_multiplier: _Optional[float] = ..., tuning_mode: _Optional[_Union[TuningMode, str]] = ..., base_precision: _Optional[_Union[Precision, str]] = ..., double_quantization: _Optional[bool] = ..., compute_precision: _Optional[_Union[Precision, str]] = ..., target_modules: _Optional[_Iterable[str]] = ..., lora_dropout: _Optional[float] = ..., micro_batch_size: _Optional[int] = ..., gradient_checkpointing: _Optional[bool] = ..., optimizer: _Optional[_Union[Optimizer, str]] = ..., packing: _Optional[bool] = ..., length_buckets: _Optional[bool] = ..., max_row_tokens: _Optional[int] = ..., beta: _Optional[float] = ...) -> None: ...
