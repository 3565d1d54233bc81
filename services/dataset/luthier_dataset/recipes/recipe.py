"""What a recipe is given and what it makes.

A recipe is a pure function from a document to rows: `make_rows(config, document, tools)` yields
rows in order and gives the same ones for the same arguments, in any process. What a model writes
is an argument too: `tools.ask` returns the recorded reply, or None while there is none yet; then
the question is noted, and the recipe is run again once the answer is recorded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.readers.items import NOWHERE, Item, Place
from luthier_dataset.rows import Shape as Shape
from luthier_dataset.tokens import TokenCounter


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """A part of a document that went into a row."""

    file: str
    """Resource name of the file."""
    heading_path: tuple[str, ...] = ()
    place: Place = NOWHERE


class Row(msgspec.Struct, frozen=True):
    """One training row and where it comes from."""

    shape: Shape
    body: dict[str, Any]
    """The JSON object of the row's line in a training file."""
    origins: tuple[Origin, ...]
    """At least one; the first is the part that the row teaches."""
    group: str = ""
    """Rows of one group stay on one side of a split; empty means the whole document."""
    label: str = ""
    """The class of the row, where its recipe may have some."""
    text_tokens: int = 0
    """Tokens of a TEXT row whose recipe has counted them already; 0 means that it has not."""


def chat_row(
    prompt: str,
    answer: str,
    origin: Origin,
    *more: Origin,
    system: str = "",
    group: str = "",
    label: str = "",
) -> Row:
    """Return a row of one question and its answer."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": answer},
    ]
    return Row(Shape.CHAT, {"messages": messages}, (origin, *more), group, label)


def text_row(text: str, origin: Origin, *, group: str = "") -> Row:
    """Return a row that is a text, learned whole."""
    return Row(Shape.TEXT, {"text": text}, (origin,), group)


def pair_row(
    prompt: str, completion: str, origin: Origin, *, group: str = "", label: str = ""
) -> Row:
    """Return a row for a sequence-to-sequence model."""
    body = {"prompt": prompt, "completion": completion}
    return Row(Shape.PAIR, body, (origin,), group, label)


@dataclass(frozen=True)
class Document:
    """A source of a dataset, read."""

    file: str
    """Resource name of the file."""
    title: str
    """The file's own name without its suffix; heads text that has no heading."""
    sha256: str
    """Digest of the file."""
    items: Callable[[], Iterator[Item]]
    """Reads the items from the start, one at a time; call it again for another pass."""


class Reply(msgspec.Struct, frozen=True):
    """What the model wrote."""

    text: str
    complete: bool = True
    """False if it stopped for its length."""
    refused: str = ""
    """Why the model would not take the question, for instance because it is too long."""


class Ask(msgspec.Struct, frozen=True):
    """A question to a served model, put greedily: the same question has the same answer."""

    prompt: str
    model: str = ""
    """Resource name of a base model or adapter; empty means the dataset's base model."""
    max_tokens: int = 64


class Passage(msgspec.Struct, frozen=True):
    """A part of the corpus that a search found."""

    text: str
    origin: Origin


class Tools(Protocol):
    """What recipes may use."""

    @property
    def tokenizer(self) -> TokenCounter:
        """Counts and cuts as the dataset's base model sees text."""
        ...

    @property
    def context_tokens(self) -> int:
        """Tokens that the base model's context holds."""
        ...

    def ask(self, ask: Ask) -> Reply | None:
        """Return the recorded reply; None if there is none yet, in which case it is asked for."""
        ...

    def search(self, query: str, most: int, *, beside: str = "") -> list[Passage]:
        """Return the passages of the corpus that fit best (BM25), best first.

        With `beside`, a file, only those of documents that a split does not part from it.
        """
        ...

    def group_of(self, file: str) -> str:
        """Return the group (see `Row`) of what is made of a file."""
        ...

    def drop(self, reason: str, count: int = 1) -> None:
        """Count rows that are not kept, by reason: `lower_case_with_underscores`."""
        ...

    def malformed(self, reason: str, detail: str, origin: Origin) -> None:
        """Drop a record that breaks a rule of rows, and report it with its place."""
        ...

    def random(self, key: str) -> random.Random:
        """Return a generator seeded by the dataset's seed and `key`."""
        ...


MakeRows = Callable[[Recipe, Document, Tools], Iterable[Row]]


@dataclass(frozen=True)
class Kind:
    """A recipe as the registry knows it."""

    make_rows: MakeRows
    check: Callable[[Recipe], None] = lambda recipe: None
    """Raises ValueError `field: what is wrong` for a configuration that cannot be."""
    shape: Callable[[Recipe], Shape | None] = lambda recipe: Shape.CHAT
    """The shape of all its rows; None if only the documents tell."""
    by_item: bool = False
    """Each item is looked at alone, so that a long document can be worked on in parts."""
    searches: bool = False
    """Searches the corpus, so its index is made first."""
    one_answer: bool = False
    """A prompt has one right answer: two rows that answer one prompt differently contradict."""


def prompt_and_answer(row: Row) -> tuple[str, str]:
    """Return what is read and what is learned, as plain text."""
    body = row.body
    match row.shape:
        case Shape.TEXT:
            return "", body["text"]
        case Shape.PAIR:
            return body["prompt"], body["completion"]
        case Shape.PREFERENCE:
            return _texts(body["input"]["messages"]), _texts(body["preferred_output"])
        case Shape.CHAT:
            *read, answer = body["messages"]
            return _texts(read), _texts([answer])


def _texts(messages: list[dict[str, Any]]) -> str:
    texts = (message.get("content") for message in messages)
    return "\n".join(text for text in texts if isinstance(text, str))
