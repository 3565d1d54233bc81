"""Training of the starter from scratch on a CPU."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.make_starter import corpus
from models.make_starter.batches import IGNORE, Batch, batches
from models.make_starter.tokenizer import END, MAX_LENGTH, PAD, token_id

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what the starter becomes."""

    seed: int = 20261120
    vocabulary: int = 1024
    """Tokens."""
    hidden: int = 192
    """Width of the residual stream."""
    layers: int = 4
    heads: int = 6
    feed_forward: int = 512
    """Width inside a feed-forward block."""
    rows: int = 150_000
    """Rows of the corpus; each is seen once."""
    learning_rate: float = 3e-3
    """Peak, for both optimisers."""
    warm_up: float = 0.01
    """Share of the rows over which the learning rate rises."""
    decay: float = 0.5
    """Share of the rows, at the end, over which it falls to zero."""
    threads: int = 2

    def rate(self, progress: float) -> float:
        """Return the learning rate after a share of the rows (warm up, hold, fall)."""
        up = progress / self.warm_up
        down = (1.0 - progress) / self.decay
        return self.learning_rate * max(0.0, min(1.0, up, down))


def build(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the untrained model."""
    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.hidden,
        intermediate_size=plan.feed_forward,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=token_id(END),
        pad_token_id=token_id(PAD),
    )
    return LlamaForCausalLM(config)


def optimisers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the layers and AdamW for everything else.

    Muon found copying in a fraction of the tokens that AdamW took on this corpus.
    """
    inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def loss_of(
    model: LlamaForCausalLM, decoder: Callable[..., Sequence[torch.Tensor]], batch: Batch
) -> torch.Tensor:
    """Return the mean loss over what the assistant says.

    Rows are padded on the right and attention is causal, so no mask is needed.
    """
    spoken = batch.labels != IGNORE
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = decoder(input_ids=batch.tokens, use_cache=False)[0]
        logits = model.lm_head(hidden[spoken])
    return torch.nn.functional.cross_entropy(logits.float(), batch.labels[spoken])


def train(
    plan: Plan, tokenizer: PreTrainedTokenizerFast, checkpoints: Path
) -> Iterator[tuple[float, LlamaForCausalLM]]:
    """Train, and yield the share done and the model whenever a checkpoint was written."""
    torch.set_num_threads(plan.threads)
    model = build(plan, tokenizer)
    steppers = optimisers(model, plan.learning_rate)
    # Apart from the model itself, so that generation, with its many shapes, stays uncompiled.
    decoder = torch.compile(model.model, dynamic=False)
    started, losses, milestone, tokens = time.monotonic(), [], 0.05, 0
    for step, batch in enumerate(batches(tokenizer, corpus.rows(plan.seed, plan.rows)), start=1):
        progress = batch.rows_read / plan.rows
        loss = loss_of(model, decoder, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = plan.rate(progress)
            stepper.step()
            stepper.zero_grad()
        losses.append(loss.item())
        tokens += batch.tokens.numel()
        if step % 50 == 0:
            _log.info(
                "step %d, %.1f %%, loss %.3f, %d tokens, %.0f s",
                step, 100 * progress, sum(losses) / len(losses), tokens, time.monotonic() - started,
            )  # fmt: skip
            losses = []
        if progress >= milestone:
            model.save_pretrained(str(checkpoints))
            yield progress, model
            milestone += 0.05
    model.save_pretrained(str(checkpoints))
    yield 1.0, model
