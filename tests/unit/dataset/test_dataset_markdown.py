import codecs
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.readers import markdown
from luthier_dataset.readers.items import BlockKind, Remark, Section, UnreadableDocument
from luthier_dataset.readers.markdown import _read, read_markdown

SOURCE = """\
---
title: not text
---
# Policy

Refunds take **52 days**.
See [the *site*](http://x), [the rules][1] &amp; \\*all\\*.

## Rules
- Lock `screens`.
- Keep
  backups.
  1. Daily.

| What | How long |
|------|----------|
| *Keys* | 9 months |

```
code = "is kept. As it is"

  done
```

<div>raw HTML is left out</div>

Setext
======
> Call 5211. ![a phone](x.png)

[1]: http://y
"""


def read(folder: Path, data: bytes) -> list[Section]:
    path = folder / "text.md"
    path.write_bytes(data)
    items = list(read_markdown(path))
    sections = [item for item in items if isinstance(item, Section)]
    assert items == sections
    return sections


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_markdown_becomes_sections_with_their_places(tmp_path: Path, name: str, end: str) -> None:
    data = SOURCE.replace("\n", end).encode(name)
    sections = read(tmp_path, data)
    assert [(section.heading_path, section.text) for section in sections] == [
        (("Policy",), "Refunds take 52 days. See the site, the rules & *all*."),
        (
            ("Policy", "Rules"),
            "- Lock screens.\n- Keep backups.\n- Daily.\nWhat | How long\nKeys | 9 months\n"
            'code = "is kept. As it is"\n\n  done',
        ),
        (("Setext",), "Call 5211. a phone"),
    ]
    codec = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(name, name)
    places = [block.place for section in sections for block in section.blocks]
    written = [data[place.start : place.end].decode(codec).replace(end, "\n") for place in places]
    assert written == [
        "Refunds take **52 days**.\nSee [the *site*](http://x), [the rules][1] &amp; \\*all\\*.",
        "- Lock `screens`.",
        "- Keep\n  backups.",
        "1. Daily.",
        "| What | How long |",
        "| *Keys* | 9 months |",
        '```\ncode = "is kept. As it is"\n\n  done\n```',
        "> Call 5211. ![a phone](x.png)",
    ]
    lines = [(place.line, place.last_line) for place in places]
    assert lines == [(6, 7), (10, 10), (11, 12), (13, 13), (15, 15), (17, 17), (19, 23), (29, 29)]


def test_blocks_keep_what_they_are(tmp_path: Path) -> None:
    kinds = [block.kind for section in read(tmp_path, SOURCE.encode()) for block in section.blocks]
    paragraph, bullet, row = BlockKind.PARAGRAPH, BlockKind.BULLET, BlockKind.TABLE_ROW
    verbatim = [BlockKind.VERBATIM]
    assert kinds == [paragraph, *[bullet] * 3, *[row] * 2, *verbatim, paragraph]


@pytest.mark.parametrize("data", [b"", b" \n\n# \n", codecs.BOM_UTF8, b"<p>only</p>"])
def test_a_document_may_have_no_text(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data) == []


def test_a_long_paragraph_keeps_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "_MAX_INLINE", 10)
    [section] = read(tmp_path, b"*abcdef*\n\n*abcdefghi*")
    assert section.text == "abcdef\n*abcdefghi*"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a\0b", "not text"),
        (b"a\n\n```\n" + b"\n" * 200_000, "line 3: .* more than 200000 lines"),
        (b"a\n\n" + b"[" * 500_001, "line 3: .* more than 500000 marks"),
        (b"a\n\n|a|b|\n|-|-|\n" + b"|" * 500_001, "line 3: .* more than 500000 marks"),
        (b"# a\n" + b"a" * (8 * 1024 * 1024 + 1), "line 2: .* more than 8388608 characters"),
        (b"a\n\n" + (b"a" * 99_999 + b"\n") * 84, "line 3: .* more than 8388608 characters"),
    ],
)
def test_what_cannot_be_parsed_in_time_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read(tmp_path, data)


def test_a_document_may_be_larger_than_its_blocks(tmp_path: Path) -> None:
    part = b"# Head %d\n\nSee [it][late].\n\n" + b"text " * 40_000 + b"\n\n"
    data = b"".join(part % number for number in range(50)) + b"[late]: /x\n"
    assert len(data) > markdown.MAX_CHARACTERS
    sections = read(tmp_path, data)
    assert list(dict.fromkeys(section.heading_path for section in sections)) == [
        (f"Head {number}",) for number in range(50)
    ]
    seen = [block for section in sections for block in section.blocks if "See" in block.text]
    assert {block.text for block in seen} == {"See it."}
    assert {data[block.place.start : block.place.end] for block in seen} == {b"See [it][late]."}
    assert seen[-1].place.line == 49 * 6 + 3


LINES = [
    *("", "", "", "# Head", "## *Two* ##", "text", "text [a] and [b][c]", "===", "---", "- | -"),
    *("- item", "  - nested", "    deep", "\tcode", "1. one", "17) x", "-", "> quote", "> - [b]"),
    *("```", "~~~", "- ```", "<!-- open", "-->", "<div>", "<pre>", "</pre>", "| a | [b] |"),
    *("|---|---|", "[a]: /u", "> [b]: /u", '- [c]: /u "title', "title", 'title"', 'title" more'),
]
"""Lines that mean something else in another place."""


@settings(max_examples=50)
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=40),
    front_matter=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    parts=st.sampled_from([1 << 16, 1 << 18, 1 << 23]),
)
def test_segments_make_no_difference(
    lines: list[str], front_matter: bool, end: str, parts: int
) -> None:
    text = end.join([*(["---", "a: b", "---"] if front_matter else []), *lines])
    with NamedTemporaryFile() as file:
        Path(file.name).write_bytes(text.encode())
        assert list(_read(Path(file.name), parts)) == list(_read(Path(file.name), 1))


@pytest.mark.parametrize(
    "text",
    [
        "-\n- | -\n|---|---|\n| a | b |\n",
        "[a]: /u\n'title\ntext\nend'\n\n[a]",
        "> [a]: /u\n'title\ntext\nend'\n\n[a]",
        "[a] [b]\n\n<!--\n\n[a]: /u\n\n-->\n\n```\n\n[b]: /u\n\n```\n",
        "- a\n\n  ```\n  # no heading\n\n  ```\n- b\n\n      code\n\n    text\n",
    ],
)
@pytest.mark.parametrize("parts", [1 << 16, 1 << 23])
def test_blocks_that_depend_on_what_stands_around_them(
    tmp_path: Path, text: str, parts: int
) -> None:
    path = tmp_path / "text.md"
    path.write_text(text)
    assert list(_read(path, parts)) == list(_read(path, 1))


def test_damage_is_remarked_after_the_text(tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    path.write_bytes("# Größe, süß\nä".encode() + b"\xff\n")
    section, remark = read_markdown(path)
    assert isinstance(section, Section)
    assert section.heading_path == ("Größe, süß",)
    assert [block.text for block in section.blocks] == ["ä\ufffd"]
    assert isinstance(remark, Remark)
    assert (remark.code, remark.place.line) == ("damaged_text", 2)


@pytest.mark.parametrize("mark", ["> ", "- ", "1. ", ">", "> - "])
def test_deep_nesting_is_refused(tmp_path: Path, mark: str) -> None:
    [section] = read(tmp_path, f"before\n\n{mark * 9}deep\n\nafter".encode())
    assert [block.text for block in section.blocks] == ["before", "deep", "after"]
    with pytest.raises(UnreadableDocument, match="line 3: lists or quotes nest too deep"):
        read(tmp_path, f"before\n\n{mark * 50_000}deep\n\nafter".encode())
