"""What recipes are given, with a model that answers from a function."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from luthier.dataset.v1.recipe_pb2 import Recipe
from luthier_dataset.readers.items import (
    Block,
    BlockKind,
    Item,
    Place,
    Section,
)
from luthier_dataset.recipes.recipe import Ask, Document, Kind, Origin, Passage, Reply, Row, Tools
from luthier_dataset.search import Index, build_index
from luthier_dataset.tokens import FILES, TEMPLATE, TOKENIZER, TokenCounter

Answer = Callable[[Ask], str | Reply | None]


@cache
def starter() -> TokenCounter:
    """The tokenizer and chat template of the starter model."""
    folder = Path(__file__).parents[2] / "models" / "starter"
    found = [folder / name for name in FILES if (folder / name).exists()]
    return TokenCounter({path.name: path.read_bytes() for path in found})


@cache
def words() -> TokenCounter:
    """A tokenizer whose tokens are words, so that a test can count them."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TokenCounter({TOKENIZER: made.to_str().encode(), TEMPLATE: b""})


class ScriptedTools:
    """Implements `Tools`: the model's replies come from a function, a round after the question."""

    def __init__(
        self,
        answer: Answer = lambda ask: None,
        *,
        tokenizer: TokenCounter | None = None,
        context_tokens: int = 512,
        index: Index | None = None,
        seed: int = 0,
    ) -> None:
        self.tokenizer = tokenizer or starter()
        self.context_tokens = context_tokens
        self.dropped: Counter[str] = Counter()
        self.found: list[tuple[str, Origin]] = []
        """Malformed records, with why."""
        self.asked: list[Ask] = []
        """Every question once, in the order asked."""
        self._answer = answer
        self._index = index
        self._seed = seed
        self._replies: dict[Ask, Reply] = {}
        self._open: dict[Ask, None] = {}

    def ask(self, ask: Ask) -> Reply | None:
        if ask in self._replies:
            return self._replies[ask]
        self._open[ask] = None
        return None

    def search(self, query: str, most: int, *, beside: str = "") -> list[Passage]:
        return self._index.search(query, most) if self._index else []

    def group_of(self, file: str) -> str:
        return f"group of {file}"

    def drop(self, reason: str, count: int = 1) -> None:
        self.dropped[reason] += count

    def malformed(self, reason: str, detail: str, origin: Origin) -> None:
        self.drop(reason)
        self.found.append((detail, origin))

    def random(self, key: str) -> random.Random:
        return random.Random(f"{self._seed}:{key}")

    def answer_open(self) -> bool:
        """Answer what was asked since; False if nothing was, or nothing has an answer."""
        found = False
        for ask in self._open:
            answer = self._answer(ask)
            if answer is not None:
                found = True
                self.asked.append(ask)
                self._replies[ask] = answer if isinstance(answer, Reply) else Reply(answer)
        self._open.clear()
        return found


def run(kind: Kind, config: Recipe, document: Document, tools: ScriptedTools) -> list[Row]:
    """Run a recipe until it asks nothing more; `tools.dropped` are those of the last run."""
    checked: Tools = tools
    kind.check(config)
    while True:
        tools.dropped.clear()
        rows = list(kind.make_rows(config, document, checked))
        if not tools.answer_open():
            return rows


def document(*items: Item, title: str = "The title", file: str = "projects/p/files/f") -> Document:
    """A document of these items."""
    return Document(file, title, "0" * 64, lambda: iter(items))


def section(
    *lines: str, path: Iterable[str] = ("Handbook", "Leave"), place: Place | None = None
) -> Section:
    """A section whose lines are paragraphs, list items (`- `) or rows of a table (`a | b`)."""
    return Section(tuple(path), tuple(_block(line, place or Place()) for line in lines))


def _block(line: str, place: Place) -> Block:
    if line.startswith("- "):
        return Block(BlockKind.BULLET, line[2:], place)
    return Block(BlockKind.TABLE_ROW if " | " in line else BlockKind.PARAGRAPH, line, place)


def index_of(path: Path, passages: Iterable[Passage]) -> Index:
    """A search index over these passages, in a new file."""
    build_index(path, (("", passage) for passage in passages))
    return Index(path)
