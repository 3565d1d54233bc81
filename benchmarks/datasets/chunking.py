"""Chunks of exact token length, against LangChain's splitter with the same tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from langchain_text_splitters import RecursiveCharacterTextSplitter, TextSplitter
from luthier_dataset.chunks import exact_chunks
from luthier_dataset.models import counter_in
from luthier_dataset.readers.items import NOWHERE, Place
from luthier_dataset.tokens import TOKENIZER, TokenCounter
from transformers import PreTrainedTokenizerFast

from benchmarks.datasets.corpora import MEGABYTE, prose
from benchmarks.datasets.measuring import Measurement, Outcome, Race, Scale, race

MODEL = Path("models/starter")
_TOKENS = 512
_OVERLAPS = (0, 64)
_DOCUMENT_WORDS = 20_000
_WORD_BYTES = 6


def measure(scale: Scale, folder: Path) -> Measurement:
    """Cut the same documents into chunks of 512 tokens, without and with overlap."""
    random = Random("chunking")
    count = max(1, scale.chunked_bytes // (_DOCUMENT_WORDS * _WORD_BYTES))
    texts = [prose(random, _DOCUMENT_WORDS) for _ in range(count)]
    counter = counter_in(MODEL)
    outcomes: list[Outcome] = []
    notes: list[str] = []
    details = {}
    for overlap in _OVERLAPS:
        found, chunks = _compare(texts, counter, overlap, scale.rounds)
        what = f"Chunking, overlap {overlap}"
        outcomes.append(found.outcome(what, "Luthier", "LangChain", 5))
        exact = {name: _exact(cut, counter) for name, cut in chunks.items()}
        notes.append(
            f"{what}: of the chunks, exactly {_TOKENS} tokens have "
            + ", ".join(f"{share:.1%} ({name})" for name, share in exact.items())
            + "."
        )
        details[f"overlap {overlap}"] = {**found.details(), "exact_chunks": exact}
    return Measurement(outcomes, notes, details)


def _compare(
    texts: list[str], counter: TokenCounter, overlap: int, rounds: int
) -> tuple[Race, dict[str, list[str]]]:
    chunks: dict[str, list[str]] = {}
    size = sum(map(len, texts)) / MEGABYTE
    splitter = _splitter(overlap)

    def ours(text: str) -> list[str]:
        return [chunk.text for chunk in exact_chunks(_lines(text), counter, _TOKENS, overlap)]

    def contestant(name: str, cut: Callable[[str], list[str]]) -> Callable[[], float]:
        def work() -> float:
            chunks[name] = [chunk for text in texts for chunk in cut(text)]
            return size

        return work

    contestants = {
        "Luthier": contestant("Luthier", ours),
        "LangChain": contestant("LangChain", splitter.split_text),
    }
    return race("MB", contestants, rounds), chunks


def _splitter(overlap: int) -> TextSplitter:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(MODEL / TOKENIZER),
        # Else it warns of every text that it measures.
        model_max_length=10**9,
    )
    return RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        tokenizer, chunk_size=_TOKENS, chunk_overlap=overlap
    )


def _lines(text: str) -> Iterator[tuple[str, Place]]:
    """Yield a text as recipes do: lines with their places, and the breaks between them."""
    at = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if at:
            yield "\n", NOWHERE
        yield line, Place(line=number, last_line=number, start=at, end=at + len(line))
        at += len(line) + 1


def _exact(chunks: list[str], counter: TokenCounter) -> float:
    return sum(counter.count(chunk) == _TOKENS for chunk in chunks) / len(chunks)
