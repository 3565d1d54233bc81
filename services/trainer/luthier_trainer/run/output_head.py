"""The output head of decoders and the loss of what is learned; never all logits at once."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from luthier_trainer.architectures import PLAIN_HEAD
from luthier_trainer.run.rows import IGNORED

Tensors = dict[str, torch.Tensor]
_TILE = 2**24
"""Logits held at once: 64 MB in float32."""


class _HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of `hidden @ weight.T`, and how many targets are the likeliest token.

    As Liger's fused cross-entropy (Hsu et al. 2024, arXiv 2410.10989): the gradient is made while a
    tile's logits are there, so that none is computed twice or kept. For a head that does not learn.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
        loss = hidden.new_zeros((), dtype=torch.float32)
        correct = torch.zeros((), dtype=torch.long, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        step = max(1, _TILE // len(weight))
        for start in range(0, len(hidden), step):
            tile, wanted = hidden[start : start + step], targets[start : start + step, None]
            logits = (tile @ weight.t()).float()
            best, likeliest = logits.max(-1, keepdim=True)
            correct += (likeliest == wanted).sum()
            found = logits.gather(1, wanted)
            total = logits.sub_(best).exp_().sum(-1, keepdim=True)
            loss += (total.log() + best - found).sum()
            if gradient is not None:
                logits.div_(total).scatter_add_(1, wanted, torch.full_like(found, -1.0))
                torch.mm(logits.to(hidden.dtype), weight, out=gradient[start : start + step])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, upstream: Any, _: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None


def is_frozen_product(model: PreTrainedModel) -> bool:
    """Whether `score_frozen` computes what this model's head does.

    Not on a GPU: which tokens are learned would have to come back to the CPU first.
    """
    head = model.get_output_embeddings()
    return (
        model.config.model_type in PLAIN_HEAD
        and type(head) is torch.nn.Linear  # LoRA may be beside it
        and head.bias is None
        and not head.weight.requires_grad
        and not head.weight.is_cuda
    )


def score_frozen(model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
    """Return a decoder's sums over a batch, see `StepTrainer.score`."""
    plain = plain_model(model)
    given = {name: values for name, values in inputs.items() if name != "labels"}
    hidden = plain.base_model(**given, use_cache=False).last_hidden_state[:, :-1]
    targets = inputs["labels"][:, 1:]
    learned = targets != IGNORED
    weight = plain.get_output_embeddings().weight.to(hidden.dtype)
    apply: Any = _HeadLoss.apply
    loss, correct = apply(hidden[learned], weight, targets[learned])
    items = learned.sum()
    return {"loss": loss, "correct": correct, "tokens": items, "items": items}


def score_whole(model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
    """Return the same of any decoder that has trl's output head (`add_fused_lm_head`)."""
    outputs = model(**inputs, use_cache=False, fused_lm_head=True)
    tokens = outputs.label_mask.sum()
    return {
        "loss": -outputs.log_probs.sum(),
        "correct": outputs.is_top1.sum(),
        "tokens": tokens,
        "items": tokens,
    }


def plain_model(model: Any) -> PreTrainedModel:
    """Return the model itself, without what peft has wrapped around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
