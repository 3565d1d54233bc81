"""Finds the functions, methods and classes of a source file in its syntax tree."""

from __future__ import annotations

import inspect
import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace

from tree_sitter import Node, Tree

from luthier_dataset.readers.code.comments import plain, without_tags
from luthier_dataset.readers.code.languages import C_SHARP, PYTHON, Language, Role
from luthier_dataset.readers.code.syntax import nodes_of
from luthier_dataset.readers.code.text import SourceText
from luthier_dataset.readers.items import CodeUnit

MAX_NESTING = 4
"""Units inside units, such as a function in a method of a class in a class; what is nested deeper
is part of the units around it and no unit of its own, or sources would grow with the square."""

_GENERIC = re.compile(r"<[^<>]*>")
_LAST_OF_SIGNATURE = re.compile(r"\s*(?:=>|[:={]|\bAS)$", re.IGNORECASE)
_LISTS = ("lexical_declaration", "variable_declaration", "type_declaration")
"""Wrappers that may hold several units."""
_LONGEST_NAME = 256
"""Bytes; nobody calls a unit by a longer one, and each of its members would repeat it."""
_TAIL = re.compile(rb"[; \n]*")
_NEAR = re.compile(rb"[ \t\f]*\n?[ \t\f]*")
_RUBY_END = re.compile(r"\s+end$")


def units_of(language: Language, tree: Tree, source: SourceText) -> tuple[CodeUnit, ...]:
    """Return the units of a file in its order, methods after their class."""
    walk = _Walk(language, source)
    for role, node in nodes_of(language, tree):
        walk.take(role, node)
    return walk.units()


@dataclass
class _Draft:
    """A unit whose comments are not all known yet."""

    kind: str
    name: str
    signature: str
    start: int
    end: int
    doc: str
    above: list[str]
    inside: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Open:
    """A node that the walk is inside of, and what follows from it for the nodes in it."""

    end: int
    wrapper: Node | None = None
    """The node, if it is a wrapper."""
    name: str = ""
    """Of the unit or scope around."""
    in_class: bool = False
    draft: _Draft | None = None
    """The innermost unit around."""
    depth: int = 0
    """Units around."""


class _Walk:
    """Takes the nodes that matter in the order in which they begin."""

    def __init__(self, language: Language, source: SourceText) -> None:
        self._language = language
        self._source = source
        self._leads = _Leads(source)
        self._open = [_Open(end=len(source.utf8) + 1)]
        self._drafts: list[_Draft] = []
        self._used: set[int] = set()
        """Where comments begin that stand above a unit."""

    def take(self, role: Role, node: Node) -> None:
        """Take the next node."""
        while self._open[-1].end <= node.start_byte:
            self._open.pop()
        around = self._open[-1]
        match role:
            case "wrapper":
                self._open.append(replace(around, end=node.end_byte, wrapper=node))
            case "scope":
                scope = _Open(node.end_byte, None, self._name(node), True, around.draft)
                self._open.append(replace(scope, depth=around.depth))
            case "comment":
                self._leads.add(node, comment=True)
                if around.draft:
                    around.draft.inside.append((node.start_byte, node.end_byte))
            case "decorator":
                self._leads.add(node, comment=False)
            case _ if self._is_unit(node) and around.depth < MAX_NESTING:
                self._unit(role, node, around)

    def units(self) -> tuple[CodeUnit, ...]:
        """Return the units of the nodes taken."""
        return tuple(self._finished(draft) for draft in self._drafts)

    def _is_unit(self, node: Node) -> bool:
        only = self._language.only.get(node.type)
        if only is None:
            return True
        value = node.child_by_field_name(only[0])
        return value is not None and value.type in only[1]

    def _unit(self, role: Role, node: Node, around: _Open) -> None:
        own, outer = self._name(node), self._outermost(node)
        if not own and around.wrapper:
            # `typedef struct { … } name;`
            own, outer = self._name(around.wrapper), around.wrapper
        if not own:
            return
        start, above = self._leads.above(outer.start_byte)
        self._used.update(at for at, _ in above)
        comments = [self._source.text(*lead) for lead in above]
        docs = [text for text in comments if text.startswith(self._language.doc_marks)]
        draft = _Draft(
            "method" if role == "function" and (around.in_class or "." in own) else role,
            f"{around.name}.{own}" if around.name else own,
            self._signature(outer, node),
            self._source.line_start(start),
            outer.end_byte,
            self._doc(node, docs),
            [plain(text) for text in comments if text not in docs],
        )
        self._drafts.append(draft)
        in_class = role == "class"
        self._open.append(_Open(node.end_byte, None, draft.name, in_class, draft, around.depth + 1))

    def _outermost(self, node: Node) -> Node:
        """The outermost of the wrappers that hold nothing but a unit, or the unit itself."""
        for one in reversed(self._open):
            wrapper = one.wrapper
            if wrapper is None or (wrapper.type in _LISTS and wrapper.named_child_count > 1):
                break
            if not _TAIL.fullmatch(self._source.utf8, node.end_byte, wrapper.end_byte):
                break
            node = wrapper
        return node

    def _name(self, node: Node) -> str:
        """The name that a declaration gives, qualified as far as it says so itself."""
        found = node.child_by_field_name("name") or _declared(node)
        found = found or node.child_by_field_name("type")
        if found is None:
            found = next((one for one in node.named_children if _is_name(one)), None)
        if found is None or found.end_byte - found.start_byte > _LONGEST_NAME:
            return ""
        name = self._source.text(found.start_byte, found.end_byte)
        if "operator" not in name:
            name = _GENERIC.sub("", name)
        if receiver := node.child_by_field_name("receiver"):
            # Go: the type of a method stands in front of it, as in `func (s *Stack[T]) Push()`.
            text = self._source.text(receiver.start_byte, receiver.end_byte)[:_LONGEST_NAME]
            *_, kind = re.findall(r"\w+", text.partition("[")[0]) or [""]
            name = f"{kind}.{name}"
        return "".join(name.replace("::", ".").split())

    def _signature(self, outer: Node, node: Node) -> str:
        decorators = ("decorator", *self._language.decorators)
        first = next((one for one in outer.children if one.type not in decorators), outer)
        body = self._body(node)
        end = body.start_byte if body else node.end_byte
        comments = (one for one in node.children if one.type in self._language.comments)
        end = min((end, *(one.start_byte for one in comments if one.start_byte > first.start_byte)))
        text = " ".join(self._source.text(first.start_byte, end).split())
        if body is None:
            text = _RUBY_END.sub("", text.partition("{")[0])
        return _LAST_OF_SIGNATURE.sub("", text.removesuffix(";")).strip()

    def _body(self, node: Node) -> Node | None:
        """The body, which in `f = () => …` and `type T struct …` is that of the value or type."""
        inner = (node.child_by_field_name(field) for field in ("value", "type"))
        for holder in filter(None, (node, *inner)):
            if body := holder.child_by_field_name("body"):
                return body
            for child in holder.children:
                if child.type in self._language.bodies:
                    return child
        return None

    def _doc(self, node: Node, comments: list[str]) -> str:
        if self._language is PYTHON:
            return self._docstring(node)
        doc = plain("\n".join(comments))
        return without_tags(doc) if self._language is C_SHARP else doc

    def _docstring(self, node: Node) -> str:
        body = node.child_by_field_name("body")
        statement = body.named_child(0) if body and body.named_child_count else None
        if statement is None or statement.type != "expression_statement":
            return ""
        string = statement.named_child(0)
        if string is None or string.type != "string":
            return ""
        if string.child_count < 2:
            return ""
        start, *_, end = string.children
        if self._source.text(start.start_byte, start.end_byte).lower().startswith(("f", "b")):
            return ""
        return inspect.cleandoc(self._source.text(start.end_byte, end.start_byte)).strip()

    def _finished(self, draft: _Draft) -> CodeUnit:
        inside = [self._source.text(*one) for one in draft.inside if one[0] not in self._used]
        return CodeUnit(
            draft.kind,
            draft.name,
            draft.signature,
            self._source.text(draft.start, draft.end),
            draft.doc,
            tuple(filter(None, (*draft.above, *map(plain, inside)))),
            self._source.place(draft.start, draft.end),
        )


class _Leads:
    """The comments and decorators of a file: what may stand right above a unit."""

    def __init__(self, source: SourceText) -> None:
        self._source = source
        self._leads: list[tuple[int, int, bool]] = []
        self._ends: list[int] = []

    def add(self, node: Node, *, comment: bool) -> None:
        """Take the next one."""
        # Some grammars count the line end after a comment as part of it.
        end = self._source.trimmed(node.start_byte, node.end_byte)
        self._leads.append((node.start_byte, end, comment))
        self._ends.append(end)

    def above(self, start: int) -> tuple[int, list[tuple[int, int]]]:
        """Return where what belongs to a unit begins, and the comments among it, in order."""
        comments: list[tuple[int, int]] = []
        index = bisect_right(self._ends, start) - 1
        while index >= 0 and self._adjoins(index, start):
            start, end, is_comment = self._leads[index]
            if is_comment:
                comments.append((start, end))
            index -= 1
        return start, comments[::-1]

    def _adjoins(self, index: int, start: int) -> bool:
        """Say whether nothing but blanks stands between a lead and `start`, at most one line end.

        A comment behind code belongs to that code, and a first line `#!` to the file.
        """
        at, end, is_comment = self._leads[index]
        return (
            _NEAR.fullmatch(self._source.utf8, end, start) is not None
            and (not is_comment or self._source.begins_line(at))
            and not self._source.utf8.startswith(b"#!", at)
        )


def _declared(node: Node) -> Node | None:
    """C and C++: the name at the core of a declarator such as `*const f(int)`."""
    declarator = node.child_by_field_name("declarator")
    while declarator is not None:
        inner = declarator.child_by_field_name("declarator")
        if inner is None and declarator.type == "reference_declarator":
            inner = declarator.named_child(0)
        if inner is None:
            break
        declarator = inner
    return declarator


def _is_name(node: Node) -> bool:
    return node.type in ("object_reference", "identifier")
