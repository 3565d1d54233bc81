"""Make a small T5 to try the example with: ``python -m examples.summarisation.small_t5 FOLDER``.

It is trained from scratch to sum conversations up in words of its own, and to repeat messages, as
FLAN-T5 was trained on many tasks before anybody tuned it: there is something to go on from.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from examples.summarisation.dialogues import Conversation, conversations

PAD, END = SPECIALS = ("<pad>", "</s>")
_SEED = 1_000_000
"""Of weights and conversations; the example draws its rows by another."""
_TOKENIZER_ROWS = 2000
_VOCABULARY = 700
_WIDTH = 64
_BATCH = 32
_LEARNING_RATE = 4e-3
_REPEATING_SHARE = 0.3
_WARM_UP = 50
"""Steps."""
_CONTEXT = 512
STEPS = 500


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE that ends sequences as T5's tokenizer does."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    seen = islice(conversations(_SEED), _TOKENIZER_ROWS)
    bpe.train_from_iterator(
        (text for one in seen for text in (one.prompt, one.summary, one.report)),
        trainers.BpeTrainer(
            vocab_size=_VOCABULARY,
            special_tokens=list(SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, SPECIALS.index(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def make_model(vocabulary: int) -> T5ForConditionalGeneration:
    """Return the untrained model."""
    torch.manual_seed(_SEED)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=_WIDTH,
        d_kv=_WIDTH // 4,
        d_ff=2 * _WIDTH,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=SPECIALS.index(PAD),
        eos_token_id=SPECIALS.index(END),
        decoder_start_token_id=SPECIALS.index(PAD),
    )
    return T5ForConditionalGeneration(config)


def train(
    model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, steps: int
) -> Iterator[float]:
    """Train, and yield the loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    source, rng = conversations(_SEED), random.Random(_SEED)
    for step in range(steps):
        for group in optimizer.param_groups:
            # Up, and from the middle on down to nothing.
            factor = min(1.0, (step + 1) / _WARM_UP, 2 * (steps - step) / steps)
            group["lr"] = _LEARNING_RATE * factor
        tasks = [_task(rng, one) for one in islice(source, _BATCH)]
        loss = model(**_batch(tasks, tokenizer)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def _task(rng: random.Random, one: Conversation) -> tuple[str, str]:
    if rng.random() < _REPEATING_SHARE:
        message = rng.choice(one.dialogue.splitlines())
        return f"Repeat: {message}", message
    return one.prompt, one.report


def _batch(
    tasks: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast
) -> dict[str, torch.Tensor]:
    prompts, answers = zip(*tasks, strict=True)
    read = tokenizer(prompts, padding=True, return_tensors="pt")
    written = tokenizer(answers, padding=True, return_tensors="pt")
    labels = written["input_ids"].masked_fill(written["attention_mask"] == 0, -100)
    return {
        "input_ids": read["input_ids"],
        "attention_mask": read["attention_mask"],
        "labels": labels,
    }


def save(folder: Path, steps: int = STEPS) -> None:
    """Make the model and save it as a snapshot that `luthier models import` takes."""
    torch.set_num_threads(1)  # matrices as small as these gain nothing by more
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    for step, loss in enumerate(train(model, tokenizer, steps), start=1):
        if step % 100 == 0:
            print(f"step {step}/{steps}, loss {loss:.3f}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.summarisation.small_t5")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    save(given.folder, given.steps)
