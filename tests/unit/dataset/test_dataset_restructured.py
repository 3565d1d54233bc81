from pathlib import Path

import pytest
from luthier_dataset.readers.items import BlockKind, Remark, Section, UnreadableDocument
from luthier_dataset.readers.restructured import read_restructured

SOURCE = """\
======
Policy
======

Refunds take *52 days*. See ``the`` site [1]_,
:ref:`the rules <rules>` and |product|.

Rules
-----

- Lock screens.
- Keep
  backups.

  1. Daily.

Term
  Meaning.

+-------+------------+
| What  | How long   |
+=======+============+
| Keys  | nine       |
|       | months     |
+-------+------------+

.. note:: Be careful
   with keys.

.. code-block:: python

   def f():
       return 1

Example::

    a = 1
      b

| Roses are red,
| violets blue.

.. csv-table:: Grades
   :header: Grade, Pay

   A, 900

.. |product| replace:: Acme *One*
.. a comment
.. [1] A footnote.

Contacts
--------
Call 5211.
"""


def items_of(folder: Path, data: bytes) -> list[object]:
    path = folder / "text.rst"
    path.write_bytes(data)
    return list(read_restructured(path))


def read(folder: Path, data: bytes) -> list[Section]:
    items = items_of(folder, data)
    sections = [item for item in items if isinstance(item, Section)]
    assert items == sections
    return sections


@pytest.mark.parametrize("name", ["utf-8", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_document_becomes_sections_with_their_places(tmp_path: Path, name: str, end: str) -> None:
    data = SOURCE.replace("\n", end).encode(name)
    sections = read(tmp_path, data)
    assert [(section.heading_path, section.text) for section in sections] == [
        (("Policy",), "Refunds take 52 days. See the site , the rules and Acme One."),
        (
            ("Policy", "Rules"),
            "- Lock screens.\n- Keep backups.\n- Daily.\nTerm\nMeaning.\n"
            "What | How long\nKeys | nine months\nBe careful with keys.\n"
            "def f():\n    return 1\nExample:\na = 1\n  b\nRoses are red,\nviolets blue.\n"
            "Grades\nGrade | Pay\nA | 900\nA footnote.",
        ),
        (("Policy", "Contacts"), "Call 5211."),
    ]
    codec = {"utf-16": "utf-16-le"}.get(name, name)
    places = [block.place for section in sections for block in section.blocks]
    written = [data[place.start : place.end].decode(codec).replace(end, "\n") for place in places]
    assert written == [
        "Refunds take *52 days*. See ``the`` site [1]_,\n:ref:`the rules <rules>` and |product|.",
        "Lock screens.",
        "Keep\n  backups.",
        "Daily.",
        "Term",
        "Meaning.",
        "What  | How long",
        "Keys  | nine       |\n|       | months",
        "Be careful\n   with keys.",
        "def f():\n       return 1",
        "Example::",
        "a = 1\n      b",
        "Roses are red,\n| violets blue.",
        "Grades",
        "Grade, Pay",
        "A, 900",
        "A footnote.",
        "Call 5211.",
    ]
    lines = SOURCE.split("\n")
    for place, text in zip(places, written, strict=True):
        assert text.split("\n")[0] in lines[place.line - 1]
        assert text.split("\n")[-1] in lines[place.last_line - 1]


def test_blocks_keep_what_they_are(tmp_path: Path) -> None:
    blocks = [block for section in read(tmp_path, SOURCE.encode()) for block in section.blocks]
    kinds = {block.text.split()[0]: block.kind for block in blocks}
    assert kinds["Refunds"] == BlockKind.PARAGRAPH
    assert kinds["Daily."] == BlockKind.BULLET
    assert kinds["Keys"] == BlockKind.TABLE_ROW
    assert kinds["def"] == kinds["Roses"] == kinds["a"] == BlockKind.VERBATIM


@pytest.mark.parametrize(
    "directive",
    [
        ".. include:: {secret}",
        ".. literalinclude:: {secret}",
        ".. raw:: html\n   :file: {secret}",
        ".. raw:: html\n\n   <b>secret</b>",
        ".. csv-table::\n   :file: {secret}",
        ".. csv-table::\n   :url: file://{secret}",
        ".. code:: python\n   :file: {secret}",
        ".. figure:: {secret}\n   :figwidth: image",
        ".. automodule:: os",
    ],
)
def test_no_directive_reads_a_file(tmp_path: Path, directive: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    data = f"Before.\n\n{directive.format(secret=secret)}\n\nAfter.\n".encode()
    items = items_of(tmp_path, data)
    texts = [item.text for item in items if isinstance(item, Section)]
    assert texts == ["Before.\nAfter."]


def test_what_is_left_out_is_remarked(tmp_path: Path) -> None:
    data = b"Before.\n\n.. toctree::\n\n   a\n\n.. include:: x\n"
    _, remark = items_of(tmp_path, data)
    assert isinstance(remark, Remark)
    assert (remark.code, remark.place.line) == ("skipped_part", 3)
    assert remark.detail == (
        'parts left out: 2, the first in line 3: Unknown directive type "toctree".'
    )


def test_the_day_of_reading_is_not_in_the_text(tmp_path: Path) -> None:
    items = items_of(tmp_path, b"On |today| it is.\n\n.. |today| date:: %Y\n")
    assert isinstance(items[0], Section)
    assert items[0].text == "On today it is."


def test_nested_substitutions_are_not_carried_out(tmp_path: Path) -> None:
    bomb = "|a0|\n\n.. |a0| replace:: x\n"
    bomb += "".join(f".. |a{n}| replace:: {f'|a{n - 1}| ' * 10}\n" for n in range(1, 40))
    assert read(tmp_path, bomb.encode())[0].text == "x"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a\0", "byte 2 is NUL"),
        (b"a\n" + b"b" * 10_001, "line 2 has more than 10000 characters"),
        (b"- " * 3000 + b"x", "lists or quotes nest too deep"),
        (b"a" * (2 * 1024 * 1024 + 1), "it has 2097153 bytes; .* 2097152 at most"),
    ],
)
def test_what_cannot_be_parsed_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        items_of(tmp_path, data)
