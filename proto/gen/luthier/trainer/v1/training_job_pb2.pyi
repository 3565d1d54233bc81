import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from luthier.trainer.v1 import preflight_pb2 as _preflight_pb2
from luthier.trainer.v1 import tuning_pb2 as _tuning_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainingJob(_message.Message):
    __slots__ = ("name", "base_model", "training_file", "validation_file", "suffix", "seed", "metadata", "supervised", "preference", "start_adapter", "priority", "regression_file", "gate", "state", "error", "resolved_hyperparameters", "progress", "result", "adapter", "result_files", "epoch", "create_time", "start_time", "end_time", "update_time", "etag", "training_file_sha256", "validation_file_sha256", "fault_count", "request_id", "base_model_digest", "training_dataset", "preflight", "tuned_base_model", "resume_state", "queue_position", "estimated_start_time", "regression_file_sha256", "start_adapter_digest", "checkpoints", "gate_failure", "start_adapter_files")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[TrainingJob.State]
        VALIDATING: _ClassVar[TrainingJob.State]
        QUEUED: _ClassVar[TrainingJob.State]
        RUNNING: _ClassVar[TrainingJob.State]
        CANCELLING: _ClassVar[TrainingJob.State]
        SUCCEEDED: _ClassVar[TrainingJob.State]
        FAILED: _ClassVar[TrainingJob.State]
        CANCELLED: _ClassVar[TrainingJob.State]
        PAUSING: _ClassVar[TrainingJob.State]
        PAUSED: _ClassVar[TrainingJob.State]
    STATE_UNSPECIFIED: TrainingJob.State
    VALIDATING: TrainingJob.State
    QUEUED: TrainingJob.State
    RUNNING: TrainingJob.State
    CANCELLING: TrainingJob.State
    SUCCEEDED: TrainingJob.State
    FAILED: TrainingJob.State
    CANCELLED: TrainingJob.State
    PAUSING: TrainingJob.State
    PAUSED: TrainingJob.State
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FILE_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FILE_FIELD_NUMBER: _ClassVar[int]
    SUFFIX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SUPERVISED_FIELD_NUMBER: _ClassVar[int]
    PREFERENCE_FIELD_NUMBER: _ClassVar[int]
    START_ADAPTER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REGRESSION_FILE_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    RESULT_FILES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
    FAULT_COUNT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TRAINING_DATASET_FIELD_NUMBER: _ClassVar[int]
    PREFLIGHT_FIELD_NUMBER: _ClassVar[int]
    TUNED_BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    RESUME_STATE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_START_TIME_FIELD_NUMBER: _ClassVar[int]
    REGRESSION_FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
    START_ADAPTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    GATE_FAILURE_FIELD_NUMBER: _ClassVar[int]
    START_ADAPTER_FILES_FIELD_NUMBER: _ClassVar[int]
    name: str
    base_model: str
    training_file: str
    validation_file: str
    suffix: str
    seed: int
    metadata: _containers.ScalarMap[str, str]
    supervised: _tuning_pb2.SupervisedTuningSpec
    preference: _tuning_pb2.PreferenceTuningSpec
    start_adapter: str
    priority: int
    regression_file: str
    gate: PublicationGate
    state: TrainingJob.State
    error: _status_pb2.Status
    resolved_hyperparameters: _tuning_pb2.ResolvedHyperparameters
    progress: TrainingProgress
    result: TrainingResult
    adapter: str
    result_files: _containers.RepeatedScalarFieldContainer[str]
    epoch: int
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    training_file_sha256: str
    validation_file_sha256: str
    fault_count: int
    request_id: str
    base_model_digest: str
    training_dataset: str
    preflight: _preflight_pb2.Preflight
    tuned_base_model: str
    resume_state: ResumeState
    queue_position: int
    estimated_start_time: _timestamp_pb2.Timestamp
    regression_file_sha256: str
    start_adapter_digest: str
    checkpoints: _containers.RepeatedCompositeFieldContainer[TrainingCheckpoint]
    gate_failure: str
    start_adapter_files: _containers.RepeatedCompositeFieldContainer[ArtifactFile]
    def __init__(self, name: _Optional[str] = ..., base_model: _Optional[str] = ..., training_file: _Optional[str] = ..., validation_file: _Optional[str] = ..., suffix: _Optional[str] = ..., seed: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., supervised: _Optional[_Union[_tuning_pb2.SupervisedTuningSpec, _Mapping]] = ..., preference: _Optional[_Union[_tuning_pb2.PreferenceTuningSpec, _Mapping]] = ..., start_adapter: _Optional[str] = ..., priority: _Optional[int] = ..., regression_file: _Optional[str] = ..., gate: _Optional[_Union[PublicationGate, _Mapping]] = ..., state: _Optional[_Union[TrainingJob.State, str]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., resolved_hyperparameters: _Optional[_Union[_tuning_pb2.ResolvedHyperparameters, _Mapping]] = ..., progress: _Optional[_Union[TrainingProgress, _Mapping]] = ..., result: _Optional[_Union[TrainingResult, _Mapping]] = ..., adapter: _Optional[str] = ..., result_files: _Optional[_Iterable[str]] = ..., epoch: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., training_file_sha256: _Optional[str] = ..., validation_file_sha256: _Optional[str] = ..., fault_count: _Optional[int] = ..., request_id: _Optional[str] = ..., base_model_digest: _Optional[str] = ..., training_dataset: _Optional[str] = ..., preflight: _Optional[_Union[_preflight_pb2.Preflight, _Mapping]] = ..., tuned_base_model: _Optional[str] = ..., resume_state: _Optional[_Union[ResumeState, _Mapping]] = ..., queue_position: _Optional[int] = ..., estimated_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., regression_file_sha256: _Optional[str] = ..., start_adapter_digest: _Optional[str] = ..., checkpoints: _Optional[_Iterable[_Union[TrainingCheckpoint, _Mapping]]] = ..., gate_failure: _Optional[str] = ..., start_adapter_files: _Optional[_Iterable[_Union[ArtifactFile, _Mapping]]] = ...) -> None: ...

class TrainingProgress(_message.Message):
    __slots__ = ("step", "total_steps", "epoch", "loss", "token_accuracy", "learning_rate", "gradient_norm", "tokens_per_second", "seconds_left", "peak_memory_bytes")
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_NORM_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    step: int
    total_steps: int
    epoch: float
    loss: float
    token_accuracy: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    seconds_left: float
    peak_memory_bytes: int
    def __init__(self, step: _Optional[int] = ..., total_steps: _Optional[int] = ..., epoch: _Optional[float] = ..., loss: _Optional[float] = ..., token_accuracy: _Optional[float] = ..., learning_rate: _Optional[float] = ..., gradient_norm: _Optional[float] = ..., tokens_per_second: _Optional[float] = ..., seconds_left: _Optional[float] = ..., peak_memory_bytes: _Optional[int] = ...) -> None: ...

class TrainingResult(_message.Message):
    __slots__ = ("model_files", "metrics", "trained_tokens", "trainable_parameters", "total_parameters", "quantized_layers", "metrics_file", "best_step", "measurement")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_FILES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    TRAINED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    QUANTIZED_LAYERS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FILE_FIELD_NUMBER: _ClassVar[int]
    BEST_STEP_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    model_files: _containers.RepeatedCompositeFieldContainer[ArtifactFile]
    metrics: _containers.ScalarMap[str, float]
    trained_tokens: int
    trainable_parameters: int
    total_parameters: int
    quantized_layers: int
    metrics_file: ArtifactFile
    best_step: int
    measurement: Measurement
    def __init__(self, model_files: _Optional[_Iterable[_Union[ArtifactFile, _Mapping]]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., trained_tokens: _Optional[int] = ..., trainable_parameters: _Optional[int] = ..., total_parameters: _Optional[int] = ..., quantized_layers: _Optional[int] = ..., metrics_file: _Optional[_Union[ArtifactFile, _Mapping]] = ..., best_step: _Optional[int] = ..., measurement: _Optional[_Union[Measurement, _Mapping]] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("device_class", "tokens_per_second", "peak_memory_bytes", "step_count")
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    device_class: str
    tokens_per_second: float
    peak_memory_bytes: int
    step_count: int
    def __init__(self, device_class: _Optional[str] = ..., tokens_per_second: _Optional[float] = ..., peak_memory_bytes: _Optional[int] = ..., step_count: _Optional[int] = ...) -> None: ...

class ResumeState(_message.Message):
    __slots__ = ("step", "epoch", "files", "create_time")
    STEP_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    step: int
    epoch: int
    files: _containers.RepeatedCompositeFieldContainer[ArtifactFile]
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, step: _Optional[int] = ..., epoch: _Optional[int] = ..., files: _Optional[_Iterable[_Union[ArtifactFile, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TrainingCheckpoint(_message.Message):
    __slots__ = ("step", "adapter", "metrics", "create_time")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    step: int
    adapter: str
    metrics: _containers.ScalarMap[str, float]
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, step: _Optional[int] = ..., adapter: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PublicationGate(_message.Message):
    __slots__ = ("metric", "threshold", "improvement")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IMPROVEMENT_FIELD_NUMBER: _ClassVar[int]
    metric: str
    threshold: float
    improvement: float
    def __init__(self, metric: _Optional[str] = ..., threshold: _Optional[float] = ..., improvement: _Optional[float] = ...) -> None: ...

class ArtifactFile(_message.Message):
    __slots__ = ("path", "sha256", "size_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    size_bytes: int
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class TrainingJobEvent(_message.Message):
    __slots__ = ("name", "create_time", "level", "message", "metrics")
    class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LEVEL_UNSPECIFIED: _ClassVar[TrainingJobEvent.Level]
        INFO: _ClassVar[TrainingJobEvent.Level]
        WARN: _ClassVar[TrainingJobEvent.Level]
        ERROR: _ClassVar[TrainingJobEvent.Level]
    LEVEL_UNSPECIFIED: TrainingJobEvent.Level
    INFO: TrainingJobEvent.Level
    WARN: TrainingJobEvent.Level
    ERROR: TrainingJobEvent.Level
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    name: str
    create_time: _timestamp_pb2.Timestamp
    level: TrainingJobEvent.Level
    message: str
    metrics: TrainingProgress
    def __init__(self, name: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., level: _Optional[_Union[TrainingJobEvent.Level, str]] = ..., message: _Optional[str] = ..., metrics: _Optional[_Union[TrainingProgress, _Mapping]] = ...) -> None: ...
