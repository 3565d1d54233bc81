"""What is generated for evidence ends where an answer ends when it is served."""

from pathlib import Path
from typing import Any

import pytest
import torch
from luthier_trainer.run.evidence import Asker, end_tokens
from luthier_trainer.run.model import load_tokenizer
from luthier_trainer.run.rows import Question
from transformers import AutoModelForCausalLM

TURN_END = 7
"""A token that is not the tokenizer's end of text, as chat models have it."""


@pytest.fixture
def model(llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(llama)


@pytest.mark.parametrize("own", [TURN_END, [TURN_END], None])
def test_the_models_own_ends_and_the_tokenizers_count(model: Any, llama: Path, own: Any) -> None:
    tokenizer = load_tokenizer(llama)
    model.generation_config.eos_token_id = own
    expected = {tokenizer.eos_token_id} | ({TURN_END} if own else set())
    assert end_tokens(model, tokenizer) == sorted(expected)


def test_an_answer_ends_at_the_end_of_its_turn(model: Any, llama: Path) -> None:
    tokenizer = load_tokenizer(llama)
    asked = [Question(prompt=[10, 11, 12], answer="a long answer of many words")]
    with torch.no_grad():  # whatever it reads, it writes the end of a turn
        head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size)
        head.weight.zero_()
        head.bias.zero_()
        head.bias[TURN_END] = 1.0
        model.lm_head = head
    lengths = []
    for own in (None, TURN_END):
        model.generation_config.eos_token_id = own
        written: list[int] = []
        generate = model.generate

        def noting(
            *given: Any, _of: Any = generate, _to: list[int] = written, **options: Any
        ) -> Any:
            answer = _of(*given, **options)
            _to.append(answer.shape[1] - 3)
            return answer

        model.generate = noting
        Asker(asked, tokenizer, seq2seq=False).figures(model, lambda: None)
        model.generate = generate
        lengths += written
    assert lengths[0] > lengths[1] == 1
