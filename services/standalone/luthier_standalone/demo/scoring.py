"""How answers are judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rouge_score.rouge_scorer import RougeScorer


@dataclass(frozen=True, slots=True)
class Score:
    """Means over the questions of an examination, each from 0 to 1."""

    exact_match: float
    """Share of answers that equal the expected one in normal form."""
    rouge_l: float
    """Mean F-measure of the longest common subsequence of words (Lin 2004)."""


def normal_form(text: str) -> str:
    """Return the text casefolded, without punctuation and surplus white space."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def is_right(answer: str, expected: str) -> bool:
    """Whether two texts are the same in normal form."""
    return normal_form(answer) == normal_form(expected)


def judge(answers: Sequence[str], expected: Sequence[str]) -> Score:
    """Score answers against the expected ones; ValueError if there are none or not as many."""
    if not expected:
        raise ValueError("an examination has questions")
    pairs = list(zip(answers, expected, strict=True))
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    return Score(
        exact_match=fmean(is_right(answer, right) for answer, right in pairs),
        rouge_l=fmean(scorer.score(right, answer)["rougeL"].fmeasure for answer, right in pairs),
    )
