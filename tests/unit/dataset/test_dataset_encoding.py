import codecs
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.readers import encoding as module
from luthier_dataset.readers.encoding import (
    Decoded,
    Encoding,
    Line,
    decode_file,
    encoding_of,
    lines_of,
)
from luthier_dataset.readers.items import Place, Remark, UnreadableDocument

WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


def written(folder: Path, data: bytes) -> Path:
    path = folder / "text"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"", Encoding("utf-8")),
        (b"plain", Encoding("utf-8")),
        ("naïve 😀".encode(), Encoding("utf-8")),
        (codecs.BOM_UTF8 + b"a", Encoding("utf-8", 3)),
        (codecs.BOM_UTF16_LE + "aé".encode("utf-16-le"), Encoding("utf-16-le", 2)),
        (codecs.BOM_UTF16_BE + "aé".encode("utf-16-be"), Encoding("utf-16-be", 2)),
        (codecs.BOM_UTF32_LE + "a".encode("utf-32-le"), Encoding("utf-32-le", 4)),
        (codecs.BOM_UTF32_BE + "a".encode("utf-32-be"), Encoding("utf-32-be", 4)),
        *((f"Hello, {name}".encode(name), Encoding(name, 0, True)) for name in WIDE),
        ("naïve".encode("latin-1"), Encoding("cp1252", 0, True)),
        ("Le café est fermé, à bientôt.".encode("cp1252"), Encoding("cp1252", 0, True)),
        ("Příliš žluťoučký kůň úpěl ódy.".encode("cp1250"), Encoding("cp1250", 0, True)),
        ("Привет, как дела? Хорошая погода.".encode("koi8-r"), Encoding("koi8_r", 0, True)),
        ("今日はいい天気ですね。会議は三時です。".encode("cp932"), Encoding("cp932", 0, True)),
        # UTF-8 with damage stays UTF-8 where sound characters outnumber bad bytes.
        ("Grüße, größer, süß ".encode() + b"\xff", Encoding("utf-8")),
        ("Grüße ".encode() + b"\xed\xa0\x80", Encoding("utf-8")),
        (b"text \xed\xa0\x80 text", Encoding("utf-8")),
    ],
)
def test_the_encoding_is_told(tmp_path: Path, data: bytes, encoding: Encoding) -> None:
    assert encoding_of(written(tmp_path, data)) == encoding


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"text\0text", "not text: byte 5 is NUL"),
        (codecs.BOM_UTF8 + b"a\0", "byte 5 is NUL"),
        (bytes(100), "byte 1 is NUL"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "NUL"),
        (bytes([0x80, 1, 2, 3, 0x81, 4, 5, 0x8D, 6, 0x9D, 14] * 40), "in any encoding"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        encoding_of(written(tmp_path, data))


def test_a_bad_byte_far_inside_is_what_the_guess_looks_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    data = b"plain words. " * 5000 + "Привет, как дела? Хорошая погода.".encode("cp1251")
    assert encoding_of(written(tmp_path, data)) == Encoding("cp1251", 0, True)


def test_damage_is_replaced_counted_and_placed(tmp_path: Path) -> None:
    data = "größer\r\nsüß \ufffd".encode() + b"\xff\xfe!"
    decoded = decode_file(written(tmp_path, data))
    assert decoded.text == "größer\nsüß \ufffd\ufffd\ufffd!"
    detail = "2 bytes or units are no utf-8; each is read as U+FFFD"
    where = Place(line=2, last_line=2, start=19, end=20)
    assert decoded.remarks == (Remark("damaged_text", detail, where),)
    assert data[where.start : where.end] == b"\xff"
    assert decoded.place(13, 14) == Place(line=2, last_line=2, start=20, end=21)


def test_a_guess_is_remarked(tmp_path: Path) -> None:
    decoded = decode_file(written(tmp_path, "naïve".encode("cp1252")))
    assert decoded.text == "naïve"
    detail = "the text is read as cp1252, by its letters"
    assert decoded.remarks == (Remark("guessed_encoding", detail),)


def test_wide_damage_and_nul_are_replaced(tmp_path: Path) -> None:
    data = codecs.BOM_UTF16_LE + "a\0".encode("utf-16-le") + b"\x00\xd8b\x00c"
    path = written(tmp_path, data)
    decoded = decode_file(path)
    assert decoded.text == "a\ufffd\ufffdb\ufffd"
    assert [remark.code for remark in decoded.remarks] == ["damaged_text"]
    assert decoded.remarks[0].place == Place(line=1, last_line=1, start=4, end=6)
    assert decoded.byte(len(decoded.text)) == len(data)
    [line, remark] = lines_of(path, encoding_of(path))
    assert isinstance(line, Line)
    assert (line.text, line.place.end) == (decoded.text, len(data))
    assert isinstance(remark, Remark)


def test_a_file_that_is_too_large_to_be_parsed_whole_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, b"")
    os.truncate(path, module.MAX_WHOLE_BYTES + 1)
    with pytest.raises(UnreadableDocument, match=r"has 33554433 bytes; .* 33554432 at most"):
        decode_file(path)


def test_lines_have_places_that_leave_white_space_out() -> None:
    decoded = Decoded(b"\n  a b  \r\n\r\nc\r", Encoding("utf-8"))
    assert decoded.text == "\n  a b  \n\nc\n"
    assert decoded.lines_place(2, 3) == Place(line=2, last_line=2, start=3, end=6)
    assert decoded.lines_place(4, 9) == Place(line=4, last_line=4, start=12, end=13)
    assert [decoded.line_start(line) for line in (1, 2, 5, 6)] == [0, 1, 12, 12]


def test_a_long_line_comes_in_pieces_of_one_number(tmp_path: Path) -> None:
    word = "wörter "
    data = f"first\r\n{word * 100_000}\r\nlast".encode()
    lines = list(lines_of(written(tmp_path, data), Encoding("utf-8")))
    assert all(isinstance(line, Line) for line in lines)
    numbers = [line.place.line for line in lines if isinstance(line, Line)]
    assert numbers == [1, 2, 2, 2, 3]
    pieces = [line for line in lines if isinstance(line, Line) and line.place.line == 2]
    assert [piece.ends for piece in pieces] == [False, False, True]
    assert "".join(piece.text for piece in pieces) == word * 100_000
    for piece in pieces:
        assert data[piece.place.start : piece.place.end].decode() == piece.text


TEXTS = st.text(st.sampled_from("ab é😀\r\n\t終"), max_size=60)


@settings(max_examples=50)
@given(text=TEXTS, name=st.sampled_from(["utf-8", *WIDE]), mark=st.booleans())
def test_every_place_leads_back_to_the_bytes(text: str, name: str, mark: bool) -> None:
    bom = "\ufeff".encode(name) if mark else b""
    data = bom + text.encode(name)
    decoded = Decoded(data, Encoding(name, len(bom)))
    assert decoded.text == text.replace("\r\n", "\n").replace("\r", "\n")
    for start in range(len(decoded.text) + 1):
        for end in range(start, len(decoded.text) + 1):
            place = decoded.place(start, end)
            found = data[place.start : place.end].decode(name)
            assert found.replace("\r\n", "\n").replace("\r", "\n") == decoded.text[start:end]
            assert place.line == decoded.text.count("\n", 0, start) + 1


@settings(max_examples=50)
@given(text=TEXTS, name=st.sampled_from(["utf-8", *WIDE]), chunk=st.integers(4, 9))
def test_streamed_lines_are_the_lines(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str, chunk: int
) -> None:
    data = text.encode(name)
    path = written(tmp_path_factory.mktemp("lines"), data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        patch.setattr(module, "MAX_LINE", 6)
        lines = [line for line in lines_of(path, Encoding(name)) if isinstance(line, Line)]
    joined = "".join(line.text + "\n" * line.ends for line in lines)
    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    assert joined == wanted + "\n" * (not wanted.endswith("\n") and wanted != "")
    assert all(len(line.text) <= 6 for line in lines)
    for line in lines:
        assert data[line.place.start : line.place.end].decode(name) == line.text


@settings(max_examples=50)
@given(data=st.binary(max_size=20), name=st.sampled_from(module._CANDIDATES))
def test_in_every_guessed_encoding_widths_are_exact(data: bytes, name: str) -> None:
    encoding = Encoding(name)
    assert encoding.width(data.decode(name, encoding.errors)) == len(data)
