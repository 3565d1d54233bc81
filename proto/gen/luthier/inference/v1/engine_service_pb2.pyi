from google.api import field_behavior_pb2 as _field_behavior_pb2
from luthier.inference.v1 import adapter_pb2 as _adapter_pb2
from luthier.inference.v1 import generation_pb2 as _generation_pb2
from luthier.policy.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("parent", "base_model_digest", "adapter", "messages", "sampling", "text", "tools", "tool_choice")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    parent: str
    base_model_digest: str
    adapter: _adapter_pb2.Adapter
    messages: _containers.RepeatedCompositeFieldContainer[_generation_pb2.ChatMessage]
    sampling: _generation_pb2.SamplingParameters
    text: str
    tools: _containers.RepeatedCompositeFieldContainer[_generation_pb2.Tool]
    tool_choice: _generation_pb2.ToolChoice
    def __init__(self, parent: _Optional[str] = ..., base_model_digest: _Optional[str] = ..., adapter: _Optional[_Union[_adapter_pb2.Adapter, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[_generation_pb2.ChatMessage, _Mapping]]] = ..., sampling: _Optional[_Union[_generation_pb2.SamplingParameters, _Mapping]] = ..., text: _Optional[str] = ..., tools: _Optional[_Iterable[_Union[_generation_pb2.Tool, _Mapping]]] = ..., tool_choice: _Optional[_Union[_generation_pb2.ToolChoice, _Mapping]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("text", "finish", "adapter_digest", "answer_index", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish: _generation_pb2.Finish
    adapter_digest: str
    answer_index: int
    tokens: _containers.RepeatedCompositeFieldContainer[_generation_pb2.Token]
    def __init__(self, text: _Optional[str] = ..., finish: _Optional[_Union[_generation_pb2.Finish, _Mapping]] = ..., adapter_digest: _Optional[str] = ..., answer_index: _Optional[int] = ..., tokens: _Optional[_Iterable[_Union[_generation_pb2.Token, _Mapping]]] = ...) -> None: ...

class EmbedTextsRequest(_message.Message):
    __slots__ = ("parent", "base_model_digest", "texts", "adapter")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    parent: str
    base_model_digest: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    adapter: _adapter_pb2.Adapter
    def __init__(self, parent: _Optional[str] = ..., base_model_digest: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., adapter: _Optional[_Union[_adapter_pb2.Adapter, _Mapping]] = ...) -> None: ...

class EmbedTextsResponse(_message.Message):
    __slots__ = ("embeddings", "adapter_digest")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[_generation_pb2.Embedding]
    adapter_digest: str
    def __init__(self, embeddings: _Optional[_Iterable[_Union[_generation_pb2.Embedding, _Mapping]]] = ..., adapter_digest: _Optional[str] = ...) -> None: ...

class HoldAdapterRequest(_message.Message):
    __slots__ = ("parent", "adapter", "hold")
    class Hold(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        HOLD_UNSPECIFIED: _ClassVar[HoldAdapterRequest.Hold]
        LOADED: _ClassVar[HoldAdapterRequest.Hold]
        PINNED: _ClassVar[HoldAdapterRequest.Hold]
        UNPINNED: _ClassVar[HoldAdapterRequest.Hold]
        UNLOADED: _ClassVar[HoldAdapterRequest.Hold]
    HOLD_UNSPECIFIED: HoldAdapterRequest.Hold
    LOADED: HoldAdapterRequest.Hold
    PINNED: HoldAdapterRequest.Hold
    UNPINNED: HoldAdapterRequest.Hold
    UNLOADED: HoldAdapterRequest.Hold
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    parent: str
    adapter: _adapter_pb2.Adapter
    hold: HoldAdapterRequest.Hold
    def __init__(self, parent: _Optional[str] = ..., adapter: _Optional[_Union[_adapter_pb2.Adapter, _Mapping]] = ..., hold: _Optional[_Union[HoldAdapterRequest.Hold, str]] = ...) -> None: ...

class HoldAdapterResponse(_message.Message):
    __slots__ = ("adapter_digest", "probe_result")
    ADAPTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROBE_RESULT_FIELD_NUMBER: _ClassVar[int]
    adapter_digest: str
    probe_result: _adapter_pb2.ProbeResult
    def __init__(self, adapter_digest: _Optional[str] = ..., probe_result: _Optional[_Union[_adapter_pb2.ProbeResult, _Mapping]] = ...) -> None: ...

class WatchEngineRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class WatchEngineResponse(_message.Message):
    __slots__ = ("running_count", "waiting_count", "adapter_digests")
    RUNNING_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_COUNT_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    running_count: int
    waiting_count: int
    adapter_digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, running_count: _Optional[int] = ..., waiting_count: _Optional[int] = ..., adapter_digests: _Optional[_Iterable[str]] = ...) -> None: ...
