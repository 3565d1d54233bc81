from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Recipe(_message.Message):
    __slots__ = ("headings", "questions", "raw", "keywords", "context", "semantic", "conversations", "pairs", "code_summary", "code_metadata", "code_raw", "rows")
    HEADINGS_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SEMANTIC_FIELD_NUMBER: _ClassVar[int]
    CONVERSATIONS_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    CODE_SUMMARY_FIELD_NUMBER: _ClassVar[int]
    CODE_METADATA_FIELD_NUMBER: _ClassVar[int]
    CODE_RAW_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    headings: HeadingsRecipe
    questions: QuestionsRecipe
    raw: RawRecipe
    keywords: KeywordsRecipe
    context: ContextRecipe
    semantic: SemanticRecipe
    conversations: ConversationsRecipe
    pairs: PairsRecipe
    code_summary: CodeSummaryRecipe
    code_metadata: CodeMetadataRecipe
    code_raw: CodeRawRecipe
    rows: RowsRecipe
    def __init__(self, headings: _Optional[_Union[HeadingsRecipe, _Mapping]] = ..., questions: _Optional[_Union[QuestionsRecipe, _Mapping]] = ..., raw: _Optional[_Union[RawRecipe, _Mapping]] = ..., keywords: _Optional[_Union[KeywordsRecipe, _Mapping]] = ..., context: _Optional[_Union[ContextRecipe, _Mapping]] = ..., semantic: _Optional[_Union[SemanticRecipe, _Mapping]] = ..., conversations: _Optional[_Union[ConversationsRecipe, _Mapping]] = ..., pairs: _Optional[_Union[PairsRecipe, _Mapping]] = ..., code_summary: _Optional[_Union[CodeSummaryRecipe, _Mapping]] = ..., code_metadata: _Optional[_Union[CodeMetadataRecipe, _Mapping]] = ..., code_raw: _Optional[_Union[CodeRawRecipe, _Mapping]] = ..., rows: _Optional[_Union[RowsRecipe, _Mapping]] = ...) -> None: ...

class Chunking(_message.Message):
    __slots__ = ("boundary", "tokens", "overlap_tokens")
    class Boundary(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        BOUNDARY_UNSPECIFIED: _ClassVar[Chunking.Boundary]
        FIXED: _ClassVar[Chunking.Boundary]
        SECTION: _ClassVar[Chunking.Boundary]
        SEMANTIC: _ClassVar[Chunking.Boundary]
        STATEMENT: _ClassVar[Chunking.Boundary]
    BOUNDARY_UNSPECIFIED: Chunking.Boundary
    FIXED: Chunking.Boundary
    SECTION: Chunking.Boundary
    SEMANTIC: Chunking.Boundary
    STATEMENT: Chunking.Boundary
    BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    boundary: Chunking.Boundary
    tokens: int
    overlap_tokens: int
    def __init__(self, boundary: _Optional[_Union[Chunking.Boundary, str]] = ..., tokens: _Optional[int] = ..., overlap_tokens: _Optional[int] = ...) -> None: ...

class RawRecipe(_message.Message):
    __slots__ = ("chunk_tokens", "overlap_tokens", "pack")
    CHUNK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    chunk_tokens: int
    overlap_tokens: int
    pack: bool
    def __init__(self, chunk_tokens: _Optional[int] = ..., overlap_tokens: _Optional[int] = ..., pack: _Optional[bool] = ...) -> None: ...

class KeywordsRecipe(_message.Message):
    __slots__ = ("chunking", "most_keywords", "template")
    CHUNKING_FIELD_NUMBER: _ClassVar[int]
    MOST_KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    chunking: Chunking
    most_keywords: int
    template: str
    def __init__(self, chunking: _Optional[_Union[Chunking, _Mapping]] = ..., most_keywords: _Optional[int] = ..., template: _Optional[str] = ...) -> None: ...

class HeadingsRecipe(_message.Message):
    __slots__ = ("max_section_tokens",)
    MAX_SECTION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_section_tokens: int
    def __init__(self, max_section_tokens: _Optional[int] = ...) -> None: ...

class QuestionsRecipe(_message.Message):
    __slots__ = ("questions_per_statement", "chunking", "answer", "model", "write_template", "read_template", "max_reply_tokens", "allow_free_answers", "judge")
    class Answer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ANSWER_UNSPECIFIED: _ClassVar[QuestionsRecipe.Answer]
        WRITTEN: _ClassVar[QuestionsRecipe.Answer]
        PASSAGE: _ClassVar[QuestionsRecipe.Answer]
    ANSWER_UNSPECIFIED: QuestionsRecipe.Answer
    WRITTEN: QuestionsRecipe.Answer
    PASSAGE: QuestionsRecipe.Answer
    QUESTIONS_PER_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WRITE_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    READ_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    MAX_REPLY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FREE_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    questions_per_statement: int
    chunking: Chunking
    answer: QuestionsRecipe.Answer
    model: str
    write_template: str
    read_template: str
    max_reply_tokens: int
    allow_free_answers: bool
    judge: Judge
    def __init__(self, questions_per_statement: _Optional[int] = ..., chunking: _Optional[_Union[Chunking, _Mapping]] = ..., answer: _Optional[_Union[QuestionsRecipe.Answer, str]] = ..., model: _Optional[str] = ..., write_template: _Optional[str] = ..., read_template: _Optional[str] = ..., max_reply_tokens: _Optional[int] = ..., allow_free_answers: _Optional[bool] = ..., judge: _Optional[_Union[Judge, _Mapping]] = ...) -> None: ...

class Judge(_message.Message):
    __slots__ = ("model", "template", "accept")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    model: str
    template: str
    accept: str
    def __init__(self, model: _Optional[str] = ..., template: _Optional[str] = ..., accept: _Optional[str] = ...) -> None: ...

class ContextRecipe(_message.Message):
    __slots__ = ("questions", "passages", "chunking", "template", "question_field", "answer_field")
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_FIELD_NUMBER: _ClassVar[int]
    questions: QuestionsRecipe
    passages: int
    chunking: Chunking
    template: str
    question_field: str
    answer_field: str
    def __init__(self, questions: _Optional[_Union[QuestionsRecipe, _Mapping]] = ..., passages: _Optional[int] = ..., chunking: _Optional[_Union[Chunking, _Mapping]] = ..., template: _Optional[str] = ..., question_field: _Optional[str] = ..., answer_field: _Optional[str] = ...) -> None: ...

class SemanticRecipe(_message.Message):
    __slots__ = ("max_tokens", "min_tokens")
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    min_tokens: int
    def __init__(self, max_tokens: _Optional[int] = ..., min_tokens: _Optional[int] = ...) -> None: ...

class ConversationsRecipe(_message.Message):
    __slots__ = ("gap_seconds", "min_exchanges", "max_exchanges", "assistants", "system")
    GAP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MIN_EXCHANGES_FIELD_NUMBER: _ClassVar[int]
    MAX_EXCHANGES_FIELD_NUMBER: _ClassVar[int]
    ASSISTANTS_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    gap_seconds: int
    min_exchanges: int
    max_exchanges: int
    assistants: _containers.RepeatedScalarFieldContainer[str]
    system: str
    def __init__(self, gap_seconds: _Optional[int] = ..., min_exchanges: _Optional[int] = ..., max_exchanges: _Optional[int] = ..., assistants: _Optional[_Iterable[str]] = ..., system: _Optional[str] = ...) -> None: ...

class PairsRecipe(_message.Message):
    __slots__ = ("input_field", "output_field", "template", "system", "balance_labels", "sequence_to_sequence")
    INPUT_FIELD_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    BALANCE_LABELS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_TO_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    input_field: str
    output_field: str
    template: str
    system: str
    balance_labels: bool
    sequence_to_sequence: bool
    def __init__(self, input_field: _Optional[str] = ..., output_field: _Optional[str] = ..., template: _Optional[str] = ..., system: _Optional[str] = ..., balance_labels: _Optional[bool] = ..., sequence_to_sequence: _Optional[bool] = ...) -> None: ...

class CodeSummaryRecipe(_message.Message):
    __slots__ = ("model", "template", "direction", "max_unit_tokens", "max_reply_tokens")
    class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DIRECTION_UNSPECIFIED: _ClassVar[CodeSummaryRecipe.Direction]
        TO_CODE: _ClassVar[CodeSummaryRecipe.Direction]
        TO_SUMMARY: _ClassVar[CodeSummaryRecipe.Direction]
        BOTH: _ClassVar[CodeSummaryRecipe.Direction]
    DIRECTION_UNSPECIFIED: CodeSummaryRecipe.Direction
    TO_CODE: CodeSummaryRecipe.Direction
    TO_SUMMARY: CodeSummaryRecipe.Direction
    BOTH: CodeSummaryRecipe.Direction
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    MAX_UNIT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_REPLY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    template: str
    direction: CodeSummaryRecipe.Direction
    max_unit_tokens: int
    max_reply_tokens: int
    def __init__(self, model: _Optional[str] = ..., template: _Optional[str] = ..., direction: _Optional[_Union[CodeSummaryRecipe.Direction, str]] = ..., max_unit_tokens: _Optional[int] = ..., max_reply_tokens: _Optional[int] = ...) -> None: ...

class CodeMetadataRecipe(_message.Message):
    __slots__ = ("max_unit_tokens",)
    MAX_UNIT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_unit_tokens: int
    def __init__(self, max_unit_tokens: _Optional[int] = ...) -> None: ...

class CodeRawRecipe(_message.Message):
    __slots__ = ("chunk_tokens",)
    CHUNK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    chunk_tokens: int
    def __init__(self, chunk_tokens: _Optional[int] = ...) -> None: ...

class RowsRecipe(_message.Message):
    __slots__ = ("sequence_to_sequence",)
    SEQUENCE_TO_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence_to_sequence: bool
    def __init__(self, sequence_to_sequence: _Optional[bool] = ...) -> None: ...
