import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from luthier.inference.v1 import base_model_pb2 as _base_model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Adapter(_message.Message):
    __slots__ = ("name", "base_model", "base_model_digest", "tokenizer_digest", "dataset_digest", "files", "digest", "training_job", "configuration", "metrics", "code_version", "suffix", "create_time", "delete_time", "etag", "hold_reason", "state", "pinned", "update_time", "probe_results")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Adapter.State]
        READY: _ClassVar[Adapter.State]
        HELD: _ClassVar[Adapter.State]
    STATE_UNSPECIFIED: Adapter.State
    READY: Adapter.State
    HELD: Adapter.State
    class ConfigurationEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATASET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SUFFIX_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    HOLD_REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PROBE_RESULTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    base_model: str
    base_model_digest: str
    tokenizer_digest: str
    dataset_digest: str
    files: _containers.RepeatedCompositeFieldContainer[_base_model_pb2.ModelFile]
    digest: str
    training_job: str
    configuration: _containers.ScalarMap[str, str]
    metrics: _containers.ScalarMap[str, float]
    code_version: str
    suffix: str
    create_time: _timestamp_pb2.Timestamp
    delete_time: _timestamp_pb2.Timestamp
    etag: str
    hold_reason: str
    state: Adapter.State
    pinned: bool
    update_time: _timestamp_pb2.Timestamp
    probe_results: _containers.RepeatedCompositeFieldContainer[ProbeResult]
    def __init__(self, name: _Optional[str] = ..., base_model: _Optional[str] = ..., base_model_digest: _Optional[str] = ..., tokenizer_digest: _Optional[str] = ..., dataset_digest: _Optional[str] = ..., files: _Optional[_Iterable[_Union[_base_model_pb2.ModelFile, _Mapping]]] = ..., digest: _Optional[str] = ..., training_job: _Optional[str] = ..., configuration: _Optional[_Mapping[str, str]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., code_version: _Optional[str] = ..., suffix: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., delete_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., hold_reason: _Optional[str] = ..., state: _Optional[_Union[Adapter.State, str]] = ..., pinned: _Optional[bool] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., probe_results: _Optional[_Iterable[_Union[ProbeResult, _Mapping]]] = ...) -> None: ...

class ProbeResult(_message.Message):
    __slots__ = ("engine", "trained_precision", "served_precision", "divergence", "bound", "trained_accuracy", "served_accuracy", "passed")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    TRAINED_PRECISION_FIELD_NUMBER: _ClassVar[int]
    SERVED_PRECISION_FIELD_NUMBER: _ClassVar[int]
    DIVERGENCE_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    TRAINED_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    SERVED_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    engine: str
    trained_precision: str
    served_precision: str
    divergence: float
    bound: float
    trained_accuracy: float
    served_accuracy: float
    passed: bool
    def __init__(self, engine: _Optional[str] = ..., trained_precision: _Optional[str] = ..., served_precision: _Optional[str] = ..., divergence: _Optional[float] = ..., bound: _Optional[float] = ..., trained_accuracy: _Optional[float] = ..., served_accuracy: _Optional[float] = ..., passed: _Optional[bool] = ...) -> None: ...

class AdapterLineage(_message.Message):
    __slots__ = ("adapter", "start_adapters", "base_models", "sibling_adapters", "derived_adapters")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    START_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    BASE_MODELS_FIELD_NUMBER: _ClassVar[int]
    SIBLING_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    DERIVED_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    adapter: Ancestor
    start_adapters: _containers.RepeatedCompositeFieldContainer[Ancestor]
    base_models: _containers.RepeatedCompositeFieldContainer[Ancestor]
    sibling_adapters: _containers.RepeatedScalarFieldContainer[str]
    derived_adapters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, adapter: _Optional[_Union[Ancestor, _Mapping]] = ..., start_adapters: _Optional[_Iterable[_Union[Ancestor, _Mapping]]] = ..., base_models: _Optional[_Iterable[_Union[Ancestor, _Mapping]]] = ..., sibling_adapters: _Optional[_Iterable[str]] = ..., derived_adapters: _Optional[_Iterable[str]] = ...) -> None: ...

class Ancestor(_message.Message):
    __slots__ = ("name", "digest", "training_job", "dataset_digest", "deleted")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    DATASET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    training_job: str
    dataset_digest: str
    deleted: bool
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., training_job: _Optional[str] = ..., dataset_digest: _Optional[str] = ..., deleted: _Optional[bool] = ...) -> None: ...
