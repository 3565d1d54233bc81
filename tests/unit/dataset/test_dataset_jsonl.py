import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luthier_dataset.readers.items import Place, Record, Remark, UnreadableDocument, dump, load
from luthier_dataset.readers.json_document import MAX_BYTES, read_json
from luthier_dataset.readers.jsonl import MAX_DEPTH, read_jsonl
from luthier_dataset.rows import MAX_LINE_BYTES


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def written(tmp_path: Path, data: bytes, name: str = "a.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_each_line_is_a_record_at_its_place(tmp_path: Path) -> None:
    data = '\ufeff{"q": "Größe?", "n": [1, null]}\r\n\n  {"q": "\\u00e4"} \n{"q": 2}'.encode()
    records = list(read_jsonl(written(tmp_path, data)))
    assert [record.fields for record in records if isinstance(record, Record)] == [
        {"q": "Größe?", "n": [1, None]},
        {"q": "ä"},
        {"q": 2},
    ]
    places = [record.place for record in records]
    assert [place.line for place in places] == [1, 3, 4]
    assert [data[place.start : place.end] for place in places] == [
        '{"q": "Größe?", "n": [1, null]}'.encode(), b'{"q": "\\u00e4"}', b'{"q": 2}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"{'q': 1}", "line 2 is not valid JSON (Expecting property name"),
        (b'{"q": "\xff"}', "line 2 is not UTF-8 text (byte 8 of the line)"),
        (b"[1]", "line 2 is not a JSON object"),
        (b"[" * 100_000, "line 2 is not valid JSON"),
        (b'{"q": ' + b"1" * 5_000 + b"}", "line 2 is not valid JSON (a number or a nesting"),
        (nested(MAX_DEPTH + 1), "line 2 is nested more than 100 levels deep"),
        (b'{"q": 1}' + b" " * MAX_LINE_BYTES, "line 2 is longer than 4194304 bytes"),
        (b"\0", "line 2 is not valid JSON"),
    ],
)
def test_a_bad_line_is_remarked_and_the_others_are_read(
    tmp_path: Path, bad: bytes, why: str
) -> None:
    data = b'{"q": 1}\n' + bad + b'\n{"q": 2}\n'
    one, remark, two = read_jsonl(written(tmp_path, data))
    assert isinstance(one, Record)
    assert isinstance(two, Record)
    assert (one.fields, two.fields) == ({"q": 1}, {"q": 2})
    assert two.place == Place(line=3, last_line=3, start=10 + len(bad), end=18 + len(bad))
    assert isinstance(remark, Remark)
    assert remark.code == "malformed_row"
    assert remark.detail.startswith(why)
    assert data[remark.place.start : remark.place.end].strip() == bad.strip()


def test_what_parsers_disagree_about_is_taken_as_python_takes_it(tmp_path: Path) -> None:
    data = (
        rb'{"a": 1, "a": 2, "s": "\ud800\ud83d\ude00\\ud800", "n": NaN}' + b"\n" + nested(MAX_DEPTH)
    )
    odd, deep = (load(dump(item)) for item in read_jsonl(written(tmp_path, data)))
    assert isinstance(odd, Record)
    assert odd.fields == {"a": 2, "s": "\ufffd\U0001f600\\ud800", "n": None}
    assert isinstance(deep, Record)
    assert json.dumps(deep.fields).count("[") == MAX_DEPTH - 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b"one\ntwo\n", "no line of it is a JSON object: line 1 is not valid JSON"),
        ('{"q": 1}'.encode("utf-16"), "no line of it is a JSON object: line 1 is not UTF-8"),
    ],
)
def test_a_file_without_a_good_line_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        list(read_jsonl(written(tmp_path, data)))


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_objects = st.lists(st.dictionaries(st.text(), _values, max_size=3), min_size=1, max_size=4)


@settings(max_examples=50)
@given(_objects, st.booleans())
def test_every_object_comes_back_from_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, objects: list[dict[str, object]], ascii_only: bool
) -> None:
    texts = [json.dumps(one, ensure_ascii=ascii_only).encode() for one in objects]
    folder = tmp_path_factory.mktemp("json")
    for data, read in (
        (b"\n".join(texts), read_jsonl),
        (b"[" + b" ,\n".join(texts) + b"]", read_json),
    ):
        records = [item for item in read(written(folder, data)) if isinstance(item, Record)]
        assert [record.fields for record in records] == objects
        assert [data[one.place.start : one.place.end] for one in records] == texts
        assert [one.place.line for one in records] == list(range(1, len(objects) + 1))


def test_arrays_of_objects_are_tables_under_their_keys(tmp_path: Path) -> None:
    data = b"""\xef\xbb\xbf {"version": 2, "tags": ["x"], "[{}]": "[{}]",
    "data": {"rows": [ {"q": 1},
      7, {"q": {"a": [{"deep": 1}]}} ], "more": [{"r": 3}]},
    "data.rows": [{"q": "last"}]}
    """
    items = list(read_json(written(tmp_path, data, "a.json")))
    records = [item for item in items if isinstance(item, Record)]
    assert [(record.heading_path, record.fields) for record in records] == [
        (("data", "rows"), {"q": 1}),
        (("data", "rows"), {"q": {"a": [{"deep": 1}]}}),
        (("data", "more"), {"r": 3}),
        (("data.rows",), {"q": "last"}),
    ]
    assert [data[one.place.start : one.place.end] for one in records] == [
        b'{"q": 1}', b'{"q": {"a": [{"deep": 1}]}}', b'{"r": 3}', b'{"q": "last"}',
    ]  # fmt: skip
    assert [record.place.line for record in records] == [2, 3, 3, 4]
    remarks = [item for item in items if isinstance(item, Remark)]
    assert [(one.code, one.detail) for one in remarks] == [
        ("malformed_row", "element 2 of data.rows is not a JSON object")
    ]
    assert data[remarks[0].place.start : remarks[0].place.end] == b"7"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is not valid JSON in UTF-8"),
        (b"\xef\xbb\xbf", "it is not valid JSON in UTF-8"),
        (b'[{"a": 1}, {"a": 2]', r"it is not valid JSON in UTF-8 \(.*byte 18"),
        (b'{"a": 1', "it is not valid JSON in UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "its values are nested too deep"),
        (b'{"a":' * 100_000, "its values are nested too deep"),
        (b'{"a": [{"b": 1}], "a": [{"b": 2}]}', "an object of it, at byte 1, has the same key tw"),
        (b'{"a": [{"b": 1}, 7], "a": 1}', "an object of it, at byte 1, has the same key twice"),
        (b'{"x": {"a": 1, "a": [{"b": 1}]}}', "an object of it, at byte 7, has the same key twi"),
        (b'{"a": [1, 2], "b": {"c": "x"}}', "it holds no array of objects"),
        (b'"text"', "it holds no array of objects"),
        (b"[]", "it holds no array of objects"),
        (b'{"\xff": [{"b": 1}]}', "it is not valid JSON in UTF-8"),
        ('[{"a": 1}]'.encode("utf-16"), "it is not valid JSON in UTF-8"),
    ],
)
def test_a_document_without_a_table_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        list(read_json(written(tmp_path, data, "a.json")))


def test_a_bad_element_is_remarked(tmp_path: Path) -> None:
    data = (
        b'[{"a": "\xff"}, {"a": "\\ud83d\\ude00 \\\\ud800 \\ud800"}, '
        + nested(MAX_DEPTH + 1)
        + b', {"a": 1}]'
    )
    bad, surrogate, deep, good = read_json(written(tmp_path, data, "a.json"))
    assert isinstance(bad, Remark)
    assert bad.detail.startswith("element 1 of the array is not UTF-8 text")
    assert isinstance(surrogate, Record)
    assert surrogate.fields == {"a": "\U0001f600 \\ud800 \ufffd"}
    assert isinstance(deep, Remark)
    assert deep.detail == "element 3 of the array is nested more than 100 levels deep"
    assert isinstance(good, Record)


def test_a_document_too_large_to_hold_is_refused_unread(tmp_path: Path) -> None:
    path = written(tmp_path, b"", "a.json")
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UnreadableDocument, match="it has 134217729 bytes; a JSON document may"):
        list(read_json(path))
