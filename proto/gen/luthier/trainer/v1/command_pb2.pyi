from google.rpc import status_pb2 as _status_pb2
from luthier.trainer.v1 import training_job_pb2 as _training_job_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitTrainingJob(_message.Message):
    __slots__ = ("request_id", "training_job", "training_job_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    TRAINING_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    training_job: _training_job_pb2.TrainingJob
    training_job_id: str
    def __init__(self, request_id: _Optional[str] = ..., training_job: _Optional[_Union[_training_job_pb2.TrainingJob, _Mapping]] = ..., training_job_id: _Optional[str] = ...) -> None: ...

class SubmitTrainingJobReply(_message.Message):
    __slots__ = ("request_id", "training_job", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRAINING_JOB_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    training_job: _training_job_pb2.TrainingJob
    error: _status_pb2.Status
    def __init__(self, request_id: _Optional[str] = ..., training_job: _Optional[_Union[_training_job_pb2.TrainingJob, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
