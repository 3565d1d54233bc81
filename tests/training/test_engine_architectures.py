"""The engine answers with every causal architecture, in batches as well as alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from luthier_inference.engine.batch import Batch
from luthier_inference.engine.model import Model, load_model
from luthier_inference.engine.row import Row, Sampling
from luthier_inference.engine.text import TextStream

from tests.support.tiny_architectures import CAUSAL, save_architecture
from tests.support.tiny_model import byte_tokenizer

TOKENIZER = byte_tokenizer()
PROMPTS = ("a prompt of some length", "hi", "in between")
TOKENS = 8
BLOCK = 64  # weights that share a scale (QLoRA, Dettmers et al. 2023, section 3)


@pytest.fixture(params=CAUSAL)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_architecture(request.param, tmp_path)


def alone(model: Any, prompt: list[int]) -> list[int]:
    """The likeliest tokens, each of them from all before, without padding or cache."""
    tokens = list(prompt)
    for _ in range(TOKENS):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def test_rows_of_a_batch_are_answered_as_if_they_were_alone(folder: Path) -> None:
    model = load_model(folder, "nf4")
    prompts = [TOKENIZER(text, add_special_tokens=False)["input_ids"] for text in PROMPTS]
    greedy = Sampling(temperature=0.0, top_p=1.0, generator=torch.Generator())
    rows = [
        Row(prompt=prompt, adapter=None, sampling=greedy, text=TextStream(spelled), limit=TOKENS)
        for prompt in prompts
    ]
    answers = dict.fromkeys(map(id, rows), "")
    batch = Batch(Model(model, limit=1), rows, frozenset())
    while batch.rows:
        for row, piece in batch.step():
            answers[id(row)] += piece.text
    assert list(answers.values()) == [spelled(alone(model, prompt)) for prompt in prompts]


def spelled(tokens: list[int]) -> str:
    """One character for each token."""
    return "".join(chr(ord("A") + token) for token in tokens)


def test_every_linear_layer_is_rounded_to_four_bits(folder: Path) -> None:
    model = load_model(folder, "nf4")
    head = model.get_output_embeddings()
    layers = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    ]
    assert layers
    for name, layer in layers:
        blocks = layer.weight.detach().reshape(-1, BLOCK)
        assert max(len(block.unique()) for block in blocks) <= 16, name
