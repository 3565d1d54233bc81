"""Write the example documents and examinations: ``python -m examples.make_examples``.

Writes under ``examples/``: the handbook and the policy of the fictional company Kresdor, the
examination about them, and reading.jsonl about companies that occur nowhere else. Every file is
a pure function of the code, byte for byte.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path

from docx import Document

from examples.kresdor.facts import COMPANY, HANDBOOK, POLICY, Chapter, Entry
from models.make_starter import corpus
from models.make_starter.relation import Relation, ask, relations

HERE = Path(__file__).parent

_READING_SEED = 9_000_000
"""Seed of the reading examination; neither the corpus nor retain.jsonl uses it."""
_READING_ROWS = 400
_ZIP_DATE = (2026, 1, 1, 0, 0, 0)
"""Date of every member of the DOCX file, so that its bytes depend on the code alone."""


def _relation(entry: Entry) -> Relation:
    return next(relation for relation in relations() if relation.key == entry.relation)


def statement(entry: Entry) -> str:
    """Return the sentence that states a fact."""
    template = _relation(entry).statements[entry.wording]
    return template.format(c=COMPANY, s=entry.subject, v=entry.value)


def entries(chapters: Iterable[Chapter]) -> Iterator[Entry]:
    """Yield the facts of a document in order."""
    for chapter in chapters:
        for section in chapter.sections:
            yield from section.entries


def handbook() -> bytes:
    """Return the handbook as a DOCX file with heading styles."""
    document = Document()
    document.core_properties.title = f"{COMPANY} employee handbook"
    document.core_properties.author = COMPANY
    document.add_heading(f"{COMPANY} employee handbook", level=0)
    for chapter in HANDBOOK:
        document.add_heading(chapter.title, level=1)
        document.add_paragraph(chapter.introduction)
        for section in chapter.sections:
            document.add_heading(section.title, level=2)
            document.add_paragraph(section.introduction)
            facts = [statement(entry) for entry in section.entries]
            for start in range(0, len(facts), 3):
                document.add_paragraph(" ".join(facts[start : start + 3]))
    written = BytesIO()
    document.save(written)
    return _with_fixed_dates(written)


def _with_fixed_dates(archive: BytesIO) -> bytes:
    result = BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(result, "w") as target:
        for name in source.namelist():
            member = zipfile.ZipInfo(name, _ZIP_DATE)
            target.writestr(member, source.read(name), zipfile.ZIP_DEFLATED)
    return result.getvalue()


def policy() -> str:
    """Return the policy as Markdown."""
    lines = [f"# {COMPANY} customer and security policy", ""]
    for chapter in POLICY:
        lines += [f"## {chapter.title}", "", chapter.introduction, ""]
        for section in chapter.sections:
            lines += [f"### {section.title}", "", section.introduction, ""]
            lines += [" ".join(statement(entry) for entry in section.entries), ""]
    return "\n".join(lines)


_EXAM_STYLES = (8, 9)
"""Styles that question writing never uses, in words that documents use."""
_REWORDED_STYLES = (7,)
"""A style that question writing never uses either, and that avoids the documents' words."""


def questions(styles: Iterable[int]) -> Iterator[dict[str, str]]:
    """Yield questions about each fact."""
    for entry in entries(HANDBOOK + POLICY):
        for style in styles:
            question = ask(_relation(entry), style, company=COMPANY, subject=entry.subject)
            yield {
                "question": question,
                "answer": entry.value,
                "fact": statement(entry),
                "style": str(style),
            }


def reading() -> Iterator[dict[str, str]]:
    """Yield reading-comprehension questions about companies that occur nowhere else."""
    source = corpus.stream(_READING_SEED, {"read": 1.0}, most_facts=8)
    for row in islice(source, _READING_ROWS):
        prompt, answer = row.turns[0]
        context, question = prompt.removeprefix("Context: ").split("\nQuestion: ")
        yield {"context": context, "question": question, "answer": answer}


def _jsonl(rows: Iterable[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Write all files."""
    company = HERE / COMPANY.casefold()
    (company / "handbook.docx").write_bytes(handbook())
    (company / "policy.md").write_text(policy(), encoding="utf-8")
    (company / "exam.jsonl").write_text(_jsonl(questions(_EXAM_STYLES)), encoding="utf-8")
    reworded = _jsonl(questions(_REWORDED_STYLES))
    (company / "reworded.jsonl").write_text(reworded, encoding="utf-8")
    (HERE / "reading.jsonl").write_text(_jsonl(reading()), encoding="utf-8")


if __name__ == "__main__":
    main()
