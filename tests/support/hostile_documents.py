"""Hostile and broken PDF, DOCX and PPTX documents, by what is wrong with them.

They are small: what they claim or unpack to is not.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping

import docx
from pptx import Presentation
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

MEGABYTE = 1024 * 1024
TEXT = b"BT /F 12 Tf 72 700 Td (A readable line.) Tj ET"
CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
PAGES = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
PAGE = (
    b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R"
    b"/Resources<</Font<</F 5 0 R>>/XObject<</X 6 0 R>>>>>>"
)
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """Return a PDF stream object."""
    return b"<</Length %d%s>>\nstream\n%s\nendstream" % (len(data), entries, data)


def flate(data: bytes, times: int = 1) -> bytes:
    """Return a PDF stream object, deflated so many times over."""
    for _ in range(times):
        data = zlib.compress(data)
    return stream(data, b"/Filter[%s]" % (b"/FlateDecode" * times))


def pdf(objects: Mapping[int, bytes] | None = None, trailer: bytes = b"") -> bytes:
    """Return a PDF of one page with a readable line, some of its objects replaced or added."""
    plain = {1: CATALOG, 2: PAGES, 3: PAGE, 4: stream(TEXT), 5: FONT}
    given = {**plain, **(objects or {})}
    data = bytearray(b"%PDF-1.7\n")
    offsets = {}
    for number, body in sorted(given.items()):
        offsets[number] = len(data)
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start, size = len(data), max(given) + 1
    data += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        data += b"%010d 00000 %c \n" % (offsets.get(number, 0), b"n" if number in offsets else b"f")
    data += b"trailer\n<</Size %d/Root 1 0 R%s>>\n" % (size, trailer)
    return bytes(data) + b"startxref\n%d\n%%%%EOF\n" % start


def encrypted_pdf(user: str, owner: str) -> bytes:
    """Return a PDF that opens with these passwords; an empty user password opens by itself."""
    data = io.BytesIO()
    canvas = Canvas(data, encrypt=StandardEncryption(user, ownerPassword=owner, canPrint=0))
    canvas.drawString(72, 700, "A readable line.")
    canvas.save()
    return data.getvalue()


def mapped_pdf(codes: bytes, shown: bytes) -> bytes:
    """Return a PDF whose font maps codes to text by these lines of a CMap."""
    cmap = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def\n"
        b"1 begincodespacerange <00> <FF> endcodespacerange\n" + codes + b"\nendcmap end end"
    )
    return pdf(
        {
            4: stream(b"BT /F 12 Tf 72 700 Td (%s) Tj ET" % shown),
            5: FONT[:-2] + b"/ToUnicode 7 0 R>>",
            7: stream(cmap),
        }
    )


def _page_tree(depth: int) -> dict[int, bytes]:
    nodes = {
        number: b"<</Type/Pages/Kids[%d 0 R]/Count 1/Parent %d 0 R>>" % (number + 1, number - 1)
        for number in range(10, 10 + depth)
    }
    last = 9 + depth
    nodes[last] = b"<</Type/Pages/Kids[3 0 R]/Count 1/Parent %d 0 R>>" % (last - 1)
    return {2: b"<</Type/Pages/Kids[10 0 R]/Count 1>>", **nodes}


def _bookmarks(first: bytes, second: bytes) -> dict[int, bytes]:
    return {
        1: b"<</Type/Catalog/Pages 2 0 R/Outlines 7 0 R>>",
        7: b"<</First 8 0 R/Last 9 0 R/Count 2>>",
        8: b"<</Title(One)/Parent 7 0 R/Dest[3 0 R /Fit]%s>>" % first,
        9: b"<</Title(Two)/Parent 7 0 R/Dest[3 0 R /Fit]%s>>" % second,
    }


def _font_file(data: bytes) -> dict[int, bytes]:
    descriptor = b"<</Type/FontDescriptor/FontName/A/Flags 32/FontFile2 8 0 R>>"
    font = b"<</Type/Font/Subtype/TrueType/BaseFont/A/FontDescriptor 7 0 R>>"
    return {5: font, 7: descriptor, 8: data}


def hostile_pdfs() -> dict[str, bytes]:
    """Return PDF documents that break rules, loop or claim too much."""
    whole = pdf()
    image = b"/Type/XObject/Subtype/Image/Width 2/Height 2/ColorSpace/DeviceGray/BitsPerComponent 8"
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources<</XObject<</X 6 0 R>>>>"
    draw = stream(b"/X Do " + TEXT)
    text_at = b"BT /F 12 Tf 1 0 0 1 %s %s Tm (A readable line.) Tj ET"
    return {
        "empty": b"",
        "header only": b"%PDF-1.7\n",
        "text under a false name": b"# Markdown\n\nunder a false name",
        "noise behind the header": b"%PDF-1.7\n" + bytes(range(256)) * 200,
        "cut in its objects": whole[: whole.index(b"4 0 obj")],
        "cut before its index": whole[: whole.index(b"xref")],
        "wrong offset of the index": re.sub(rb"startxref\n\d+", b"startxref\n99999999", whole),
        "huge index": pdf(trailer=b"/Size 2147483647"),
        "index that precedes itself": pdf(trailer=b"/Prev %d" % whole.index(b"xref")),
        "user password": encrypted_pdf("open sesame", "owner"),
        "owner password": encrypted_pdf("", "owner"),
        "unknown encryption": pdf(trailer=b"/Encrypt<</Filter/Mine/V 9/R 9>>/ID[<00><00>]"),
        "page tree that is its own child": pdf({2: b"<</Type/Pages/Kids[2 0 R]/Count 1>>"}),
        "page tree with a loop": pdf(
            {2: b"<</Type/Pages/Kids[7 0 R 3 0 R]/Count 2>>", 7: PAGES.replace(b"3 0 R", b"2 0 R")}
        ),
        "page tree 20,000 deep": pdf(_page_tree(20_000)),
        "100,000 pages claimed": pdf({2: PAGES.replace(b"Count 1", b"Count 100000")}),
        "negative page count": pdf({2: PAGES.replace(b"Count 1", b"Count -5")}),
        "one page 3,000 times": pdf(
            {2: b"<</Type/Pages/Kids[%s]/Count 3000>>" % (b"3 0 R " * 3000)}
        ),
        "bookmarks in a circle": pdf(_bookmarks(b"/Next 9 0 R", b"/Next 8 0 R")),
        "bookmark inside itself": pdf(_bookmarks(b"/First 8 0 R/Last 8 0 R", b"/First 7 0 R")),
        "content of 100 MB": pdf({4: flate(b" " * (100 * MEGABYTE))}),
        "content deflated three times": pdf({4: flate(b" " * (100 * MEGABYTE), 3)}),
        "filter that repeats": pdf({4: stream(TEXT, b"/Filter[%s]" % (b"/FlateDecode" * 5000))}),
        "a million operators": pdf({4: flate(b"q q q n n " * 200_000)}),
        "a hundred thousand letters": pdf({4: flate(TEXT * 6000)}),
        "content nested deep": pdf({4: flate(b"[" * 1_000_000 + TEXT)}),
        "form that draws itself": pdf({4: draw, 6: stream(b"/X Do", form)}),
        "dictionaries nested deep": pdf({7: b"<</A" * 50_000 + b">>" * 50_000}),
        "font of 100 MB": pdf(_font_file(flate(bytes(100 * MEGABYTE)))),
        "font of noise": pdf(_font_file(flate(b"\0\1\0\0" + bytes(range(256)) * 100))),
        "font map of 5 million lines": pdf(
            {5: FONT[:-2] + b"/ToUnicode 7 0 R>>", 7: flate(b"<41> <5A> <0041>\n" * 5_000_000)}
        ),
        "missing font": pdf({5: b"null"}),
        "type of no size": pdf({4: stream(TEXT.replace(b"12 Tf", b"0 Tf"))}),
        "type of vast size": pdf({4: stream(TEXT.replace(b"12 Tf", b"9" * 60 + b" Tf"))}),
        "text beyond numbers": pdf({4: stream(text_at % (b"9" * 50, b"-" + b"9" * 50))}),
        "page without bounds": pdf({3: PAGE.replace(b"[0 0 600 800]", b"[0 0 1e38 nan]")}),
        "controls in the text": mapped_pdf(
            b"4 beginbfchar <42> <0000> <43> <D800> <44> <0001> <46> <001B> endbfchar",
            b"A readaBle Cine. DF",
        ),
        "scanned page": pdf({4: stream(b"600 0 0 800 0 0 cm /X Do"), 6: stream(b"abcd", image)}),
        "no text": pdf({4: stream(b"0 0 m 100 100 l S")}),
        "content is missing": pdf({4: b"null"}),
    }


def repacked(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """Return an Office document whose parts were changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    return packed(parts)


def packed(parts: Mapping[str, bytes]) -> bytes:
    """Return a ZIP archive of these parts."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target.getvalue()


def with_part(data: bytes, name: str, content: bytes | None) -> bytes:
    """Return an Office document with one part replaced, added, or (None) taken away."""

    def change(parts: dict[str, bytes]) -> None:
        if content is None:
            del parts[name]
        else:
            parts[name] = content

    return repacked(data, change)


def edited(data: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """Return an Office document with the first such bytes of one part replaced."""

    def change(parts: dict[str, bytes]) -> None:
        assert old in parts[name], f"{old!r} is not in {name}"
        parts[name] = parts[name].replace(old, new, 1)

    return repacked(data, change)


def word_document() -> bytes:
    """Return a small Word document: a heading, a paragraph, a table."""
    document = docx.Document()
    document.add_heading("Heading", 1)
    document.add_paragraph("A readable line.")
    document.add_table(1, 2).cell(0, 0).text = "Cell"
    return _saved(document)


def presentation() -> bytes:
    """Return a presentation of one slide with a title and a line."""
    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Heading"
    slide.placeholders[1].text = "A readable line."
    return _saved(deck)


def _saved(document: object) -> bytes:
    data = io.BytesIO()
    document.save(data)  # type: ignore[attr-defined]
    return data.getvalue()


BILLION_LAUGHS = b"<!DOCTYPE a [<!ENTITY l0 'lol'>%s]>" % b"".join(
    b"<!ENTITY l%d '%s'>" % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 12)
)
EXTERNAL_ENTITY = b"<!DOCTYPE a [<!ENTITY l11 SYSTEM 'file:///etc/hostname'>]>"
EXTERNAL_DTD = b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/evil.dtd'>"
PARAMETER_ENTITY = b"<!DOCTYPE a [<!ENTITY % p SYSTEM 'file:///etc/hostname'> %p;]>"


def with_doctype(data: bytes, part: str, doctype: bytes, text: bytes) -> bytes:
    """Return an Office document whose part declares a document type; an entity precedes `text`."""

    def change(parts: dict[str, bytes]) -> None:
        _, mark, rest = parts[part].partition(b"?>")
        if b"ENTITY l11" in doctype:
            assert text in rest
            rest = rest.replace(text, b"&l11;" + text, 1)
        parts[part] = b"<?xml version='1.0'" + mark + doctype + rest

    return repacked(data, change)


def _flagged(data: bytes, offset: int, central: int, value: bytes) -> bytes:
    """Return an archive with a field of its first member's two headers overwritten."""
    changed = bytearray(data)
    for signature, at in ((b"PK\3\4", offset), (b"PK\1\2", central)):
        start = data.index(signature) + at
        changed[start : start + len(value)] = value
    return bytes(changed)


def _archives(whole: bytes, part: str, line: bytes) -> dict[str, bytes]:
    """Return what goes wrong with every Office document, shown on one whose main part is `part`."""
    return {
        "empty": b"",
        "text under a false name": b"# Markdown under a false name",
        "cut": whole[:-100],
        "another archive": packed({"hello.txt": b"hi"}),
        "compound file": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4096),
        "encrypted part": _flagged(whole, 6, 8, b"\1\0"),
        "unknown compression": _flagged(whole, 8, 10, struct.pack("<H", 77)),
        "wrong checksum": _flagged(whole, 14, 16, b"\0\0\0\0"),
        "main part of 300 MB": _claiming(whole, part, 300 * MEGABYTE),
        "main part of 60 MB": with_part(whole, part, b"<a>" + b" " * (60 * MEGABYTE) + b"</a>"),
        "20,000 parts": repacked(
            whole, lambda parts: parts.update({f"x/{n}.bin": b"" for n in range(20_000)})
        ),
        "part larger than it says": _claiming(with_part(whole, part, b" " * MEGABYTE), part, 10),
        "broken XML": with_part(whole, part, b"<w:document>"),
        "NUL in XML": edited(whole, part, line, b"A \0 line."),
        "no content types": with_part(whole, "[Content_Types].xml", None),
        "entities": with_doctype(whole, part, BILLION_LAUGHS, line),
        "external entity": with_doctype(whole, part, EXTERNAL_ENTITY, line),
        "external DTD": with_doctype(whole, part, EXTERNAL_DTD, line),
        "parameter entity": with_doctype(whole, part, PARAMETER_ENTITY, line),
        "way out of the folder": with_part(whole, "../../../tmp/luthier-was-here", b"x"),
    }


def _claiming(data: bytes, part: str, size: int) -> bytes:
    """Return an archive whose directory gives one part another size."""
    changed = bytearray(data)
    at = changed.rindex(part.encode()) - 46
    changed[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(changed)


_W = "word/document.xml"
_REL = (
    b'<Relationship Id="rId99" TargetMode="External" Target="%s" Type="'
    b'http://schemas.openxmlformats.org/officeDocument/2006/relationships/%s"/></Relationships>'
)


def hostile_word_documents() -> dict[str, bytes]:
    """Return Word documents that break rules, loop or claim too much."""
    whole = word_document()
    rels = "word/_rels/document.xml.rels"
    end = b"</Relationships>"
    nested = b"<w:tbl><w:tr><w:tc>" * 5000 + b"</w:tc></w:tr></w:tbl>" * 5000
    circle = b'<w:name w:val="Normal"/><w:basedOn w:val="Normal"/>'
    return {
        **_archives(whole, _W, b"A readable line."),
        "tables nested 5,000 deep": edited(whole, _W, b"<w:sectPr", nested + b"<w:sectPr"),
        "styles in a circle": edited(whole, "word/styles.xml", b'<w:name w:val="Normal"/>', circle),
        "cell of a billion columns": edited(
            whole, _W, b"<w:tcPr>", b'<w:tcPr><w:gridSpan w:val="1000000000"/>'
        ),
        "missing styles": with_part(whole, "word/styles.xml", None),
        "broken relationships": with_part(whole, rels, b"<Relationships>"),
        "external template": edited(
            whole, rels, end, _REL % (b"http://127.0.0.1:9/t.dotm", b"attachedTemplate")
        ),
        "external notes": edited(whole, rels, end, _REL % (b"file:///etc/hostname", b"footnotes")),
    }


_SLIDE = "ppt/slides/slide1.xml"


def hostile_presentations() -> dict[str, bytes]:
    """Return presentations that break rules, loop or claim too much."""
    whole = presentation()
    group = b"<p:grpSp><p:nvGrpSpPr/><p:grpSpPr/>"
    nested = group * 5000 + b"</p:grpSp>" * 5000 + b"</p:spTree>"
    return {
        **_archives(whole, "ppt/presentation.xml", b"<p:sldIdLst>"),
        "entities in a slide": with_doctype(whole, _SLIDE, BILLION_LAUGHS, b"A readable line."),
        "external entity in a slide": with_doctype(
            whole, _SLIDE, EXTERNAL_ENTITY, b"A readable line."
        ),
        "broken slide": with_part(whole, _SLIDE, b"<p:sld>"),
        "missing slide": with_part(whole, _SLIDE, None),
        "groups nested 5,000 deep": edited(whole, _SLIDE, b"</p:spTree>", nested),
        "external picture": edited(
            whole,
            "ppt/slides/_rels/slide1.xml.rels",
            b"</Relationships>",
            _REL % (b"http://127.0.0.1:9/p.png", b"image"),
        ),
    }
