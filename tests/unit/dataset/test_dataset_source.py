import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.readers.code.comments import plain
from luthier_dataset.readers.code.languages import LANGUAGES, language_of
from luthier_dataset.readers.code.syntax import MAX_PARSED_BYTES, Budget
from luthier_dataset.readers.code.units import MAX_NESTING
from luthier_dataset.readers.items import CodeFile, CodeUnit, Place, Remark, UnreadableDocument
from luthier_dataset.readers.source import MAX_SOURCE_BYTES, code_file, read_code

STEPS = 400_000


def read(name: str, data: bytes | str, steps: int = STEPS) -> tuple[CodeFile, list[Remark]]:
    raw = data.encode() if isinstance(data, str) else data
    first, *rest = code_file(raw, name, Budget(steps))
    assert isinstance(first, CodeFile)
    return first, [item for item in rest if isinstance(item, Remark)]


def told(name: str, text: str) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
    """Kind, name, signature, documentation and comments of each unit; places are checked."""
    file, remarks = read(name, text)
    assert remarks == []
    data = text.encode()
    for unit in file.units:
        place = unit.place
        assert unit.source == data[place.start : place.end].decode()
        assert place.line == data.count(b"\n", 0, place.start) + 1
        assert place.last_line == data.count(b"\n", 0, place.end) + 1
    return [(one.kind, one.name, one.signature, one.doc, one.comments) for one in file.units]


def test_python() -> None:
    text = '''import os


# Kept small.
@dataclass
class Stack(Base):
    """Items, last in first out."""

    @property
    def top(self) -> int:  # read often
        """Return the top.

        More:
            indented.
        """
        # The last one.
        return self.items[-1]


def main(argv: list[str],
         more: int = 0) -> None:
    def inner(): f"""no docstring {1}"""
'''
    assert told("a.py", text) == [
        ("class", "Stack", "class Stack(Base)", "Items, last in first out.", ("Kept small.",)),
        (
            "method",
            "Stack.top",
            "def top(self) -> int",
            "Return the top.\n\nMore:\n    indented.",
            ("read often", "The last one."),
        ),
        ("function", "main", "def main(argv: list[str], more: int = 0) -> None", "", ()),
        ("function", "main.inner", "def inner()", "", ()),
    ]
    file, _ = read("a.py", text)
    assert file.units[0].source.startswith("# Kept small.\n@dataclass\nclass Stack")
    assert file.units[1].source.startswith("    @property\n    def top(self)")
    assert file.units[1].source.endswith("self.items[-1]")


def test_java() -> None:
    text = """package a;
/**
 * A stack of <b>items</b>.
 * @param <T> what it holds
 */
public final class Stack<T> extends Base implements Holder<T> {
    // Not documentation.
    Stack(int size) { }

    /** Pushes. */
    @Override
    public void push(T item)
            throws Full {
        items.add(item); // at the end
    }
}
interface Holder<T> { T top(); }
enum Color { RED; int code() { return 1; } }
record Point(int x, int y) {}
"""
    assert told("A.java", text) == [
        (
            "class",
            "Stack",
            "public final class Stack<T> extends Base implements Holder<T>",
            "A stack of <b>items</b>.\n@param <T> what it holds",
            (),
        ),
        ("method", "Stack.Stack", "Stack(int size)", "", ("Not documentation.",)),
        (
            "method",
            "Stack.push",
            "@Override public void push(T item) throws Full",
            "Pushes.",
            ("at the end",),
        ),
        ("class", "Holder", "interface Holder<T>", "", ()),
        ("method", "Holder.top", "T top()", "", ()),
        ("class", "Color", "enum Color", "", ()),
        ("method", "Color.code", "int code()", "", ()),
        ("class", "Point", "record Point(int x, int y)", "", ()),
    ]


def test_javascript() -> None:
    text = """/** Adds. */
function add(a, b) { return a + b; }

// Takes away.
export const sub = async (a, b) => a - b;
const one = 1, two = function () { return 2; };
class A extends B {
  /** Gets. */
  get(x) { return x; }
}
const o = { m() {}, n: 1 };
"""
    assert told("a.mjs", text) == [
        ("function", "add", "function add(a, b)", "Adds.", ()),
        ("function", "sub", "export const sub = async (a, b)", "", ("Takes away.",)),
        ("function", "two", "two = function ()", "", ()),
        ("class", "A", "class A extends B", "", ()),
        ("method", "A.get", "get(x)", "Gets.", ()),
        ("function", "m", "m()", "", ()),
    ]


def test_typescript() -> None:
    text = """/** A box. */
@Injectable()
export default class Box<T> {
  /** Gets. */
  @Log()
  get(): T { return this.x }
}
export interface Point { x: number }
enum Color { Red }
export abstract class Shape { abstract area(): number; }
export const add = (a: number, b: number): number => a + b;
"""
    assert told("a.ts", text) == [
        ("class", "Box", "export default class Box<T>", "A box.", ()),
        ("method", "Box.get", "get(): T", "Gets.", ()),
        ("class", "Point", "export interface Point", "", ()),
        ("class", "Color", "enum Color", "", ()),
        ("class", "Shape", "export abstract class Shape", "", ()),
        ("function", "add", "export const add = (a: number, b: number): number", "", ()),
    ]
    tsx = "export function App(): Element { return <p>Hello</p>; }\n"
    assert told("a.tsx", tsx) == [
        ("function", "App", "export function App(): Element", "", ()),
    ]


def test_go() -> None:
    text = """package a

// Stack holds items.
// The last comes first.
type Stack[T any] struct { items []T }

type (
	// A is grouped.
	A struct{ x int }
	B interface{ F() }
)

// Push adds an item.
func (s *Stack[T]) Push(item T) error { return nil }

func New() (*Stack[int], error) {
	/* nothing yet */
	return nil, nil
}
"""
    assert told("a.go", text) == [
        (
            "class",
            "Stack",
            "type Stack[T any] struct",
            "Stack holds items.\nThe last comes first.",
            (),
        ),
        ("class", "A", "A struct", "A is grouped.", ()),
        ("class", "B", "B interface", "", ()),
        ("method", "Stack.Push", "func (s *Stack[T]) Push(item T) error", "Push adds an item.", ()),
        ("function", "New", "func New() (*Stack[int], error)", "", ("nothing yet",)),
    ]


def test_c() -> None:
    text = """#include <a.h>
/*
 * Adds two numbers.
 */
static int add(int a, int b) { return a + b; }
char **split(const char *text, int *count) { return 0; }

// A point.
typedef struct { int x, y; } point;
struct node { struct node *next; };
enum color { RED };
struct node *last(struct node *first) { struct node n; return first; }
"""
    assert told("a.c", text) == [
        ("function", "add", "static int add(int a, int b)", "Adds two numbers.", ()),
        ("function", "split", "char **split(const char *text, int *count)", "", ()),
        ("class", "point", "typedef struct", "A point.", ()),
        ("class", "node", "struct node", "", ()),
        ("class", "color", "enum color", "", ()),
        ("function", "last", "struct node *last(struct node *first)", "", ()),
    ]


def test_cpp() -> None:
    text = """namespace n {
/// A stack.
template <typename T>
class Stack : public Base {
 public:
  /// Pushes.
  void push(const T& item) { items.push_back(item); }
  bool operator==(const Stack& other) const { return true; }
  T& top();
};
}
template <typename T>
T& n::Stack<T>::top() { return items.back(); }
int main(int argc, char** argv) { return 0; }
"""
    units = [
        ("class", "Stack", "template <typename T> class Stack : public Base", "A stack.", ()),
        ("method", "Stack.push", "void push(const T& item)", "Pushes.", ()),
        (
            "method",
            "Stack.operator==",
            "bool operator==(const Stack& other) const",
            "",
            (),
        ),
        ("method", "n.Stack.top", "template <typename T> T& n::Stack<T>::top()", "", ()),
        ("function", "main", "int main(int argc, char** argv)", "", ()),
    ]
    assert told("a.cpp", text) == units
    assert told("a.h", text) == units


def test_c_sharp() -> None:
    text = """namespace A {
/// <summary>
/// A stack of <typeparamref name="T"/> &amp; more.
/// </summary>
[Serializable]
public class Stack<T> : Base {
    /// <summary>Pushes.</summary>
    public void Push(T item) { }
    public int Size() => 1; // cheap
    public Stack(int size) { }
}
public interface IShape { double Area(); }
public struct Point { }
public record Pair(int A, int B);
}
"""
    assert told("a.cs", text) == [
        ("class", "Stack", "public class Stack<T> : Base", "A stack of & more.", ("cheap",)),
        ("method", "Stack.Push", "public void Push(T item)", "Pushes.", ()),
        ("method", "Stack.Size", "public int Size()", "", ()),
        ("method", "Stack.Stack", "public Stack(int size)", "", ()),
        ("class", "IShape", "public interface IShape", "", ()),
        ("method", "IShape.Area", "double Area()", "", ()),
        ("class", "Point", "public struct Point", "", ()),
        ("class", "Pair", "public record Pair(int A, int B)", "", ()),
    ]


def test_rust() -> None:
    text = """/// A stack.
/// The last comes first.
#[derive(Debug)]
pub struct Stack<T> { items: Vec<T> }

impl<T> Stack<T> {
    /// Pushes.
    #[inline]
    pub fn push(&mut self, item: T) { self.items.push(item) } // amortised
}
impl Display for Stack<i32> { fn fmt(&self) {} }
pub trait Shape { fn area(&self) -> f64; fn twice(&self) -> f64 { 2.0 * self.area() } }
fn main() {}
"""
    assert told("a.rs", text) == [
        ("class", "Stack", "pub struct Stack<T>", "A stack.\nThe last comes first.", ()),
        ("method", "Stack.push", "pub fn push(&mut self, item: T)", "Pushes.", ()),
        ("method", "Stack.fmt", "fn fmt(&self)", "", ()),
        ("class", "Shape", "pub trait Shape", "", ()),
        ("method", "Shape.twice", "fn twice(&self) -> f64", "", ()),
        ("function", "main", "fn main()", "", ()),
    ]


def test_php() -> None:
    text = """<html><?php
namespace A;
/** A stack. */
final class Stack extends Base {
    /** Pushes. */
    #[Fast]
    public function push(int $item): void { $this->items[] = $item; }
}
interface Shape { public function area(): float; }
trait Named { function name() {} }
enum Suit: string { case Hearts = 'h'; }
# Adds.
function add($a, $b) { return $a + $b; }
"""
    assert told("a.php", text) == [
        ("class", "Stack", "final class Stack extends Base", "A stack.", ()),
        ("method", "Stack.push", "public function push(int $item): void", "Pushes.", ()),
        ("class", "Shape", "interface Shape", "", ()),
        ("method", "Shape.area", "public function area(): float", "", ()),
        ("class", "Named", "trait Named", "", ()),
        ("method", "Named.name", "function name()", "", ()),
        ("class", "Suit", "enum Suit: string", "", ()),
        ("function", "add", "function add($a, $b)", "", ("Adds.",)),
    ]


def test_ruby() -> None:
    text = """# A stack.
class Stack < Base
  # Pushes an item.
  def push(item)
    @items << item # at the end
  end

  def self.make = new

  def clear
  end
end

=begin
Adds.
=end
module Sum
  def self.of(a, b) = a + b
end
"""
    assert told("a.rb", text) == [
        ("class", "Stack", "class Stack < Base", "A stack.", ()),
        ("method", "Stack.push", "def push(item)", "Pushes an item.", ("at the end",)),
        ("method", "Stack.make", "def self.make", "", ()),
        ("method", "Stack.clear", "def clear", "", ()),
        ("class", "Sum", "module Sum", "Adds.", ()),
        ("method", "Sum.of", "def self.of(a, b)", "", ()),
    ]


def test_kotlin() -> None:
    text = """/** A stack. */
class Stack<T>(val size: Int) : Base() {
    /** Pushes. */
    @JvmStatic
    fun push(item: T): Int { return 1 }
    fun empty() = size == 0
    companion object {
        fun make(): Stack<Int> = Stack(1)
    }
}

interface Shape {
    fun area(): Double
}

object Registry {
    // Nothing yet.
    fun clear() {}
}

fun <T> List<T>.top(): T = this[0]
"""
    assert told("a.kt", text) == [
        ("class", "Stack", "class Stack<T>(val size: Int) : Base()", "A stack.", ()),
        ("method", "Stack.push", "@JvmStatic fun push(item: T): Int", "Pushes.", ()),
        ("method", "Stack.empty", "fun empty()", "", ()),
        ("method", "Stack.make", "fun make(): Stack<Int>", "", ()),
        ("class", "Shape", "interface Shape", "", ()),
        ("method", "Shape.area", "fun area(): Double", "", ()),
        ("class", "Registry", "object Registry", "", ()),
        ("method", "Registry.clear", "fun clear()", "", ("Nothing yet.",)),
        ("function", "top", "fun <T> List<T>.top(): T", "", ()),
    ]


def test_sql() -> None:
    text = """-- All users.
CREATE TABLE app.users (
  id INT PRIMARY KEY, -- never reused
  name TEXT
);

CREATE OR REPLACE VIEW active AS SELECT * FROM users;
CREATE INDEX by_name ON users (name);
/* Adds. */
CREATE FUNCTION add(a INT, b INT) RETURNS INT AS $$ SELECT a + b; $$ LANGUAGE sql;
SELECT 1;
"""
    assert told("a.sql", text) == [
        ("statement", "app.users", "CREATE TABLE app.users", "All users.", ("never reused",)),
        ("statement", "active", "CREATE OR REPLACE VIEW active", "", ()),
        ("statement", "by_name", "CREATE INDEX by_name ON users (name)", "", ()),
        ("statement", "add", "CREATE FUNCTION add(a INT, b INT) RETURNS INT", "Adds.", ()),
    ]


def test_shell() -> None:
    text = """#!/bin/bash
greet() { echo hi; }

# Says goodbye.
function bye {
  # twice
  echo bye; echo bye
}
"""
    assert told("a.sh", text) == [
        ("function", "greet", "greet()", "", ()),
        ("function", "bye", "function bye", "Says goodbye.", ("twice",)),
    ]


def test_every_language_is_tested_by_this_module() -> None:
    assert {language.name for language in LANGUAGES.values()} == {
        *("python", "java", "javascript", "typescript", "go", "c", "cpp", "csharp", "rust"),
        *("php", "ruby", "kotlin", "sql", "shell"),
    }


def test_a_grammar_is_loaded_when_its_language_comes() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from luthier_dataset.readers.source import *\n"
        "from luthier_dataset.readers.code.syntax import Budget\n"
        "list(code_file(b'def f(): pass', 'a.py', Budget(1000)))\n"
        "print([name for name in sys.modules if name.startswith('tree_sitter_')"
        " and '.' not in name])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == "['tree_sitter_python']"


def test_a_comment_belongs_to_the_unit_right_below_it_only() -> None:
    text = "// Licence.\n\n// Above.\nint a() {}\nint x; // behind x\nint b() {}\n"
    assert [(one[1], one[3]) for one in told("a.c", text)] == [("a", "Above."), ("b", "")]


def test_a_file_with_errors_gives_what_is_sound() -> None:
    text = "def good():\n    return 1\n\ndef bad(:\n\nclass A:\n    def f(self): pass\n"
    assert "good" in [one[1] for one in told("a.py", text)]


def test_line_ends_are_normal_in_text_and_true_in_places() -> None:
    data = b"\xef\xbb\xbfx = 1\r\ndef f():\r\n    return '\xc3\xa9'\r\n\r\ny = 2\r\n"
    file, remarks = read("a.py", data)
    (unit,) = file.units
    assert file.text == "x = 1\ndef f():\n    return 'é'\n\ny = 2\n"
    assert file.place == Place(line=1, last_line=5, start=3, end=len(data))
    assert unit.source == "def f():\n    return 'é'"
    assert data[unit.place.start : unit.place.end] == b"def f():\r\n    return '\xc3\xa9'"
    assert (unit.place.line, unit.place.last_line) == (2, 3)
    assert remarks == []


@pytest.mark.parametrize(
    ("data", "text", "code"),
    [
        ("# Größe\ndef f(): pass\n".encode("cp1252"), "# Größe\n", "guessed_encoding"),
        ("# Größe\ndef f(): pass\n".encode("utf-16"), "# Größe\n", None),
        (
            "# Größe ÄÖÜ ".encode() + b"\xff\ndef f(): pass\n",
            "# Größe ÄÖÜ \ufffd\n",
            "damaged_text",
        ),
    ],
)
def test_other_encodings(data: bytes, text: str, code: str | None) -> None:
    file, remarks = read("a.py", data)
    (unit,) = file.units
    assert file.text == text + "def f(): pass\n"
    assert (unit.doc, unit.comments) == ("", (text[2:].strip(),))
    assert unit.place.end == len(data) - (2 if data[:2] == b"\xff\xfe" else 1)
    assert [remark.code for remark in remarks] == ([code] if code else [])


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"x = 1\n\0", "byte 7 is NUL"), (b"\x01\x02\xff\x81 x", "control characters")],
)
def test_what_is_no_text_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read("a.py", data)


def test_a_text_of_no_known_language_is_given_without_units() -> None:
    file, remarks = read("Makefile", "all:\n\ttrue\n")
    assert (file.language, file.text, file.units, remarks) == ("", "all:\n\ttrue\n", (), [])


def test_a_single_file_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"def f(): pass\n")
    (file,) = read_code(path)
    unit = CodeUnit("function", "f", "def f()", "def f(): pass", place=Place("", 0, 0, 1, 1, 0, 13))
    assert file == CodeFile(
        "a.py", "python", "def f(): pass\n", (unit,), Place("", 0, 0, 1, 1, 0, 14)
    )
    path.write_bytes(b"#" * (MAX_SOURCE_BYTES + 1))
    with pytest.raises(UnreadableDocument, match=f"has {MAX_SOURCE_BYTES + 1} bytes"):
        list(read_code(path))


def test_an_empty_file_is_a_file() -> None:
    file, remarks = read("a.py", b"")
    assert (file.text, file.units, remarks) == ("", (), [])


def test_a_long_file_comes_without_units_and_says_so() -> None:
    file, (remark,) = read("a.py", b"def f(): pass\n" + b"#" * MAX_PARSED_BYTES)
    assert (file.units, remark.code) == ((), "skipped_part")
    assert "longer than" in remark.detail


def test_work_is_bounded_by_file_and_by_document() -> None:
    budget = Budget(10_100)
    remarks = [
        item.detail.partition(": ")[2]
        for data in (b"a<" * 50_000, b"int f() {}\n" * 2_000, b"int f() {}")
        for item in code_file(data, "a.cpp", budget)
        if isinstance(item, Remark)
    ]
    assert remarks == [
        "it would take too much work to parse",
        "it would take too much work to parse",
        "the files before it took all the work for one document",
    ]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.py", b"(" * 100_000 + b")" * 100_000),
        ("a.js", b"{" * 250_000),
        ("a.js", b"function f(){" * 10_000 + b"}" * 10_000),
        ("a.java", b"class A{" * 10_000 + b"}" * 10_000),
        ("a.c", b"/**/" * 60_000 + b"int f(){}"),
        ("a.rs", b"impl A{" * 16_000 + b"fn f(){}" * 12_000 + b"}" * 16_000),
        ("a.java", b"class " + b"A" * 100_000 + b"{" + b"void f(){}" * 12_000 + b"}"),
        ("a.h", b"\n" * 8_000_000),
    ],
)
def test_deep_and_wide_files_take_little_time_and_give_little(name: str, data: bytes) -> None:
    started = time.process_time()
    file, _ = read(name, data)
    assert time.process_time() - started < 5
    given = sum(len(unit.source) + len(unit.name) + len(unit.signature) for unit in file.units)
    assert given <= 2 * MAX_NESTING * len(data)


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        ("/** One.\n *  - two\n *\n * Three. */", "One.\n - two\n\nThree."),
        ("/* a * b */", "a * b"),
        ("//   indented\n//     more", "indented\n  more"),
        ("## Ruby", "Ruby"),
        ("-- SQL -- twice", "SQL -- twice"),
        ("/***/", ""),
        ("=begin\nText.\n=end", "Text."),
    ],
)
def test_comments_lose_their_marks(comment: str, text: str) -> None:
    assert plain(comment) == text


def test_a_header_is_c_unless_it_cannot_be() -> None:
    found = [language_of("a.h", text) for text in ("int f();", "class A {};", "  template <T>")]
    assert [language.name for language in found if language] == ["c", "cpp", "cpp"]


@settings(max_examples=50)
@given(
    st.sampled_from(sorted(LANGUAGES)),
    st.text(st.sampled_from("{}()<>[];:=,.#/*'\"`$@ \n\tabé\r") | st.characters(), max_size=200),
)
def test_any_text_is_read_and_every_place_is_true(suffix: str, text: str) -> None:
    data = text.encode("utf-8", "replace").replace(b"\0", b"")
    file, _ = read("a" + suffix, data)
    for unit in file.units:
        found = data[unit.place.start : unit.place.end].decode()
        assert unit.source == found.replace("\r\n", "\n").replace("\r", "\n")
