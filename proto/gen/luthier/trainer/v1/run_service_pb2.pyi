from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.rpc import status_pb2 as _status_pb2
from luthier.policy.v1 import policy_pb2 as _policy_pb2
from luthier.trainer.v1 import training_job_pb2 as _training_job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportRunRequest(_message.Message):
    __slots__ = ("training_job", "epoch", "progress", "messages")
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    training_job: str
    epoch: int
    progress: _training_job_pb2.TrainingProgress
    messages: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, training_job: _Optional[str] = ..., epoch: _Optional[int] = ..., progress: _Optional[_Union[_training_job_pb2.TrainingProgress, _Mapping]] = ..., messages: _Optional[_Iterable[str]] = ...) -> None: ...

class ReportRunResponse(_message.Message):
    __slots__ = ("stop", "pause")
    STOP_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    stop: bool
    pause: bool
    def __init__(self, stop: _Optional[bool] = ..., pause: _Optional[bool] = ...) -> None: ...

class CommitResumeStateRequest(_message.Message):
    __slots__ = ("training_job", "epoch", "step", "files")
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    training_job: str
    epoch: int
    step: int
    files: _containers.RepeatedCompositeFieldContainer[_training_job_pb2.ArtifactFile]
    def __init__(self, training_job: _Optional[str] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., files: _Optional[_Iterable[_Union[_training_job_pb2.ArtifactFile, _Mapping]]] = ...) -> None: ...

class PublishCheckpointRequest(_message.Message):
    __slots__ = ("training_job", "epoch", "step", "files", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    training_job: str
    epoch: int
    step: int
    files: _containers.RepeatedCompositeFieldContainer[_training_job_pb2.ArtifactFile]
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, training_job: _Optional[str] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., files: _Optional[_Iterable[_Union[_training_job_pb2.ArtifactFile, _Mapping]]] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class CompleteRunRequest(_message.Message):
    __slots__ = ("training_job", "epoch", "result", "error")
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    training_job: str
    epoch: int
    result: _training_job_pb2.TrainingResult
    error: _status_pb2.Status
    def __init__(self, training_job: _Optional[str] = ..., epoch: _Optional[int] = ..., result: _Optional[_Union[_training_job_pb2.TrainingResult, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
