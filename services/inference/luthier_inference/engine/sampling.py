"""Choosing the next token of each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from luthier.inference.v1.generation_pb2 import SamplingParameters

from luthier_inference.engine.grammar import Guide

_NUCLEUS = 512
"""Tokens among which a nucleus is looked for before all are sorted."""


@dataclass(eq=False)
class Sampling:
    """How a row's tokens are chosen. See `SamplingParameters`."""

    temperature: float = 0.0
    """0 means greedy."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    """How many of the likeliest tokens are told beside each; None: nothing is."""
    generator: torch.Generator = field(default_factory=torch.Generator)
    """The row's own, so that its answer depends on no other row."""
    guide: Guide | None = None
    """What the answer must be like."""

    @classmethod
    def of(cls, wanted: SamplingParameters, *, answer: int = 0) -> Sampling:
        """Return the request's way for one of its answers, defaults filled in."""
        generator = torch.Generator()
        if wanted.HasField("seed"):
            generator.manual_seed((wanted.seed + answer) & (2**63 - 1))
        else:
            generator.seed()
        return cls(
            temperature=wanted.temperature if wanted.HasField("temperature") else 1.0,
            top_p=wanted.top_p if wanted.HasField("top_p") else 1.0,
            top_k=wanted.top_k,
            min_p=wanted.min_p,
            presence_penalty=wanted.presence_penalty,
            frequency_penalty=wanted.frequency_penalty,
            repetition_penalty=(
                wanted.repetition_penalty if wanted.HasField("repetition_penalty") else 1.0
            ),
            bias=dict(wanted.logit_bias),
            logprobs=wanted.top_logprobs if wanted.logprobs else None,
            generator=generator,
        )

    @property
    def adjusts(self) -> bool:
        """Whether logits are changed before a token is chosen."""
        return bool(
            self.guide
            or self.bias
            or self.presence_penalty
            or self.frequency_penalty
            or self.repetition_penalty != 1.0
        )


@dataclass(frozen=True)
class Chosen:
    """A token chosen, and what else was likely there."""

    token: int
    logprob: float = 0.0
    """Natural, of what the model computed; only where the row tells log-probabilities."""
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A row whose next token is wanted."""

    sampling: Sampling
    prompt: Sequence[int]
    written: Sequence[int]


def choose(logits: torch.Tensor, rows: Sequence[Candidate]) -> list[Chosen | None]:
    """Return a token for each row of `logits` (rows, vocabulary), float32.

    None where the logits are not finite: what the model computed is no answer.
    """
    likeliest = logits.argmax(dim=-1, keepdim=True)
    finite = logits.gather(1, likeliest)[:, 0].isfinite().tolist()
    greedy: list[int] = likeliest[:, 0].tolist()
    chosen: list[Chosen | None] = []
    for index, row in enumerate(rows):
        if not finite[index]:
            chosen.append(None)
            continue
        token = greedy[index]
        if row.sampling.adjusts or row.sampling.temperature > 0:
            token = _pick(logits[index].cpu(), row)
        chosen.append(_told(logits[index], token, row.sampling.logprobs))
    return chosen


def _pick(logits: torch.Tensor, row: Candidate) -> int:
    if row.sampling.adjusts:
        logits = _adjusted(logits.clone(), row)
    if row.sampling.temperature > 0:
        return _draw(logits, row.sampling)
    return int(logits.argmax())


def _adjusted(logits: torch.Tensor, row: Candidate) -> torch.Tensor:
    sampling = row.sampling
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*row.prompt, *row.written}))
        values = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if row.written and (sampling.presence_penalty or sampling.frequency_penalty):
        counts = Counter(row.written)
        times = torch.tensor(list(counts.values()))
        penalties = sampling.presence_penalty + sampling.frequency_penalty * times
        logits[list(counts)] -= penalties
    if sampling.bias:
        logits[list(sampling.bias)] += torch.tensor(list(sampling.bias.values()))
    if sampling.guide is not None:
        logits.masked_fill_(~sampling.guide.allowed(len(logits)), -torch.inf)
    return logits


def _draw(logits: torch.Tensor, sampling: Sampling) -> int:
    """Draw a token by exponential races: argmax of probability over an Exp(1) number each.

    It is the Gumbel-max trick; what moves a logit a little moves no other token's chance.
    """
    race = torch.empty(len(logits)).exponential_(generator=sampling.generator)
    # The maximum is taken off first: a temperature near 0 must not overflow.
    scaled = (logits - logits.max()) / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        least = scaled.topk(sampling.top_k).values[-1]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    probabilities = scaled.softmax(dim=-1)
    if sampling.top_p < 1:
        probabilities = _nucleus(probabilities, sampling.top_p)
    if sampling.min_p > 0:
        least = probabilities.max() * sampling.min_p
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    return int((probabilities / race).argmax())


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the likeliest tokens that have `top_p` of the chance between them."""
    head, tokens = probabilities.topk(min(_NUCLEUS, len(probabilities)))
    if head.sum() < top_p:
        head, tokens = probabilities.sort(descending=True, stable=True)
    kept = tokens[head.cumsum(dim=-1) - head < top_p]
    return torch.zeros_like(probabilities).index_copy_(0, kept, probabilities[kept])


def _told(logits: torch.Tensor, token: int, logprobs: int | None) -> Chosen:
    if logprobs is None:
        return Chosen(token)
    logged = logits.log_softmax(dim=-1)
    top: tuple[tuple[int, float], ...] = ()
    if logprobs:
        values, tokens = logged.topk(min(logprobs, len(logged)))
        top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
    return Chosen(token, float(logged[token]), top)
