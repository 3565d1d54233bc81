import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dataset(_message.Message):
    __slots__ = ("name", "display_name", "source_files", "recipes", "base_model", "state", "progress", "statistics", "file", "error", "create_time", "update_time", "etag", "sources", "base_model_digest", "row_details_sha256", "request_id")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Dataset.State]
        BUILDING: _ClassVar[Dataset.State]
        READY: _ClassVar[Dataset.State]
        FAILED: _ClassVar[Dataset.State]
    STATE_UNSPECIFIED: Dataset.State
    BUILDING: Dataset.State
    READY: Dataset.State
    FAILED: Dataset.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FILES_FIELD_NUMBER: _ClassVar[int]
    RECIPES_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROW_DETAILS_SHA256_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    source_files: _containers.RepeatedScalarFieldContainer[str]
    recipes: _containers.RepeatedCompositeFieldContainer[Recipe]
    base_model: str
    state: Dataset.State
    progress: BuildProgress
    statistics: DatasetStatistics
    file: str
    error: _status_pb2.Status
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    sources: _containers.RepeatedCompositeFieldContainer[DatasetSource]
    base_model_digest: str
    row_details_sha256: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., source_files: _Optional[_Iterable[str]] = ..., recipes: _Optional[_Iterable[_Union[Recipe, _Mapping]]] = ..., base_model: _Optional[str] = ..., state: _Optional[_Union[Dataset.State, str]] = ..., progress: _Optional[_Union[BuildProgress, _Mapping]] = ..., statistics: _Optional[_Union[DatasetStatistics, _Mapping]] = ..., file: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[DatasetSource, _Mapping]]] = ..., base_model_digest: _Optional[str] = ..., row_details_sha256: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DatasetSource(_message.Message):
    __slots__ = ("file", "display_name", "sha256", "size_bytes")
    FILE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    file: str
    display_name: str
    sha256: str
    size_bytes: int
    def __init__(self, file: _Optional[str] = ..., display_name: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Recipe(_message.Message):
    __slots__ = ("headings", "questions")
    HEADINGS_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    headings: HeadingsRecipe
    questions: QuestionsRecipe
    def __init__(self, headings: _Optional[_Union[HeadingsRecipe, _Mapping]] = ..., questions: _Optional[_Union[QuestionsRecipe, _Mapping]] = ...) -> None: ...

class HeadingsRecipe(_message.Message):
    __slots__ = ("max_section_tokens",)
    MAX_SECTION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_section_tokens: int
    def __init__(self, max_section_tokens: _Optional[int] = ...) -> None: ...

class QuestionsRecipe(_message.Message):
    __slots__ = ("questions_per_statement",)
    QUESTIONS_PER_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    questions_per_statement: int
    def __init__(self, questions_per_statement: _Optional[int] = ...) -> None: ...

class BuildProgress(_message.Message):
    __slots__ = ("stage", "done", "total")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    stage: str
    done: int
    total: int
    def __init__(self, stage: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class DatasetStatistics(_message.Message):
    __slots__ = ("rows", "tokens", "max_row_tokens", "rows_by_recipe", "dropped_by_reason", "documents")
    class RowsByRecipeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class DroppedByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROWS_BY_RECIPE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    tokens: int
    max_row_tokens: int
    rows_by_recipe: _containers.ScalarMap[str, int]
    dropped_by_reason: _containers.ScalarMap[str, int]
    documents: int
    def __init__(self, rows: _Optional[int] = ..., tokens: _Optional[int] = ..., max_row_tokens: _Optional[int] = ..., rows_by_recipe: _Optional[_Mapping[str, int]] = ..., dropped_by_reason: _Optional[_Mapping[str, int]] = ..., documents: _Optional[int] = ...) -> None: ...

class DatasetRow(_message.Message):
    __slots__ = ("messages", "recipe", "source_file", "heading_path", "token_count")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FILE_FIELD_NUMBER: _ClassVar[int]
    HEADING_PATH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[RowMessage]
    recipe: str
    source_file: str
    heading_path: _containers.RepeatedScalarFieldContainer[str]
    token_count: int
    def __init__(self, messages: _Optional[_Iterable[_Union[RowMessage, _Mapping]]] = ..., recipe: _Optional[str] = ..., source_file: _Optional[str] = ..., heading_path: _Optional[_Iterable[str]] = ..., token_count: _Optional[int] = ...) -> None: ...

class RowMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...
