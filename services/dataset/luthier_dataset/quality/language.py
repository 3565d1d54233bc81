"""The language of a text, by its byte n-grams (langid.py, Lui and Baldwin 2012)."""

from __future__ import annotations

from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

_SHORTEST = 20
"""Letters below which a guess is a coin toss."""
MOST_CHARACTERS = 2000
"""Of a text, that are looked at; more change nothing."""
_SURE = 0.5


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of a text's language, empty if it is too short or unsure."""
    text = text[:MOST_CHARACTERS]
    if sum(map(str.isalpha, text)) < _SHORTEST:
        return ""
    language, confidence = _identifier().classify(text)
    # The model also knows languages that have codes of three letters only, and `zxx`: none.
    return language if confidence >= _SURE and len(language) == 2 else ""


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    # Takes half a second and 75 MB, so it is loaded when the first text comes.
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
