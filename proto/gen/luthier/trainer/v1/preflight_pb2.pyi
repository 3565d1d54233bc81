from luthier.trainer.v1 import tuning_pb2 as _tuning_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Preflight(_message.Message):
    __slots__ = ("data", "trainable_parameters", "total_parameters", "chosen", "alternatives", "serving", "least_memory_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    LEAST_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: DataEstimate
    trainable_parameters: int
    total_parameters: int
    chosen: ConfigurationEstimate
    alternatives: _containers.RepeatedCompositeFieldContainer[ConfigurationEstimate]
    serving: ServingEstimate
    least_memory_bytes: int
    def __init__(self, data: _Optional[_Union[DataEstimate, _Mapping]] = ..., trainable_parameters: _Optional[int] = ..., total_parameters: _Optional[int] = ..., chosen: _Optional[_Union[ConfigurationEstimate, _Mapping]] = ..., alternatives: _Optional[_Iterable[_Union[ConfigurationEstimate, _Mapping]]] = ..., serving: _Optional[_Union[ServingEstimate, _Mapping]] = ..., least_memory_bytes: _Optional[int] = ...) -> None: ...

class DataEstimate(_message.Message):
    __slots__ = ("accepted_row_count", "refused_row_count", "refused_rows", "tokens_per_epoch", "sampled_row_count", "truncated_share", "padded_share")
    ACCEPTED_ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_ROWS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_SHARE_FIELD_NUMBER: _ClassVar[int]
    PADDED_SHARE_FIELD_NUMBER: _ClassVar[int]
    accepted_row_count: int
    refused_row_count: int
    refused_rows: _containers.RepeatedCompositeFieldContainer[RefusedRow]
    tokens_per_epoch: int
    sampled_row_count: int
    truncated_share: float
    padded_share: float
    def __init__(self, accepted_row_count: _Optional[int] = ..., refused_row_count: _Optional[int] = ..., refused_rows: _Optional[_Iterable[_Union[RefusedRow, _Mapping]]] = ..., tokens_per_epoch: _Optional[int] = ..., sampled_row_count: _Optional[int] = ..., truncated_share: _Optional[float] = ..., padded_share: _Optional[float] = ...) -> None: ...

class RefusedRow(_message.Message):
    __slots__ = ("line", "reason")
    LINE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    line: int
    reason: str
    def __init__(self, line: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ConfigurationEstimate(_message.Message):
    __slots__ = ("description", "tuning_mode", "base_precision", "micro_batch_size", "line_tokens", "gradient_checkpointing", "optimizer", "memory", "devices")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TUNING_MODE_FIELD_NUMBER: _ClassVar[int]
    BASE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LINE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    description: str
    tuning_mode: _tuning_pb2.TuningMode
    base_precision: _tuning_pb2.Precision
    micro_batch_size: int
    line_tokens: int
    gradient_checkpointing: bool
    optimizer: _tuning_pb2.Optimizer
    memory: MemoryEstimate
    devices: _containers.RepeatedCompositeFieldContainer[DeviceFit]
    def __init__(self, description: _Optional[str] = ..., tuning_mode: _Optional[_Union[_tuning_pb2.TuningMode, str]] = ..., base_precision: _Optional[_Union[_tuning_pb2.Precision, str]] = ..., micro_batch_size: _Optional[int] = ..., line_tokens: _Optional[int] = ..., gradient_checkpointing: _Optional[bool] = ..., optimizer: _Optional[_Union[_tuning_pb2.Optimizer, str]] = ..., memory: _Optional[_Union[MemoryEstimate, _Mapping]] = ..., devices: _Optional[_Iterable[_Union[DeviceFit, _Mapping]]] = ...) -> None: ...

class MemoryEstimate(_message.Message):
    __slots__ = ("weight_bytes", "quantization_bytes", "adapter_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes", "total_bytes", "overhead_bytes")
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_BYTES_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    weight_bytes: int
    quantization_bytes: int
    adapter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    total_bytes: int
    overhead_bytes: int
    def __init__(self, weight_bytes: _Optional[int] = ..., quantization_bytes: _Optional[int] = ..., adapter_bytes: _Optional[int] = ..., gradient_bytes: _Optional[int] = ..., optimizer_bytes: _Optional[int] = ..., activation_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., overhead_bytes: _Optional[int] = ...) -> None: ...

class DeviceFit(_message.Message):
    __slots__ = ("device_class", "memory_bytes", "fits", "seconds", "device_hours", "cost", "basis", "currency")
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_HOURS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    device_class: str
    memory_bytes: int
    fits: bool
    seconds: float
    device_hours: float
    cost: float
    basis: str
    currency: str
    def __init__(self, device_class: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., fits: _Optional[bool] = ..., seconds: _Optional[float] = ..., device_hours: _Optional[float] = ..., cost: _Optional[float] = ..., basis: _Optional[str] = ..., currency: _Optional[str] = ...) -> None: ...

class ServingEstimate(_message.Message):
    __slots__ = ("base_bytes", "adapter_bytes", "devices", "engines")
    BASE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    base_bytes: int
    adapter_bytes: int
    devices: _containers.RepeatedCompositeFieldContainer[DeviceNeed]
    engines: _containers.RepeatedCompositeFieldContainer[EngineSupport]
    def __init__(self, base_bytes: _Optional[int] = ..., adapter_bytes: _Optional[int] = ..., devices: _Optional[_Iterable[_Union[DeviceNeed, _Mapping]]] = ..., engines: _Optional[_Iterable[_Union[EngineSupport, _Mapping]]] = ...) -> None: ...

class DeviceNeed(_message.Message):
    __slots__ = ("device_class", "device_count", "adapter_count")
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_COUNT_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    device_class: str
    device_count: int
    adapter_count: int
    def __init__(self, device_class: _Optional[str] = ..., device_count: _Optional[int] = ..., adapter_count: _Optional[int] = ...) -> None: ...

class EngineSupport(_message.Message):
    __slots__ = ("engine", "supported", "reason")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    engine: str
    supported: bool
    reason: str
    def __init__(self, engine: _Optional[str] = ..., supported: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...
