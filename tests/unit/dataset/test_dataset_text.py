from pathlib import Path

import pytest
from luthier_dataset.readers import encoding
from luthier_dataset.readers.items import (
    MAX_SECTION_BYTES,
    Block,
    BlockKind,
    Place,
    Remark,
    Section,
    UnreadableDocument,
)
from luthier_dataset.readers.text import read_text


def read(folder: Path, data: bytes) -> list[Section]:
    path = folder / "notes.txt"
    path.write_bytes(data)
    items = list(read_text(path))
    sections = [item for item in items if isinstance(item, Section)]
    assert items == sections
    return sections


def test_plain_text_is_one_section(tmp_path: Path) -> None:
    data = b"One\r\nline.  Two.\r\n \r\n\r\nThree.\n- Four\n# Five\n"
    paragraph = BlockKind.PARAGRAPH
    first = Block(paragraph, "One line. Two.", Place(line=1, last_line=2, start=0, end=16))
    second = Block(paragraph, "Three. - Four # Five", Place(line=5, last_line=7, start=23, end=43))
    assert read(tmp_path, data) == [Section((), (first, second))]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_places_lead_back_to_the_bytes(tmp_path: Path, codec: str, end: str) -> None:
    paragraphs = ["Grüße 😀", f"aus{end}Köln", "終わり"]
    data = (end + (end * 2).join(paragraphs)).encode(codec)
    [section] = read(tmp_path, data)
    assert [block.text for block in section.blocks] == ["Grüße 😀", "aus Köln", "終わり"]
    name = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(codec, codec)
    places = [block.place for block in section.blocks]
    assert [data[place.start : place.end].decode(name) for place in places] == paragraphs
    assert [(place.line, place.last_line) for place in places] == [(2, 2), (4, 5), (7, 7)]


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_text_may_be_empty(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data) == []


def test_a_guess_and_damage_are_remarked(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes("naïve".encode("cp1252"))
    section, remark = read_text(path)
    assert isinstance(section, Section)
    assert section.text == "naïve"
    assert isinstance(remark, Remark)
    assert remark.code == "guessed_encoding"
    path.write_bytes("Größe, süß\n\nnaïve".encode() + b"\xff")
    section, remark = read_text(path)
    assert isinstance(remark, Remark)
    assert (remark.code, remark.place.line) == ("damaged_text", 3)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match="not text: byte 2 is NUL"):
        read(tmp_path, b"a\0")


def test_a_text_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"A fact about it.\n\n" * 50_000)
    sections = read_text(path)
    monkeypatch.setattr(encoding, "_CHUNK", 4096)
    first = next(sections)
    assert isinstance(first, Section)
    assert len(first.text.encode()) <= MAX_SECTION_BYTES + len(first.blocks)
    rest = [section for section in sections if isinstance(section, Section)]
    assert sum(len(section.blocks) for section in [first, *rest]) == 50_000
    assert rest[-1].place.end == 50_000 * 18 - 2


def test_a_line_without_end_comes_in_parts(tmp_path: Path) -> None:
    data = b"word " * 200_000
    sections = read(tmp_path, data)
    text = " ".join(block.text for section in sections for block in section.blocks)
    assert text.split() == ["word"] * 200_000
    for section in sections:
        assert len(section.text.encode()) <= MAX_SECTION_BYTES + len(section.blocks)
        for block in section.blocks:
            assert block.text in data[block.place.start : block.place.end].decode()
