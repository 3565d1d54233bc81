from google.api import field_behavior_pb2 as _field_behavior_pb2
from luthier.inference.v1 import adapter_pb2 as _adapter_pb2
from luthier.inference.v1 import generation_pb2 as _generation_pb2
from luthier.policy.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("parent", "base_model_digest", "adapter", "messages", "sampling")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    parent: str
    base_model_digest: str
    adapter: _adapter_pb2.Adapter
    messages: _containers.RepeatedCompositeFieldContainer[_generation_pb2.ChatMessage]
    sampling: _generation_pb2.SamplingParameters
    def __init__(self, parent: _Optional[str] = ..., base_model_digest: _Optional[str] = ..., adapter: _Optional[_Union[_adapter_pb2.Adapter, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[_generation_pb2.ChatMessage, _Mapping]]] = ..., sampling: _Optional[_Union[_generation_pb2.SamplingParameters, _Mapping]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("text", "finish", "adapter_digest")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish: _generation_pb2.ChatFinish
    adapter_digest: str
    def __init__(self, text: _Optional[str] = ..., finish: _Optional[_Union[_generation_pb2.ChatFinish, _Mapping]] = ..., adapter_digest: _Optional[str] = ...) -> None: ...
