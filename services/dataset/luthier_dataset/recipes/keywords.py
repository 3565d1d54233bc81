"""Recipe `keywords`: the keywords of a passage ask for it.

Keywords are found by RAKE (Rose et al. 2010): stop words and punctuation part a text into
candidates; a word counts the more, the longer the candidates that it stands in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from luthier.dataset.v1.recipe_pb2 import Recipe

from luthier_dataset.recipes.passages import check_chunking, passages
from luthier_dataset.recipes.recipe import Document, Kind, Origin, Row, Tools, chat_row
from luthier_dataset.recipes.template import fill, require
from luthier_dataset.stopwords import WORD, stop_words

NAME = "keywords"
NO_KEYWORDS = "no_keywords"
_DEFAULT_MOST = 8
_GAP = re.compile(r"[^\S\n]+")
"""What may stand between two words of one keyword."""


def make_rows(config: Recipe, document: Document, tools: Tools) -> Iterator[Row]:
    """Yield a row for each passage that has keywords."""
    keywords = config.keywords
    most = keywords.most_keywords or _DEFAULT_MOST
    for text, path, place in passages(document, keywords.chunking, tools.tokenizer):
        found = ", ".join(find_keywords(text, most))
        if not found:
            tools.drop(NO_KEYWORDS)
            continue
        prompt = fill(keywords.template or "{keywords}", keywords=found)
        yield chat_row(prompt, text, Origin(document.file, path, place))


def check(config: Recipe) -> None:
    """Refuse a template without keywords, and chunks that cannot be."""
    require(config.keywords.template, "template", "keywords")
    check_chunking(config.keywords.chunking, "chunking")


def find_keywords(text: str, most: int) -> list[str]:
    """Return up to `most` keywords as they stand in the text first, best first."""
    candidates = list(_candidates(text))
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    first: dict[tuple[str, ...], str] = {}
    for phrase in candidates:
        words = tuple(word.casefold() for word in phrase)
        first.setdefault(words, " ".join(phrase))
        frequency.update(words)
        for word in words:
            degree[word] += len(words)
    scores = {words: sum(degree[word] / frequency[word] for word in words) for words in first}
    # The sort is stable: of equals, the one that stands first in the text comes first.
    ranked = sorted(first, key=lambda words: -scores[words])
    return [first[words] for words in ranked[:most]]


def _candidates(text: str) -> Iterator[list[str]]:
    """Yield the runs of words between stop words, numbers, punctuation and line breaks."""
    stops = stop_words(text)
    phrase: list[str] = []
    end = 0
    for match in WORD.finditer(text):
        word = match[0]
        if phrase and not _GAP.fullmatch(text, end, match.start()):
            yield phrase
            phrase = []
        end = match.end()
        if word.casefold() not in stops and any(map(str.isalpha, word)):
            phrase.append(word)
        elif phrase:
            yield phrase
            phrase = []
    if phrase:
        yield phrase


KIND = Kind(make_rows, check)
