from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QualityCheck(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUALITY_CHECK_UNSPECIFIED: _ClassVar[QualityCheck]
    MALFORMED_ROW: _ClassVar[QualityCheck]
    EMPTY_ANSWER: _ClassVar[QualityCheck]
    TRUNCATED_ANSWER: _ClassVar[QualityCheck]
    EXACT_DUPLICATE: _ClassVar[QualityCheck]
    NEAR_DUPLICATE: _ClassVar[QualityCheck]
    CONFLICTING_ANSWERS: _ClassVar[QualityCheck]
    OVER_LONG: _ClassVar[QualityCheck]
    DAMAGED_TEXT: _ClassVar[QualityCheck]
    SECRET: _ClassVar[QualityCheck]
    PERSONAL_DATA: _ClassVar[QualityCheck]
    SKIPPED_PART: _ClassVar[QualityCheck]
    UNREADABLE_DOCUMENT: _ClassVar[QualityCheck]
    LABEL_IMBALANCE: _ClassVar[QualityCheck]
    UNEXPECTED_LANGUAGE: _ClassVar[QualityCheck]
QUALITY_CHECK_UNSPECIFIED: QualityCheck
MALFORMED_ROW: QualityCheck
EMPTY_ANSWER: QualityCheck
TRUNCATED_ANSWER: QualityCheck
EXACT_DUPLICATE: QualityCheck
NEAR_DUPLICATE: QualityCheck
CONFLICTING_ANSWERS: QualityCheck
OVER_LONG: QualityCheck
DAMAGED_TEXT: QualityCheck
SECRET: QualityCheck
PERSONAL_DATA: QualityCheck
SKIPPED_PART: QualityCheck
UNREADABLE_DOCUMENT: QualityCheck
LABEL_IMBALANCE: QualityCheck
UNEXPECTED_LANGUAGE: QualityCheck

class QualityRule(_message.Message):
    __slots__ = ("check", "action", "languages")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[QualityRule.Action]
        REPORT: _ClassVar[QualityRule.Action]
        DROP: _ClassVar[QualityRule.Action]
        BLOCK: _ClassVar[QualityRule.Action]
    ACTION_UNSPECIFIED: QualityRule.Action
    REPORT: QualityRule.Action
    DROP: QualityRule.Action
    BLOCK: QualityRule.Action
    CHECK_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    check: QualityCheck
    action: QualityRule.Action
    languages: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, check: _Optional[_Union[QualityCheck, str]] = ..., action: _Optional[_Union[QualityRule.Action, str]] = ..., languages: _Optional[_Iterable[str]] = ...) -> None: ...

class QualityReport(_message.Message):
    __slots__ = ("name", "findings", "rows_by_language", "rows_by_label", "rows", "notes", "text")
    class RowsByLanguageEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class RowsByLabelEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    ROWS_BY_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    ROWS_BY_LABEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    findings: _containers.RepeatedCompositeFieldContainer[QualityFinding]
    rows_by_language: _containers.ScalarMap[str, int]
    rows_by_label: _containers.ScalarMap[str, int]
    rows: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    text: str
    def __init__(self, name: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[QualityFinding, _Mapping]]] = ..., rows_by_language: _Optional[_Mapping[str, int]] = ..., rows_by_label: _Optional[_Mapping[str, int]] = ..., rows: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ..., text: _Optional[str] = ...) -> None: ...

class QualityFinding(_message.Message):
    __slots__ = ("check", "action", "count", "examples")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    check: QualityCheck
    action: QualityRule.Action
    count: int
    examples: _containers.RepeatedCompositeFieldContainer[QualityExample]
    def __init__(self, check: _Optional[_Union[QualityCheck, str]] = ..., action: _Optional[_Union[QualityRule.Action, str]] = ..., count: _Optional[int] = ..., examples: _Optional[_Iterable[_Union[QualityExample, _Mapping]]] = ...) -> None: ...

class QualityExample(_message.Message):
    __slots__ = ("source_file", "place", "detail", "display_name", "source")
    SOURCE_FILE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    source_file: str
    place: str
    detail: str
    display_name: str
    source: int
    def __init__(self, source_file: _Optional[str] = ..., place: _Optional[str] = ..., detail: _Optional[str] = ..., display_name: _Optional[str] = ..., source: _Optional[int] = ...) -> None: ...
