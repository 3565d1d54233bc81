"""How well the starter reads, writes questions and admits that it does not know."""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.make_starter import corpus, prompts, values
from models.make_starter.relation import WRITABLE_STYLES


@torch.inference_mode()
def reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[str],
    batch_size: int = 32,
) -> list[str]:
    """Answer user messages by greedy decoding."""
    order = sorted(range(len(messages)), key=lambda index: len(messages[index]))
    answers = [""] * len(messages)
    tokenizer.padding_side = "left"
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rendered = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": messages[index]}],
                tokenize=False,
                add_generation_prompt=True,
            )
            for index in chosen
        ]
        inputs = tokenizer(rendered, padding=True, return_tensors="pt", add_special_tokens=False)
        generate: Any = model.generate  # typed for tensors only, yet takes any keyword
        output = generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=64,
            do_sample=False,
        )
        spoken = output[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(spoken, skip_special_tokens=True)
        for index, text in zip(chosen, texts, strict=True):
            answers[index] = text.strip()
    return answers


def unseen(seed: int, task: str, count: int) -> list[corpus.Row]:
    """Return rows of one task from a stream that is not part of the corpus."""
    return list(islice(corpus.stream(seed, {task: 1.0}, most_facts=8), count))


def accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: Sequence[corpus.Row]
) -> float:
    """Return the share of rows whose first turn is answered exactly."""
    answers = reply(model, tokenizer, [row.turns[0][0] for row in rows])
    right = [
        prompts.is_exact_match(answer, row.turns[0][1])
        for answer, row in zip(answers, rows, strict=True)
    ]
    return sum(right) / len(right)


def statements(seed: int, count: int) -> Iterator[corpus.Fact]:
    """Yield facts of unseen companies."""
    rng = random.Random(seed)
    for _ in range(count):
        yield from corpus.facts(rng, values.company(rng), 1)


def written_questions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, facts: Sequence[corpus.Fact]
) -> dict[str, float]:
    """Write a question in every style, answer it from the statement, and filter.

    Returns the share `kept` by the filter (round-trip consistency) and the share `sound`, kept
    with the right answer and exactly the wording of the style.
    """
    asked = [(fact, style) for fact in facts for style in WRITABLE_STYLES]
    written = reply(
        model, tokenizer, [prompts.write_prompt(style, fact.statement) for fact, style in asked]
    )
    answers = reply(
        model,
        tokenizer,
        [
            prompts.read_prompt(fact.statement, question)
            for (fact, _), question in zip(asked, written, strict=True)
        ],
    )
    kept = sound = 0
    for (fact, style), question, answer in zip(asked, written, answers, strict=True):
        if prompts.is_consistent(fact.statement, question, answer):
            kept += 1
            sound += answer == fact.value and question == fact.question(style)
    return {"kept": kept / len(asked), "sound": sound / len(asked)}


def report(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, seed: int, count: int
) -> dict[str, float]:
    """Return every figure of the model card, each a share from 0 to 1."""
    figures = {
        task: accuracy(model, tokenizer, unseen(seed + index, task, count))
        for index, task in enumerate(("read", "absent", "closed", "write"))
    }
    facts = list(statements(seed + 9, count // len(WRITABLE_STYLES) + 1))
    return figures | written_questions(model, tokenizer, facts)
