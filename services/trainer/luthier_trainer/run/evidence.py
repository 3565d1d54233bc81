"""Evidence: what a model could do before tuning and can do after, beside the loss.

Answers to validation rows are generated greedily and compared with those that the rows hold: exact
match, and ROUGE (Lin 2004) as the rouge-score package computes it, with stemming, F measure. Rows
of a regression file show what has been forgotten.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rouge_score.rouge_scorer import RougeScorer

from luthier_trainer.run.data import Format
from luthier_trainer.run.rows import Question
from luthier_trainer.run.shortage import is_out_of_memory, too_large

_MOST_QUESTIONS = 64
"""A sample, drawn by the job's seed: generation takes its time."""
_MOST_NEW_TOKENS = 256
_BATCH = 32
_ROUGES = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class Asker:
    """Asks a model questions, and compares its answers with those expected."""

    questions: Sequence[Question]
    tokenizer: Any
    seq2seq: bool

    @torch.no_grad()
    def figures(self, model: Any, beat: Callable[[], None]) -> dict[str, float]:
        """Return `exact_match` and ROUGE, 0 to 1 each; nothing without questions.

        `beat` is called between batches, and may raise.
        """
        if not self.questions:
            return {}
        was_training = model.training
        model.eval()
        answers: list[str] = []
        size = _BATCH
        while len(answers) < len(self.questions):
            batch = self.questions[len(answers) : len(answers) + size]
            try:
                answers += self._answers(model, batch)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise too_large("one question", str(error)) from error
                size = len(batch) // 2
            beat()
        model.train(was_training)
        return compare(answers, [question.answer for question in self.questions])

    def _answers(self, model: Any, questions: Sequence[Question]) -> list[str]:
        longest = max(len(question.prompt) for question in questions)
        pad = self.tokenizer.pad_token_id
        # A decoder goes on from the right end.
        lines = [
            question.prompt + [pad] * (longest - len(question.prompt))
            if self.seq2seq
            else [pad] * (longest - len(question.prompt)) + question.prompt
            for question in questions
        ]
        masks = [
            [1] * len(question.prompt) + [0] * (longest - len(question.prompt))
            if self.seq2seq
            else [0] * (longest - len(question.prompt)) + [1] * len(question.prompt)
            for question in questions
        ]
        room = max(len(self.tokenizer(question.answer)["input_ids"]) for question in questions)
        written = model.generate(
            input_ids=torch.tensor(lines, device=model.device),
            attention_mask=torch.tensor(masks, device=model.device),
            max_new_tokens=min(_MOST_NEW_TOKENS, room + room // 2 + 8),
            do_sample=False,
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=end_tokens(model, self.tokenizer),
        )
        start = 0 if self.seq2seq else longest
        return [
            str(self.tokenizer.decode(line[start:], skip_special_tokens=True)) for line in written
        ]


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer when it is served: the model's own and the tokenizer's.

    Chat models end a turn with a token that often is not the tokenizer's end of text.
    """
    own = model.generation_config.eos_token_id
    ends = own if isinstance(own, list) else [own]
    return sorted({token for token in (*ends, tokenizer.eos_token_id) if token is not None})


def compare(answers: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Return the means of exact match (ends trimmed) and ROUGE over pairs of texts."""
    scorer = RougeScorer(_ROUGES, use_stemmer=True)
    scores = [scorer.score(right, given) for given, right in zip(answers, expected, strict=True)]
    count = len(expected)
    exact = sum(
        given.strip() == right.strip() for given, right in zip(answers, expected, strict=True)
    )
    rouges = {name: sum(score[name].fmeasure for score in scores) / count for name in _ROUGES}
    return {"exact_match": exact / count} | rouges


def questions_in(path: Path, form: Format, room: int, seed: int) -> list[Question]:
    """Return a sample of the questions in a file of rows whose prompts have at most `room` tokens.

    Rows that hold no question, such as texts, are passed over.
    """
    found = []
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for line in lines:
            question = form.question(json.loads(line)) if line.strip() else None
            if question is not None and len(question.prompt) <= room:
                found.append(question)
    return random.Random(seed).sample(found, min(len(found), _MOST_QUESTIONS))


def with_perplexity(figures: Mapping[str, float], loss: str, perplexity: str) -> dict[str, float]:
    """Return figures with the perplexity that a loss in nats means."""
    if loss not in figures:
        return dict(figures)
    return {**figures, perplexity: math.exp(min(figures[loss], 700.0))}  # beyond, no float
