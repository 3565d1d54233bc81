"""Every architecture is tuned as itself: quantized, learned from, and served from its adapter."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from luthier_common.errors import FailedPrecondition
from luthier_trainer.run import task
from luthier_trainer.run.data import LineCollator, load
from luthier_trainer.run.gradients import check_first_layer, check_flow
from luthier_trainer.run.model import held_as, load_model, load_tokenizer, quantized_layers
from luthier_trainer.run.task import Task

from tests.support.tiny_architectures import CAUSAL, SEQ2SEQ, save_architecture
from tests.support.tiny_runs import (
    CHAT,
    CONTEXT,
    PAIR,
    STEPS,
    Run,
    hyperparameters,
    inputs_of,
    mean_loss,
    reloaded,
    run,
)

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "falcon": "FalconForCausalLM",
    "falcon, new decoder": "FalconForCausalLM",
    "falcon, alibi": "FalconForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "mpt": "MptForCausalLM",
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
}
SHARE_LINES = {"llama", "mistral", "qwen", "qwen3", "gemma", "phi", "phi3", "gpt_neox"}
"""Whose masks transformers 5.23 makes of position ids. Falcon's, of either kind, it does not."""
KEPT_IN_FULL = ".wo"
"""T5's, which overflows in few bits: transformers keeps it in float32."""
PROMPT = "<|user|>Item a?<|end|><|assistant|>"
TOKENS = 6


@dataclass(frozen=True)
class Tuned:
    """An architecture that has been tuned."""

    name: str
    base: Path
    run: Run
    steps: list[tuple[int, int]]
    """Rows of a step, and lines they took."""


class Watched(LineCollator):
    """Notes how many lines the rows of a step take."""

    steps: list[tuple[int, int]]

    def __call__(self, rows: Any) -> dict[str, torch.Tensor]:
        tensors = super().__call__(rows)
        self.steps.append((len(rows), len(tensors["input_ids"])))
        return tensors


@pytest.fixture(scope="module", params=CLASSES)
def tuned(
    request: pytest.FixtureRequest, rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tuned]:
    folder = tmp_path_factory.mktemp("architecture")
    base = save_architecture(request.param, folder / "base")
    kind = PAIR if request.param in SEQ2SEQ else CHAT
    inputs = inputs_of(base, rows, folder / "run", kind, judged=True)
    with pytest.MonkeyPatch.context() as patch:
        Watched.steps = []
        patch.setattr(task, "LineCollator", Watched)
        yield Tuned(request.param, base, run(inputs), Watched.steps)


def test_all_that_can_be_saved_are_tested() -> None:
    assert CLASSES.keys() == {*CAUSAL, *SEQ2SEQ}


def test_the_model_is_of_the_real_class(tuned: Tuned) -> None:
    kind = type(tuned.run.model)
    assert kind.__name__ == CLASSES[tuned.name]
    assert kind is getattr(transformers, kind.__name__)


def test_every_linear_layer_but_the_output_is_quantized(tuned: Tuned) -> None:
    model = load_model(tuned.base, hyperparameters())
    head = model.get_output_embeddings()
    linear = {
        name
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
        and layer is not head
        and not (tuned.name in SEQ2SEQ and name.endswith(KEPT_IN_FULL))
    }
    layers = dict(quantized_layers(model))
    assert layers.keys() == linear
    assert {held_as(layer) for layer in layers.values()} == {"NF4 with double quantization"}
    for layer in layers.values():
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() == layer.in_features * layer.out_features / 2
    assert tuned.run.outputs.quantized_layers == len(layers) >= 8


def test_it_learns_with_true_gradients(tuned: Tuned) -> None:
    losses = tuned.run.losses
    assert len(losses) == STEPS
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    metrics = tuned.run.outputs.metrics
    assert metrics["valid_loss"] < 0.95 * metrics["base_valid_loss"]

    model, tokens = tuned.run.model, torch.tensor([range(40, 60)])
    check_flow(model)
    model(input_ids=tokens, labels=tokens).loss.backward()
    check_first_layer(model)
    model.zero_grad()


def test_matrices_are_beside_every_linear_layer(tuned: Tuned) -> None:
    model = load_model(tuned.base, hyperparameters())
    head = model.get_output_embeddings()
    linear = {
        f"base_model.model.{name}"
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    }
    assert {name.split(".lora_")[0] for name in tuned.run.weights} == linear
    assert len(tuned.run.weights) == 2 * len(linear)


def test_the_adapter_makes_the_base_the_tuned_model(tuned: Tuned) -> None:
    chosen = tuned.run.inputs.hyperparameters
    model = reloaded(tuned.base, chosen, tuned.run.folder)
    tokenizer = load_tokenizer(tuned.base)
    seq2seq = tuned.name in SEQ2SEQ
    form = Task(seq2seq=seq2seq, preference=False).format(tokenizer, CONTEXT)
    validation = tuned.run.inputs.validation_rows
    assert validation is not None
    rows = load(validation, form, CONTEXT).rows
    reported = tuned.run.outputs.metrics
    assert mean_loss(model, rows) == pytest.approx(reported["valid_loss"], rel=1e-3)
    assert mean_loss(reloaded(tuned.base, chosen), rows) == pytest.approx(
        reported["base_valid_loss"], rel=1e-3
    )

    given = tokenizer("Item a?" if seq2seq else PROMPT, return_tensors="pt")["input_ids"]
    torch.testing.assert_close(
        scores(model, given), scores(tuned.run.model, given), atol=1e-3, rtol=1e-3
    )
    assert greedy(model, given) == greedy(tuned.run.model, given)
    with model.disable_adapter():
        assert float((scores(model, given) - scores(tuned.run.model, given)).abs().max()) > 0.1


@torch.no_grad()
def scores(model: Any, given: torch.Tensor) -> torch.Tensor:
    """Return the logits of the first token of an answer."""
    start = {"decoder_input_ids": torch.tensor([[0]])} if model.config.is_encoder_decoder else {}
    logits: torch.Tensor = model.eval()(input_ids=given, use_cache=False, **start).logits
    return logits[0, -1]


def greedy(model: Any, given: torch.Tensor) -> list[int]:
    """Return the likeliest answer of some tokens."""
    written = model.eval().generate(
        input_ids=given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=TOKENS,
        do_sample=False,
        pad_token_id=0,
    )
    tokens: list[int] = written[0].tolist()
    return tokens if model.config.is_encoder_decoder else tokens[given.shape[1] :]


def test_rows_share_lines_where_the_model_keeps_them_apart(tuned: Tuned) -> None:
    if tuned.name in SEQ2SEQ:
        assert not tuned.steps, "they have a collator of their own"
    elif tuned.name in SHARE_LINES:
        assert all(lines < rows / 2 for rows, lines in tuned.steps if rows == 8)
    else:
        assert all(lines == rows for rows, lines in tuned.steps)


def test_a_model_of_which_nothing_can_be_quantized_is_refused(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=261, hidden_size=32, num_hidden_layers=0, num_attention_heads=4
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(FailedPrecondition, match="can be held in NF4; choose BF16") as refused:
        load_model(tmp_path, hyperparameters())
    assert refused.value.reason == "NOT_QUANTIZED"
