from pathlib import Path

import pytest
from luthier_dataset.readers import html
from luthier_dataset.readers.html import read_html, text_of
from luthier_dataset.readers.items import BlockKind, Remark, Section, UnreadableDocument

PAGE = """\
<!DOCTYPE html>
<html><head><title>Site</title><style>p { color: red }</style>
<script>document.write("<p>not text</p>")</script></head>
<body>
<nav><a href="/">Home</a></nav>
Before any <b>head</b>ing.
<h1>Hand&shy;book</h1>
<h2>Leave &amp; <i>pay</i></h2>
<p>Staff get 24&nbsp;days.<br>Ask early,
  <a href="x">here</a>.
<p>Second.
<ul><li>One<ul><li>Inner</ul><li><p>Two</p></ul>
<table><caption>Grades</caption>
<tr><th>Grade<th>Pay
<tr><td>A<td><ul><li>900</li><li>crowns</li></ul><td></td>
</table>
<pre>def f():
    return <code>1</code> &lt; 2
</pre>
<div hidden>no</div><p style="display: none">no<p aria-hidden="true">no</p><template>no</template>
<select><option>no</select><textarea>no</textarea><!-- no --><svg><text>no</text></svg>
<h3>Old layout</h3>
<table><tr><td>side<td><h3>Deep</h3><p>Prose of a cell.</p>
<table><tr><td>a<td>b</table>after</table>
<dl><dt>Term<dd>Meaning</dl>
"""


def read(folder: Path, data: bytes) -> list[Section]:
    items = items_of(folder, data)
    sections = [item for item in items if isinstance(item, Section)]
    assert items == sections
    return sections


def items_of(folder: Path, data: bytes) -> list[object]:
    path = folder / "page.html"
    path.write_bytes(data)
    return list(read_html(path))


def test_a_page_becomes_sections(tmp_path: Path) -> None:
    sections = read(tmp_path, PAGE.encode())
    assert [(section.heading_path, section.text) for section in sections] == [
        ((), "Before any heading."),
        (
            ("Hand\u00adbook", "Leave & pay"),
            "Staff get 24 days. Ask early, here.\nSecond.\n- One\n- Inner\n- Two\nGrades\n"
            "Grade | Pay\nA | 900 crowns\ndef f():\n    return 1 < 2",
        ),
        (("Hand\u00adbook", "Leave & pay", "Old layout"), "side"),
        (
            ("Hand\u00adbook", "Leave & pay", "Deep"),
            "Prose of a cell.\na | b\nafter\nTerm\nMeaning",
        ),
    ]


def test_blocks_are_placed_in_the_text_read(tmp_path: Path) -> None:
    data = "<p>Größe <h1> Ü </h1><pre>a\n b</pre><li>c<table><tr><td>d<td><td> e"
    sections = read(tmp_path, data.encode())
    blocks = [block for section in sections for block in section.blocks]
    text = "Größe\nÜ\na\n b\nc\nd | e\n".encode()
    places = [block.place for block in blocks]
    assert [text[place.start : place.end].decode() for place in places] == [
        *("Größe", "a\n b", "c", "d | e")
    ]
    assert [block.kind for block in blocks] == [
        *(BlockKind.PARAGRAPH, BlockKind.VERBATIM, BlockKind.BULLET, BlockKind.TABLE_ROW)
    ]


@pytest.mark.parametrize(
    ("data", "text", "remarks"),
    [
        ("<meta charset=windows-1251><p>Привет".encode("cp1251"), "Привет", []),
        (b'<meta content="text/html; charset=ISO-8859-1"><p>\x93na\xefve\x94', "“naïve”", []),
        (b'<?xml version="1.0" encoding="koi8-r"?><p>\xf0\xd2\xc9', "При", []),
        ("<meta charset=x-unknown><p>naïve".encode("cp1252"), "naïve", ["guessed_encoding"]),
        ("<meta charset=koi8-r><p>Größe".encode(), "Größe", []),
        ("<meta charset=utf-8><p>naïve".encode("cp1252"), "na\ufffdve", ["damaged_text"]),
    ],
)
def test_a_declared_encoding_counts_unless_the_bytes_prove_another(
    tmp_path: Path, data: bytes, text: str, remarks: list[str]
) -> None:
    section, *rest = items_of(tmp_path, data)
    assert isinstance(section, Section)
    assert section.text == text
    assert [remark.code for remark in rest if isinstance(remark, Remark)] == remarks


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<p>\0</p>", "byte 4 is NUL"),
        (b"<p>\n" + b"<div>" * 100_000, "line 2: it has more than 2000 nested elements"),
        (b"<div/>" * 100_000, "nested elements"),
        (b"<p " + b"a=1 " * 5_001, "more than 5000 attributes in a tag"),
        (b"<p>" * 1_000_001, "line 1: it has more than 1000000 tags"),
        (b"a" * (html.MAX_BYTES + 1), "it has 16777217 bytes; HTML may have 16777216 at most"),
    ],
)
def test_what_cannot_be_parsed_in_time_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        items_of(tmp_path, data)


@pytest.mark.parametrize(
    "data",
    [
        "<p>a</p>" * 5000,
        "<li>a" * 5000,
        "<br/><img src=x>" * 5000 + "a",
        "<svg><path/><path d='x'/></svg>" * 3000 + "a",
        f"<script>{'if (i<n) ' * 5000}</script>a",
        f"<!-- {'<div>' * 5000} -->a",
        "<div>" * 1900 + "a",
    ],
)
def test_wide_pages_are_not_deep(tmp_path: Path, data: str) -> None:
    assert read(tmp_path, data.encode())[0].blocks[0].text == "a"


def test_the_text_of_a_message_leaves_out_what_is_not_wanted() -> None:
    message = "<p>Yes, <b>please</b>.</p><div class=q>On Monday:<blockquote>Shall I?</div>"
    assert text_of(message) == "Yes, please.\nOn Monday:\nShall I?"
    assert text_of(message, without="blockquote, .q") == "Yes, please."


def test_surrogates_written_as_references_are_no_trouble(tmp_path: Path) -> None:
    assert (
        read(tmp_path, b"<p>&#xd800;&#0;&#x110000;&bogus;")[0].text == "\ufffd\ufffd\ufffd&bogus;"
    )
