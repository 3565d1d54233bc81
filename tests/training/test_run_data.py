"""Rows of a run: what is learned of them, how steps are mixed, and that packing mixes nothing."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from luthier_common.errors import InvalidArgument
from luthier_trainer.run.data import (
    LineCollator,
    MixedSampler,
    cut,
    keeps_rows_apart,
    load,
)
from luthier_trainer.run.row_attention import row_sizes
from luthier_trainer.run.rows import IGNORED, CausalFormat, Row
from transformers import BloomConfig, BloomForCausalLM, LlamaForCausalLM

from tests.support.tiny_model import byte_tokenizer, save_base

QUESTION: dict[str, Any] = {"role": "user", "content": "Who?"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "Ann"}
MARKED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A template with the answers marked, as some models ship it."""
FORGETFUL = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if loop.last or message['role'] == 'user' %}{{ message['content'] }}{% endif %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A template that drops earlier answers, as those of some reasoning models do."""
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system messages') }}"
    "{% endif %}" + MARKED
)


@pytest.fixture
def tokenizer() -> Any:
    return byte_tokenizer()


def chat(tokenizer: Any, *messages: dict[str, Any]) -> Row:
    return CausalFormat(tokenizer, 256).tokenize({"messages": list(messages)})


def learned(row: Row, tokenizer: Any) -> list[str]:
    """Return the learned stretches as text; every label must be its own token."""
    assert len(row["input_ids"]) == len(row["labels"])
    stretches: list[list[int]] = [[]]
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        if label == IGNORED:
            stretches.append([])
        else:
            assert label == token
            stretches[-1].append(token)
    return [tokenizer.decode(each) for each in stretches if each]


def write(path: Path, conversations: Iterable[Sequence[dict[str, Any]]]) -> Path:
    rows = [json.dumps({"messages": each}, ensure_ascii=False) for each in conversations]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("template", [None, MARKED])
def test_the_answer_and_its_end_are_learned_and_nothing_else(
    tokenizer: Any, template: str | None
) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    row = chat(tokenizer, {"role": "system", "content": "Be brief."}, QUESTION, ANSWER)
    assert learned(row, tokenizer) == ["Ann<|end|>"]
    whole = "<|system|>Be brief.<|end|><|user|>Who?<|end|><|assistant|>Ann<|end|>"
    assert tokenizer.decode(row["input_ids"]) == whole


def test_each_answer_of_several_turns_is_learned(tokenizer: Any) -> None:
    messages = [QUESTION, ANSWER, {"role": "user", "content": "And?"}, ANSWER | {"content": "Bo"}]
    row = chat(tokenizer, *messages)
    assert learned(row, tokenizer) == ["Ann<|end|>", "Bo<|end|>"]


def test_an_answer_of_weight_zero_is_read_only(tokenizer: Any) -> None:
    messages = [QUESTION, ANSWER | {"weight": 0}, QUESTION, ANSWER | {"content": "Bo", "weight": 1}]
    row = chat(tokenizer, *messages)
    assert learned(row, tokenizer) == ["Bo<|end|>"]
    assert "Ann" in tokenizer.decode(row["input_ids"])


def test_a_row_that_opens_with_an_answer_learns_all_but_its_first_token(tokenizer: Any) -> None:
    row = chat(tokenizer, ANSWER, QUESTION, ANSWER)
    assert row["labels"][0] == IGNORED
    assert learned(row, tokenizer) == ["Ann<|end|>", "Ann<|end|>"]


def test_a_template_that_rewrites_earlier_turns_is_refused_with_the_line(
    tokenizer: Any, tmp_path: Path
) -> None:
    tokenizer.chat_template = FORGETFUL
    two_turns = [QUESTION, ANSWER, QUESTION, ANSWER]
    path = write(tmp_path / "rows.jsonl", [[QUESTION, ANSWER], two_turns])
    with pytest.raises(InvalidArgument, match=r"^\w+ rows, line 2: ") as refused:
        load(path, CausalFormat(tokenizer, 256), 256)
    assert refused.value.reason == "CHAT_TEMPLATE_REWRITES"
    last_only = [QUESTION, ANSWER | {"weight": 0}, QUESTION, ANSWER]
    rows = load(write(path, [last_only]), CausalFormat(tokenizer, 256), 256).rows
    assert rows, "one answer may be learned"


def test_a_conversation_that_the_template_refuses_is_refused_with_the_line(
    tokenizer: Any, tmp_path: Path
) -> None:
    tokenizer.chat_template = STRICT
    system = {"role": "system", "content": "Be brief."}
    path = write(tmp_path / "rows.jsonl", [[QUESTION, ANSWER], [system, QUESTION, ANSWER]])
    with pytest.raises(InvalidArgument, match=r"rows, line 2: .*no system messages") as refused:
        load(path, CausalFormat(tokenizer, 256), 256)
    assert refused.value.reason == "CHAT_TEMPLATE_REFUSES"


def test_rows_longer_than_the_context_are_left_out_and_counted(
    tokenizer: Any, tmp_path: Path
) -> None:
    exact = [QUESTION, ANSWER]  # <|user|>Who?<|end|><|assistant|>Ann<|end|>
    path = write(tmp_path / "rows.jsonl", [exact, [QUESTION, ANSWER | {"content": "Anna"}], exact])
    rows = load(path, CausalFormat(tokenizer, 11), 11)
    assert (len(rows.rows), rows.too_long, rows.tokens) == (2, 1, 22)
    everything = load(path, CausalFormat(tokenizer, 12), 12)
    assert (len(everything.rows), everything.too_long, everything.tokens) == (3, 0, 34)


@pytest.mark.parametrize(
    ("answer", "too_long"), [({"weight": 0}, "0"), ({"content": "long" * 9}, "1")]
)
def test_a_file_without_a_row_to_learn_is_refused(
    tokenizer: Any, tmp_path: Path, answer: dict[str, Any], too_long: str
) -> None:
    path = write(tmp_path / "rows.jsonl", [[QUESTION, ANSWER | answer]])
    with pytest.raises(InvalidArgument, match="32 tokens") as refused:
        load(path, CausalFormat(tokenizer, 32), 32)
    assert refused.value.reason == "NO_ROWS_TO_LEARN"
    assert refused.value.metadata == {"rows_too_long": too_long}


def test_rows_with_nothing_to_learn_are_left_out_beside_others(
    tokenizer: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", [[QUESTION, ANSWER | {"weight": 0}], [QUESTION, ANSWER]])
    rows = load(path, CausalFormat(tokenizer, 32), 32)
    assert [learned(row, tokenizer) for row in rows.rows] == [["Ann<|end|>"]]
    assert rows.too_long == 0


def test_files_are_read_as_uploads_may_be(tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [[QUESTION, ANSWER | {"content": "Ä\u2028€😀"}]] * 2)
    path.write_bytes("\ufeff".encode() + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    rows = load(path, CausalFormat(tokenizer, 64), 64)
    assert [learned(row, tokenizer) for row in rows.rows] == [["Ä\u2028€😀<|end|>"]] * 2


def sampler(**changes: Any) -> MixedSampler:
    options = {"rows": 10, "general": 7, "batch_size": 4, "retain_share": 0.2, "seed": 3}
    return MixedSampler(**(options | changes))


def epoch(of: MixedSampler, number: int = 0) -> list[list[int]]:
    """Return the steps of an epoch as the trainer cuts them."""
    of.set_epoch(number)
    order = list(of)
    assert len(order) == len(of)
    steps = [order[at : at + of.step_rows] for at in range(0, len(order), of.step_rows)]
    assert len(steps) == of.steps
    return steps


@pytest.mark.parametrize("number", [0, 1, 5])
def test_each_row_is_drawn_once_an_epoch(number: int) -> None:
    drawn = Counter(row for step in epoch(sampler(), number) for row in step if row < 10)
    assert drawn == Counter(range(10))


@pytest.mark.parametrize(
    ("batch_size", "share", "general_rows"),
    [(4, 0.2, 1), (4, 0.5, 4), (2, 0.9, 18), (1, 0.2, 1), (2, 0.2, 1), (10, 0.0, 0), (8, 0.01, 1)],
)
def test_every_step_has_its_share_of_general_rows(
    batch_size: int, share: float, general_rows: int
) -> None:
    steps = epoch(sampler(batch_size=batch_size, retain_share=share))
    for step in steps:
        assert sum(row >= 10 for row in step) == general_rows
        assert all(row < 17 for row in step)
    assert [len(step) - general_rows for step in steps[:-1]] == [batch_size] * (len(steps) - 1)


def test_without_general_rows_there_is_nothing_to_mix_in() -> None:
    assert sorted(row for step in epoch(sampler(general=0)) for row in step) == list(range(10))


def test_a_file_smaller_than_a_batch_is_one_step() -> None:
    (step,) = epoch(sampler(rows=3, batch_size=32))
    assert sorted(step)[:3] == [0, 1, 2]
    assert len(step) == 4


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert epoch(sampler(), 2) == epoch(sampler(), 2)
    used = sampler()
    epoch(used, 0)
    assert epoch(used, 2) == epoch(sampler(), 2), "whatever was read before"
    orders = [epoch(sampler(seed=seed), number) for seed in (3, 4) for number in (0, 1, 2)]
    rows = [tuple(row for step in order for row in step if row < 10) for order in orders]
    assert len(set(rows)) == 6


def test_the_circle_of_general_rows_goes_on_across_epochs() -> None:
    mixed = sampler(retain_share=0.5)
    drawn = [row for number in range(7) for step in epoch(mixed, number) for row in step]
    general = [row for row in drawn if row >= 10]
    assert len(general) == 7 * 12
    circle = general[:7]
    assert sorted(circle) == list(range(10, 17))
    assert general == circle * 12
    assert circle != sorted(circle)


def row_of(length: int, prompt: int, seed: int) -> Row:
    chance = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, 250, (length,), generator=chance).tolist()
    return {"input_ids": tokens, "labels": [IGNORED] * prompt + tokens[prompt:]}


ROWS = [
    row_of(length, prompt, seed)
    for seed, (length, prompt) in enumerate(
        [(70, 30), (58, 1), (20, 19), (33, 12), (2, 1), (90, 80), (38, 5), (128, 64)]
    )
]


def test_lines_hold_every_row_whole_and_count_from_zero_in_each() -> None:
    collator = LineCollator(0)
    packed = collator(ROWS)
    lines, length = packed["input_ids"].shape
    assert packed["labels"].shape == packed["position_ids"].shape == (lines, length)
    assert (lines, length) == (1, 448), "439 tokens, and a few of padding"
    assert collator.tokens == sum(len(row["input_ids"]) for row in ROWS)
    found = []
    for tokens, labels, places in zip(*(packed[key].tolist() for key in packed), strict=True):
        starts = [at for at, place in enumerate(places) if place == 0]
        for start, end in zip(starts, [*starts[1:], length], strict=True):
            assert places[start:end] == list(range(end - start))
            if set(tokens[start:end]) == {0}:  # padding
                assert set(labels[start:end]) == {IGNORED}
            else:
                found.append({"input_ids": tokens[start:end], "labels": labels[start:end]})
    key = str
    assert sorted(found, key=key) == sorted(ROWS, key=key)


@pytest.mark.parametrize(("longest", "length"), [(5, 128), (123, 128), (124, 160), (250, 256)])
def test_lines_are_a_multiple_of_thirty_two_tokens(longest: int, length: int) -> None:
    packed = LineCollator(0)([row_of(longest, 1, 0), row_of(5, 1, 1)])
    assert packed["input_ids"].shape[1] == length


def test_lines_may_be_short() -> None:
    lines, length = LineCollator(0, most=128)(ROWS)["input_ids"].shape
    assert (lines, length) == (3, 160), "439 tokens, in about as many lines as 128 of them ask for"


@pytest.mark.parametrize("most", [1, 60, 128, 200, 448])
def test_a_line_is_cut_between_rows(most: int) -> None:
    pieces = cut(LineCollator(0)(ROWS), most)
    found = []
    for piece in pieces:
        assert piece["input_ids"].shape == piece["labels"].shape == piece["position_ids"].shape
        (tokens,), (labels,) = piece["input_ids"].tolist(), piece["labels"].tolist()
        sizes = row_sizes(piece["position_ids"][0])
        assert len(sizes) == 1 or len(tokens) <= most
        start = 0
        for size in sizes:
            if set(tokens[start : start + size]) != {0}:  # padding
                span = slice(start, start + size)
                found.append({"input_ids": tokens[span], "labels": labels[span]})
            start += size
    assert sorted(found, key=str) == sorted(ROWS, key=str)


def loss_and_gradients(model: Any, batches: Sequence[Any]) -> tuple[float, dict[str, torch.Tensor]]:
    """Sum the losses over batches as mean over all learned tokens, with its gradients."""
    model.zero_grad()
    count = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
    total = 0.0
    for batch in batches:
        output = model(**batch, num_items_in_batch=torch.tensor(count), use_cache=False)
        output.loss.backward()
        total += output.loss.item()
    return total, {name: weight.grad.clone() for name, weight in model.named_parameters()}


def test_packed_lines_give_the_loss_and_gradients_of_the_rows_one_by_one(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(save_base(tmp_path), dtype=torch.float32)
    alone = [
        {
            "input_ids": torch.tensor([row["input_ids"]]),
            "labels": torch.tensor([row["labels"]]),
            "attention_mask": torch.ones(1, len(row["input_ids"]), dtype=torch.long),
        }
        for row in ROWS
    ]
    packed = LineCollator(0)(ROWS)
    loss, gradients = loss_and_gradients(model, [packed])
    expected_loss, expected = loss_and_gradients(model, alone)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-5, msg=name)
    # The comparison would notice rows that see each other:
    shape = packed["input_ids"].shape
    mixed = {**packed, "position_ids": torch.arange(shape[1]).expand(shape)}
    mixed_loss, mixed_gradients = loss_and_gradients(model, [mixed])
    assert abs(mixed_loss - expected_loss) > 1e-4
    assert (
        max(float((mixed_gradients[name] - expected[name]).abs().max()) for name in expected) > 1e-3
    )


def test_a_llama_keeps_the_rows_of_a_line_apart(tokenizer: Any, tmp_path: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(save_base(tmp_path))
    row = chat(tokenizer, QUESTION, ANSWER)
    assert keeps_rows_apart(model, row, tokenizer.pad_token_id)


def test_a_model_without_position_ids_is_given_a_row_a_line(tokenizer: Any) -> None:
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2)
    row = chat(tokenizer, QUESTION, ANSWER)
    assert not keeps_rows_apart(BloomForCausalLM(config), row, tokenizer.pad_token_id)
    step = LineCollator(tokenizer.pad_token_id, most=0)([row, row])
    assert set(step) == {"input_ids", "labels", "attention_mask"}
    assert step["input_ids"].shape[0] == 2
    assert step["attention_mask"].sum(dim=1).tolist() == 2 * [len(row["input_ids"])]


class _Blind(torch.nn.Module):
    """A model that takes position ids and lets every token see all before it, and where."""

    device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, position_ids: Any, use_cache: bool) -> Any:
        places = torch.arange(1, input_ids.shape[1] + 1)
        return SimpleNamespace(logits=(input_ids * places).float().cumsum(1)[..., None])


@pytest.mark.parametrize("text", ["Who?", "a", "=" * 40, "abccba"])
def test_a_model_that_mixes_the_rows_of_a_line_is_found_out(tokenizer: Any, text: str) -> None:
    tokens = tokenizer(text)["input_ids"]
    row = {"input_ids": tokens, "labels": tokens}
    assert not keeps_rows_apart(_Blind(), row, tokenizer.pad_token_id), "whatever the row says"
