import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from luthier.dataset.v1 import quality_pb2 as _quality_pb2
from luthier.dataset.v1 import recipe_pb2 as _recipe_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dataset(_message.Message):
    __slots__ = ("name", "display_name", "source_files", "recipes", "base_model", "state", "progress", "statistics", "file", "error", "create_time", "update_time", "etag", "sources", "base_model_digest", "request_id", "split", "quality_rules", "skip_unreadable", "generations_of", "validation_file", "digest", "artifacts", "model_digests", "replayed_generations_sha256", "delete_time", "dependents")
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
    class ModelDigestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
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
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_RULES_FIELD_NUMBER: _ClassVar[int]
    SKIP_UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_OF_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FILE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_GENERATIONS_SHA256_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    DEPENDENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    source_files: _containers.RepeatedScalarFieldContainer[str]
    recipes: _containers.RepeatedCompositeFieldContainer[_recipe_pb2.Recipe]
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
    request_id: str
    split: Split
    quality_rules: _containers.RepeatedCompositeFieldContainer[_quality_pb2.QualityRule]
    skip_unreadable: bool
    generations_of: str
    validation_file: str
    digest: str
    artifacts: DatasetArtifacts
    model_digests: _containers.ScalarMap[str, str]
    replayed_generations_sha256: str
    delete_time: _timestamp_pb2.Timestamp
    dependents: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., source_files: _Optional[_Iterable[str]] = ..., recipes: _Optional[_Iterable[_Union[_recipe_pb2.Recipe, _Mapping]]] = ..., base_model: _Optional[str] = ..., state: _Optional[_Union[Dataset.State, str]] = ..., progress: _Optional[_Union[BuildProgress, _Mapping]] = ..., statistics: _Optional[_Union[DatasetStatistics, _Mapping]] = ..., file: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[DatasetSource, _Mapping]]] = ..., base_model_digest: _Optional[str] = ..., request_id: _Optional[str] = ..., split: _Optional[_Union[Split, _Mapping]] = ..., quality_rules: _Optional[_Iterable[_Union[_quality_pb2.QualityRule, _Mapping]]] = ..., skip_unreadable: _Optional[bool] = ..., generations_of: _Optional[str] = ..., validation_file: _Optional[str] = ..., digest: _Optional[str] = ..., artifacts: _Optional[_Union[DatasetArtifacts, _Mapping]] = ..., model_digests: _Optional[_Mapping[str, str]] = ..., replayed_generations_sha256: _Optional[str] = ..., delete_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dependents: _Optional[_Iterable[str]] = ...) -> None: ...

class DatasetSource(_message.Message):
    __slots__ = ("file", "display_name", "sha256", "size_bytes", "training_rows")
    FILE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRAINING_ROWS_FIELD_NUMBER: _ClassVar[int]
    file: str
    display_name: str
    sha256: str
    size_bytes: int
    training_rows: bool
    def __init__(self, file: _Optional[str] = ..., display_name: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., training_rows: _Optional[bool] = ...) -> None: ...

class BuildProgress(_message.Message):
    __slots__ = ("stage", "done", "total")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    stage: str
    done: int
    total: int
    def __init__(self, stage: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class Split(_message.Message):
    __slots__ = ("validation_share", "seed")
    VALIDATION_SHARE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    validation_share: float
    seed: int
    def __init__(self, validation_share: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class DatasetArtifacts(_message.Message):
    __slots__ = ("manifest_sha256", "rows_sha256", "report_sha256", "generations_sha256")
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    ROWS_SHA256_FIELD_NUMBER: _ClassVar[int]
    REPORT_SHA256_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_SHA256_FIELD_NUMBER: _ClassVar[int]
    manifest_sha256: str
    rows_sha256: str
    report_sha256: str
    generations_sha256: str
    def __init__(self, manifest_sha256: _Optional[str] = ..., rows_sha256: _Optional[str] = ..., report_sha256: _Optional[str] = ..., generations_sha256: _Optional[str] = ...) -> None: ...

class DatasetStatistics(_message.Message):
    __slots__ = ("rows", "tokens", "max_row_tokens", "rows_by_recipe", "dropped_by_reason", "documents", "validation_rows", "token_histogram", "model_calls", "rows_by_shape", "learned_tokens")
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
    class RowsByShapeEntry(_message.Message):
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
    VALIDATION_ROWS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    MODEL_CALLS_FIELD_NUMBER: _ClassVar[int]
    ROWS_BY_SHAPE_FIELD_NUMBER: _ClassVar[int]
    LEARNED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    tokens: int
    max_row_tokens: int
    rows_by_recipe: _containers.ScalarMap[str, int]
    dropped_by_reason: _containers.ScalarMap[str, int]
    documents: int
    validation_rows: int
    token_histogram: _containers.RepeatedCompositeFieldContainer[TokenBin]
    model_calls: int
    rows_by_shape: _containers.ScalarMap[str, int]
    learned_tokens: int
    def __init__(self, rows: _Optional[int] = ..., tokens: _Optional[int] = ..., max_row_tokens: _Optional[int] = ..., rows_by_recipe: _Optional[_Mapping[str, int]] = ..., dropped_by_reason: _Optional[_Mapping[str, int]] = ..., documents: _Optional[int] = ..., validation_rows: _Optional[int] = ..., token_histogram: _Optional[_Iterable[_Union[TokenBin, _Mapping]]] = ..., model_calls: _Optional[int] = ..., rows_by_shape: _Optional[_Mapping[str, int]] = ..., learned_tokens: _Optional[int] = ...) -> None: ...

class TokenBin(_message.Message):
    __slots__ = ("tokens", "rows")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    rows: int
    def __init__(self, tokens: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class DatasetRow(_message.Message):
    __slots__ = ("messages", "recipe", "origins", "token_count", "line", "validation", "findings", "spans")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[RowMessage]
    recipe: str
    origins: _containers.RepeatedCompositeFieldContainer[RowOrigin]
    token_count: int
    line: str
    validation: bool
    findings: _containers.RepeatedScalarFieldContainer[_quality_pb2.QualityCheck]
    spans: _containers.RepeatedCompositeFieldContainer[RowSpan]
    def __init__(self, messages: _Optional[_Iterable[_Union[RowMessage, _Mapping]]] = ..., recipe: _Optional[str] = ..., origins: _Optional[_Iterable[_Union[RowOrigin, _Mapping]]] = ..., token_count: _Optional[int] = ..., line: _Optional[str] = ..., validation: _Optional[bool] = ..., findings: _Optional[_Iterable[_Union[_quality_pb2.QualityCheck, str]]] = ..., spans: _Optional[_Iterable[_Union[RowSpan, _Mapping]]] = ...) -> None: ...

class RowPlace(_message.Message):
    __slots__ = ("member", "page", "last_page", "line", "last_line", "start_byte", "end_byte")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    LAST_PAGE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    LAST_LINE_FIELD_NUMBER: _ClassVar[int]
    START_BYTE_FIELD_NUMBER: _ClassVar[int]
    END_BYTE_FIELD_NUMBER: _ClassVar[int]
    member: str
    page: int
    last_page: int
    line: int
    last_line: int
    start_byte: int
    end_byte: int
    def __init__(self, member: _Optional[str] = ..., page: _Optional[int] = ..., last_page: _Optional[int] = ..., line: _Optional[int] = ..., last_line: _Optional[int] = ..., start_byte: _Optional[int] = ..., end_byte: _Optional[int] = ...) -> None: ...

class RowOrigin(_message.Message):
    __slots__ = ("source_file", "heading_path", "place")
    SOURCE_FILE_FIELD_NUMBER: _ClassVar[int]
    HEADING_PATH_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    source_file: str
    heading_path: _containers.RepeatedScalarFieldContainer[str]
    place: RowPlace
    def __init__(self, source_file: _Optional[str] = ..., heading_path: _Optional[_Iterable[str]] = ..., place: _Optional[_Union[RowPlace, _Mapping]] = ...) -> None: ...

class RowSpan(_message.Message):
    __slots__ = ("text", "learned")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LEARNED_FIELD_NUMBER: _ClassVar[int]
    text: str
    learned: bool
    def __init__(self, text: _Optional[str] = ..., learned: _Optional[bool] = ...) -> None: ...

class RowMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...
