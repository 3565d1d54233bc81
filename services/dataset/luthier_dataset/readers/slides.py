"""Reads PowerPoint presentations (PPTX).

A block's page is the number of its slide. The notes follow the slide's own text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pptx import Presentation
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.oxml.ns import qn

from luthier_dataset.readers.items import Item, UnreadableDocument
from luthier_dataset.readers.office import check_container, check_no_doctype, unsound
from luthier_dataset.readers.transcript import Transcript

_WHAT = "PowerPoint presentation (PPTX)"
_FURNITURE = {PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.SLIDE_NUMBER}
_LISTS = {PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT, PP_PLACEHOLDER.VERTICAL_BODY}
"""Placeholders whose paragraphs are bulleted unless they say otherwise."""
_BULLETS = (qn("a:buChar"), qn("a:buAutoNum"), qn("a:buBlip"))


def read_slides(path: Path) -> Iterator[Item]:
    """Yield a section for each slide with text, under the presentation's title and its own.

    The presentation's title is that of the first slide, if that is a title slide.
    """
    check_container(path, must_have="ppt/presentation.xml", what=f"a {_WHAT}")
    try:
        yield from _sections(path)
    except UnreadableDocument:
        raise
    except Exception as error:
        # python-pptx reports a broken part as whatever its parsers raise, KeyError included.
        raise unsound(path, _WHAT) from error


def _sections(path: Path) -> Iterator[Item]:
    transcript = Transcript()
    presentation = Presentation(str(path))
    check_no_doctype(presentation.element, "ppt/presentation.xml")
    for number, slide in enumerate(presentation.slides, start=1):
        check_no_doctype(slide.element, slide.part.partname.lstrip("/"))
        title = slide.shapes.title
        opening = number == 1 and _placeholder(title) is PP_PLACEHOLDER.CENTER_TITLE
        transcript.heading(0 if opening else 1, title.text_frame.text if title is not None else "")
        for shape in _shapes(slide.shapes):
            if title is None or shape.shape_id != title.shape_id:
                _shape(transcript, shape, number)
        # Asking for the notes of a slide without any would make some.
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
            for paragraph in notes.paragraphs:
                transcript.prose(_text(paragraph), number)
        yield from transcript.take()
    yield from transcript.finish()


def _shapes(shapes: Iterable[Any]) -> Iterator[Any]:
    """Yield shapes in their reading order, those inside groups included."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        elif _placeholder(shape) not in _FURNITURE:
            yield shape


def _shape(transcript: Transcript, shape: Any, slide: int) -> None:
    if getattr(shape, "has_table", False):
        for row in shape.table.rows:
            transcript.table_row(
                (cell.text_frame.text for cell in row.cells if not cell.is_spanned), slide
            )
    elif shape.has_text_frame:
        listed = _placeholder(shape) in _LISTS
        for paragraph in shape.text_frame.paragraphs:
            transcript.prose(_text(paragraph), slide, bullet=_is_bullet(paragraph, listed))


def _placeholder(shape: Any) -> PP_PLACEHOLDER | None:
    """Return the kind of placeholder that a shape fills, None for other shapes."""
    if shape is None or not shape.is_placeholder:
        return None
    kind: PP_PLACEHOLDER = shape.placeholder_format.type
    return kind


def _is_bullet(paragraph: Any, listed: bool) -> bool:
    properties = paragraph._p.pPr
    if properties is not None:
        if properties.find(qn("a:buNone")) is not None:
            return False
        if any(properties.find(bullet) is not None for bullet in _BULLETS):
            return True
    return listed


def _text(paragraph: Any) -> str:
    """A paragraph's text, its line breaks as spaces, its fields (dates, numbers) included."""
    return "".join(
        " " if child.tag == qn("a:br") else child.findtext(qn("a:t"), "")
        for child in paragraph._p
        if child.tag in (qn("a:r"), qn("a:br"), qn("a:fld"))
    )
