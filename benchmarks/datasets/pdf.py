"""PDF: from stored bytes to items on disk, against bare text extraction and markitdown."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pypdfium2
from luthier.dataset.v1.dataset_pb2 import DatasetSource
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_dataset.documents import Documents
from markitdown import MarkItDown

from benchmarks.datasets.corpora import handbook
from benchmarks.datasets.measuring import Measurement, Scale, race

_PROJECT = "acme"


def measure(scale: Scale, folder: Path) -> Measurement:
    """Read the same documents; markitdown, far slower, only the first pages of the first."""
    paths = []
    for number in range(scale.pdf_documents):
        paths.append(folder / f"handbook-{number}.pdf")
        paths[-1].write_bytes(handbook(number, scale.pdf_pages))
    excerpt = folder / "excerpt.pdf"
    excerpt.write_bytes(handbook(0, scale.markitdown_pages))
    pages = scale.pdf_documents * scale.pdf_pages
    blobs = Blobs(DirectoryObjects(folder / "objects"))
    sources = asyncio.run(_store(blobs, paths))
    cores = len(os.sched_getaffinity(0))
    converter = MarkItDown(enable_plugins=False)

    def ours(readers: int) -> float:
        asyncio.run(_read(blobs, sources, folder, readers))
        return pages

    def bare() -> float:
        return sum(_extract(path) for path in paths)

    def markitdown() -> float:
        assert converter.convert(excerpt).text_content
        return scale.markitdown_pages

    found = race(
        "pages",
        {
            "Luthier, one reader": lambda: ours(1),
            "pypdfium2": bare,
            "markitdown": markitdown,
            "Luthier, a reader for each core": lambda: ours(cores),
        },
        scale.rounds,
    )
    return Measurement(
        [
            found.outcome("PDF, end to end", "Luthier, one reader", "pypdfium2", 0.6),
            found.outcome("PDF, end to end", "Luthier, one reader", "markitdown", 50),
        ],
        [
            f"PDF: {pages} pages in {scale.pdf_documents} documents, "
            f"{scale.markitdown_pages} of them for markitdown. With a reader for each of "
            f"{cores} cores: {found.shown('Luthier, a reader for each core')}."
        ],
        found.details(),
    )


async def _store(blobs: Blobs, paths: list[Path]) -> list[DatasetSource]:
    stored = [(path, await blobs.put_file(_PROJECT, path)) for path in paths]
    return [
        DatasetSource(
            file=f"projects/{_PROJECT}/files/{path.stem}",
            display_name=path.name,
            sha256=blob.sha256,
            size_bytes=blob.size,
        )
        for path, blob in stored
    ]


async def _read(blobs: Blobs, sources: list[DatasetSource], folder: Path, readers: int) -> None:
    """Read every source as a build does, the start of the child processes included."""
    async with Documents(blobs, readers=readers) as documents:
        targets = [folder / f"{number}.items" for number in range(len(sources))]
        readings = await asyncio.gather(*map(documents.read, sources, targets))
    assert not any(reading.unreadable for reading in readings)


def _extract(path: Path) -> int:
    """Read the text of all pages; return how many there are."""
    with pypdfium2.PdfDocument(path) as document:
        texts = [page.get_textpage().get_text_bounded() for page in document]
    assert all(texts)
    return len(texts)
