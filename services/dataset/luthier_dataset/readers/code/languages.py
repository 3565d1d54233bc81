"""The programming languages that are known, each with its tree-sitter grammar.

A grammar is a wheel of its own, installed with the package, and is loaded when the first file of
its language comes. Node names are those of each grammar's `node-types.json`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

import tree_sitter

Role = Literal["function", "class", "statement", "scope", "wrapper", "decorator", "comment"]
"""What a node is to the units of its file."""


@dataclass(frozen=True)
class Language:
    """A language, and the types of nodes of its grammar that matter here."""

    name: str
    module: str
    functions: tuple[str, ...] = ()
    """Functions and methods; which of the two is told by what they stand in."""
    classes: tuple[str, ...] = ()
    """Classes, interfaces, structures, traits, enumerations, objects."""
    statements: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """By type of node, the field that must hold one of these types for it to be a unit."""
    scopes: tuple[str, ...] = ()
    """Blocks that are no unit but name the class of the functions in them."""
    wrappers: tuple[str, ...] = ()
    """Nodes around a unit that belong to it, such as `export …`."""
    decorators: tuple[str, ...] = ()
    """Nodes right before a unit that belong to it."""
    comments: tuple[str, ...] = ("comment",)
    bodies: tuple[str, ...] = ()
    """Bodies that the grammar does not give as the field `body`."""
    doc_marks: tuple[str, ...] = ("",)
    """How a comment above a unit begins if it is the unit's documentation."""
    function: str = "language"
    """The function of the module that gives the grammar."""

    @cached_property
    def roles(self) -> dict[str, Role]:
        """What each type of node that matters is."""
        types: dict[Role, tuple[str, ...]] = {
            "function": self.functions,
            "class": self.classes,
            "statement": self.statements,
            "scope": self.scopes,
            "wrapper": self.wrappers,
            "decorator": self.decorators,
            "comment": self.comments,
        }
        return {node: role for role, nodes in types.items() for node in nodes}


def grammar_of(language: Language) -> tree_sitter.Language:
    """Import and return the grammar of a language."""
    module = importlib.import_module(language.module)
    return tree_sitter.Language(getattr(module, language.function)())


_STRUCT = ("body", ("field_declaration_list",))
_C_ONLY = {
    **dict.fromkeys(("struct_specifier", "union_specifier", "class_specifier"), _STRUCT),
    "enum_specifier": ("body", ("enumerator_list",)),
}
_C_CLASSES = ("struct_specifier", "union_specifier", "enum_specifier")
_SCRIPT_FUNCTIONS = (
    *("function_declaration", "generator_function_declaration", "method_definition"),
    "variable_declarator",
)
_SCRIPT_ONLY = {"variable_declarator": ("value", ("arrow_function", "function_expression"))}
_SCRIPT_WRAPPERS = ("export_statement", "lexical_declaration", "variable_declaration")
_BLOCK_DOC = ("/**",)

PYTHON = Language(
    "python",
    "tree_sitter_python",
    functions=("function_definition",),
    classes=("class_definition",),
    wrappers=("decorated_definition",),
    doc_marks=(),
)
JAVA = Language(
    "java",
    "tree_sitter_java",
    functions=("method_declaration", "constructor_declaration", "compact_constructor_declaration"),
    classes=(
        *("class_declaration", "interface_declaration", "enum_declaration"),
        *("record_declaration", "annotation_type_declaration"),
    ),
    comments=("line_comment", "block_comment"),
    doc_marks=_BLOCK_DOC,
)
JAVASCRIPT = Language(
    "javascript",
    "tree_sitter_javascript",
    functions=_SCRIPT_FUNCTIONS,
    classes=("class_declaration",),
    only=_SCRIPT_ONLY,
    wrappers=_SCRIPT_WRAPPERS,
    decorators=("decorator",),
    doc_marks=_BLOCK_DOC,
)
TYPESCRIPT = Language(
    "typescript",
    "tree_sitter_typescript",
    functions=_SCRIPT_FUNCTIONS,
    classes=(
        *("class_declaration", "abstract_class_declaration"),
        *("interface_declaration", "enum_declaration"),
    ),
    only=_SCRIPT_ONLY,
    wrappers=_SCRIPT_WRAPPERS,
    decorators=("decorator",),
    doc_marks=_BLOCK_DOC,
    function="language_typescript",
)
TSX = replace(TYPESCRIPT, function="language_tsx")
GO = Language(
    "go",
    "tree_sitter_go",
    functions=("function_declaration", "method_declaration"),
    classes=("type_spec",),
    only={"type_spec": ("type", ("struct_type", "interface_type"))},
    wrappers=("type_declaration",),
    bodies=("field_declaration_list",),
)
C = Language(
    "c",
    "tree_sitter_c",
    functions=("function_definition",),
    classes=_C_CLASSES,
    only=_C_ONLY,
    wrappers=("type_definition",),
)
CPP = Language(
    "cpp",
    "tree_sitter_cpp",
    functions=("function_definition",),
    classes=(*_C_CLASSES, "class_specifier"),
    only=_C_ONLY,
    wrappers=("type_definition", "template_declaration"),
)
C_SHARP = Language(
    "csharp",
    "tree_sitter_c_sharp",
    functions=(
        *("method_declaration", "constructor_declaration", "destructor_declaration"),
        *("local_function_statement",),
    ),
    classes=(
        *("class_declaration", "interface_declaration", "struct_declaration"),
        *("enum_declaration", "record_declaration"),
    ),
    decorators=("attribute_list",),
    doc_marks=("///", "/**"),
)
RUST = Language(
    "rust",
    "tree_sitter_rust",
    functions=("function_item",),
    classes=("struct_item", "enum_item", "union_item", "trait_item"),
    scopes=("impl_item",),
    decorators=("attribute_item",),
    comments=("line_comment", "block_comment"),
    doc_marks=("///", "/**"),
)
PHP = Language(
    "php",
    "tree_sitter_php",
    functions=("function_definition", "method_declaration"),
    classes=(
        *("class_declaration", "interface_declaration"),
        *("trait_declaration", "enum_declaration"),
    ),
    decorators=("attribute_list",),
    doc_marks=_BLOCK_DOC,
    function="language_php",
)
RUBY = Language(
    "ruby",
    "tree_sitter_ruby",
    functions=("method", "singleton_method"),
    classes=("class", "module"),
)
KOTLIN = Language(
    "kotlin",
    "tree_sitter_kotlin",
    functions=("function_declaration",),
    classes=("class_declaration", "object_declaration"),
    comments=("line_comment", "block_comment"),
    bodies=("class_body", "function_body", "enum_class_body"),
    doc_marks=_BLOCK_DOC,
)
SQL = Language(
    "sql",
    "tree_sitter_sql",
    statements=(
        *("create_table", "create_view", "create_materialized_view", "create_index"),
        *("create_function", "create_procedure", "create_trigger", "create_type"),
        *("create_schema", "create_sequence", "create_role", "create_database"),
    ),
    comments=("comment", "marginalia"),
    bodies=(
        *("column_definitions", "create_query", "function_body", "procedure_body"),
        "enum_elements",
    ),
)
SHELL = Language("shell", "tree_sitter_bash", functions=("function_definition",))

LANGUAGES = {
    **dict.fromkeys((".py", ".pyi"), PYTHON),
    ".java": JAVA,
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs"), JAVASCRIPT),
    **dict.fromkeys((".ts", ".mts", ".cts"), TYPESCRIPT),
    ".tsx": TSX,
    ".go": GO,
    **dict.fromkeys((".c", ".h"), C),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"), CPP),
    ".cs": C_SHARP,
    ".rs": RUST,
    ".php": PHP,
    ".rb": RUBY,
    **dict.fromkeys((".kt", ".kts"), KOTLIN),
    ".sql": SQL,
    **dict.fromkeys((".sh", ".bash"), SHELL),
}
"""Languages by the suffix of a file, in lower case."""

_CPP_ONLY = re.compile(
    r"^[ \t]*(?:class|namespace|template|using|public:|private:)\b", re.MULTILINE
)


def language_of(path: str, text: str) -> Language | None:
    """Return the language of a file by its name; None if it is none that is known.

    A `.h` that declares a class, a namespace or a template is C++.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".h" and _CPP_ONLY.search(text):
        return CPP
    return LANGUAGES.get(suffix)
