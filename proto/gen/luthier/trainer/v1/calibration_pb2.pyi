import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from luthier.trainer.v1 import tuning_pb2 as _tuning_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Calibration(_message.Message):
    __slots__ = ("name", "device_class", "architecture", "tuning_mode", "base_precision", "points", "update_time", "create_time", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    TUNING_MODE_FIELD_NUMBER: _ClassVar[int]
    BASE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    device_class: str
    architecture: str
    tuning_mode: _tuning_pb2.TuningMode
    base_precision: _tuning_pb2.Precision
    points: _containers.RepeatedCompositeFieldContainer[CalibrationPoint]
    update_time: _timestamp_pb2.Timestamp
    create_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, name: _Optional[str] = ..., device_class: _Optional[str] = ..., architecture: _Optional[str] = ..., tuning_mode: _Optional[_Union[_tuning_pb2.TuningMode, str]] = ..., base_precision: _Optional[_Union[_tuning_pb2.Precision, str]] = ..., points: _Optional[_Iterable[_Union[CalibrationPoint, _Mapping]]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class CalibrationPoint(_message.Message):
    __slots__ = ("parameter_count", "tokens_per_second", "gradient_checkpointing", "peak_memory_bytes", "preference")
    PARAMETER_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PREFERENCE_FIELD_NUMBER: _ClassVar[int]
    parameter_count: int
    tokens_per_second: float
    gradient_checkpointing: bool
    peak_memory_bytes: int
    preference: bool
    def __init__(self, parameter_count: _Optional[int] = ..., tokens_per_second: _Optional[float] = ..., gradient_checkpointing: _Optional[bool] = ..., peak_memory_bytes: _Optional[int] = ..., preference: _Optional[bool] = ...) -> None: ...
