"""Steps in parts: the same step whatever fits into memory, and rows of similar length together."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from luthier.trainer.v1.tuning_pb2 import FP32, FULL
from luthier_common.errors import FailedPrecondition
from luthier_trainer.run.data import MixedSampler
from luthier_trainer.run.shortage import is_out_of_memory
from transformers import LlamaModel

from tests.support.tiny_runs import (
    BATCH,
    CHAT,
    PAIR,
    PREFERENCE,
    Run,
    inputs_of,
    run,
)

KINDS: dict[str, tuple[str, dict[str, Any], list[int]]] = {
    "lines of a row": (CHAT, {"packing": False}, [3]),
    "packed lines": (CHAT, {}, [1]),
    "all weights": (CHAT, {"packing": False, "tuning_mode": FULL, "base_precision": FP32}, [3]),
    "pairs": (PAIR, {}, [3]),
    "preferences": (PREFERENCE, {"learning_rate": 4e-3}, [1, 6]),
}
"""Of a step the kind of its lines, and sizes to cut it into."""


def figures(tuned: Run) -> list[float]:
    """Return the losses and accuracies of all steps."""
    names = ("train_loss", "train_accuracy")
    return [float(row[name]) for row in tuned.table for name in names]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_parts_is_the_same_step(
    kind: str, llama: Path, t5: Path, rows: Path, tmp_path: Path
) -> None:
    of, chosen, sizes = KINDS[kind]
    base = t5 if of == PAIR else llama

    def learn(size: int) -> Run:
        options = {"epoch_count": 2, "micro_batch_size": size, **chosen}
        return run(inputs_of(base, rows, tmp_path / str(size), of, **options))

    whole = learn(0)
    for size in sizes:
        parts = learn(size)
        assert figures(parts) == pytest.approx(figures(whole), abs=1e-4)
        assert parts.said == whole.said


PROBED = 8
"""Rows of a probe, each of which is a pass of its own."""


class Memory:
    """A device's memory that holds so many lines; it may be short of it once only."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.room = BATCH
        self.passes: list[int] = []
        """Lines of each forward pass that was tried, outside of generation."""
        self.error: Callable[[], BaseException] = lambda: torch.OutOfMemoryError("out of memory")
        self.short_at: int | None = None
        """The number of the only pass that is out of memory, whatever its lines."""
        forward = LlamaModel.forward

        def limited(model: Any, input_ids: torch.Tensor, **given: Any) -> Any:
            if given.get("use_cache") is not False:
                return forward(model, input_ids, **given)
            self.passes.append(len(input_ids))
            if len(input_ids) > self.room or len(self.passes) - 1 == self.short_at:
                raise self.error()
            return forward(model, input_ids, **given)

        patch.setattr(LlamaModel, "forward", limited)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


def tuned(llama: Path, rows: Path, folder: Path, kind: str = CHAT, **chosen: Any) -> Run:
    """Tune with a row a line, which no probe of the model comes before."""
    return run(inputs_of(llama, rows, folder, kind, packing=False, epoch_count=2, **chosen))


def test_a_step_that_does_not_fit_goes_on_in_parts(
    llama: Path, rows: Path, tmp_path: Path, memory: Memory
) -> None:
    whole = tuned(llama, rows, tmp_path / "whole")
    cut = tuned(llama, rows, tmp_path / "cut", micro_batch_size=2)
    memory.room = 3
    memory.passes.clear()
    shrunk = tuned(llama, rows, tmp_path / "shrunk")
    assert memory.passes[:6] == [8, 4, 2, 2, 2, 2]
    probed = memory.passes.count(1)
    assert probed == PROBED * len(("snapshot of the first epoch", "result"))
    assert set(memory.passes[6:]) == {1, 2}, "what has been found out is kept"
    assert shrunk.said[2:] == [
        f"The device's memory does not hold {lines} lines at once; the step goes on with "
        f"{lines // 2} at a time, which learns the same"
        for lines in (8, 4)
    ]
    assert shrunk.files == cut.files, "nothing of what was tried is left"
    assert figures(shrunk) == figures(cut)
    assert figures(shrunk) == pytest.approx(figures(whole), abs=1e-4)


def test_a_line_that_rows_share_goes_on_in_parts(
    llama: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(inputs_of(llama, rows, tmp_path / "whole", epoch_count=2))
    forward, passes = LlamaModel.forward, []

    def limited(model: Any, input_ids: torch.Tensor, **given: Any) -> Any:
        if model.training:
            passes.append(input_ids.shape[1])
            if passes[-1] > 60:
                raise torch.OutOfMemoryError("out of memory")
        return forward(model, input_ids, **given)

    monkeypatch.setattr(LlamaModel, "forward", limited)
    shrunk = run(inputs_of(llama, rows, tmp_path / "shrunk", epoch_count=2))
    assert passes[0] > passes[1] > 60, "halved, and halved again"
    assert max(passes[2:]) <= 60
    assert [said for said in shrunk.said if "tokens at once" in said] == [
        f"The device's memory does not hold {tokens} tokens at once; the step goes on with "
        f"about {-(-tokens // 2)} at a time, which learns the same"
        for tokens in passes[:2]
    ]
    assert figures(shrunk) == pytest.approx(figures(whole), abs=1e-4)


def test_a_single_row_that_does_not_fit_says_so(
    llama: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = LlamaModel.forward

    def short(model: Any, input_ids: torch.Tensor, **given: Any) -> Any:
        if model.training:
            raise torch.OutOfMemoryError("out of memory")
        return forward(model, input_ids, **given)

    monkeypatch.setattr(LlamaModel, "forward", short)
    with pytest.raises(FailedPrecondition, match="does not hold one line of a step"):
        run(inputs_of(llama, rows, tmp_path, epoch_count=2))


def test_gradients_of_parts_that_did_fit_are_not_counted_twice(
    llama: Path, rows: Path, tmp_path: Path, memory: Memory
) -> None:
    cut = tuned(llama, rows, tmp_path / "cut", micro_batch_size=2)
    memory.passes.clear()
    memory.short_at = 1
    shrunk = tuned(llama, rows, tmp_path / "shrunk", micro_batch_size=4)
    assert memory.passes[:6] == [4, 4, 2, 2, 2, 2]
    assert shrunk.files == cut.files
    assert figures(shrunk) == figures(cut)


def test_preferences_are_cut_between_pairs(
    llama: Path, rows: Path, tmp_path: Path, memory: Memory
) -> None:
    memory.room = 2 * BATCH
    whole = tuned(llama, rows, tmp_path / "whole", PREFERENCE, learning_rate=4e-3)
    memory.room = 5
    shrunk = tuned(llama, rows, tmp_path / "shrunk", PREFERENCE, learning_rate=4e-3)
    assert figures(shrunk) == pytest.approx(figures(whole), abs=1e-4)
    assert [said.partition(" hold ")[2][:8] for said in shrunk.said[2:]] == ["16 lines", "8 lines "]


def test_an_evaluation_that_does_not_fit_goes_on_in_parts(
    llama: Path, rows: Path, tmp_path: Path, memory: Memory
) -> None:
    whole = tuned(llama, rows, tmp_path / "whole", judged=True)
    memory.room = 3
    memory.passes.clear()
    shrunk = tuned(llama, rows, tmp_path / "shrunk", judged=True)
    assert memory.passes[:3] == [4, 2, 2], "the four validation rows come first"
    found, expected = shrunk.outputs.metrics, whole.outputs.metrics
    assert found == pytest.approx(expected, abs=1e-3)


def test_an_evaluation_between_two_steps_keeps_what_they_have_learned(
    llama: Path, rows: Path, tmp_path: Path, memory: Memory
) -> None:
    whole = tuned(llama, rows, tmp_path / "whole", judged=True, micro_batch_size=4)
    assert memory.passes[:5] == [4, 4, 4, 4, 4]
    memory.short_at = 3  # of the untuned model, two parts of the first step, and then it is judged
    memory.passes.clear()
    shrunk = tuned(llama, rows, tmp_path / "shrunk", judged=True, micro_batch_size=4)
    assert "does not hold 4 lines" in shrunk.said[2]
    assert figures(shrunk) == pytest.approx(figures(whole), abs=1e-4)


@pytest.mark.parametrize("judged", [False, True])
def test_a_line_that_does_not_fit_ends_the_run_with_advice(
    llama: Path, rows: Path, tmp_path: Path, memory: Memory, judged: bool
) -> None:
    memory.room = 0
    with pytest.raises(FailedPrecondition, match=r"one line of a step.*gradient_checkp") as e:
        tuned(llama, rows, tmp_path, judged=judged)
    assert e.value.reason == "OUT_OF_MEMORY"
    assert not (tmp_path / "adapter").exists()


CPU = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you"
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(f"{CPU} you tried to allocate 137438953472 bytes. Error code 12"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
    ids=["gpu", "python", "cpu", "cublas"],
)
def test_memory_of_any_kind_may_be_short(
    llama: Path, rows: Path, tmp_path: Path, memory: Memory, error: BaseException
) -> None:
    memory.short_at, memory.error = 0, lambda: error
    assert "does not hold 8 lines" in tuned(llama, rows, tmp_path).said[2]


def test_what_torch_says_on_this_machine_is_understood() -> None:
    with pytest.raises(RuntimeError) as short:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(short.value)


def test_other_errors_end_the_run_as_they_are(
    llama: Path, rows: Path, tmp_path: Path, memory: Memory
) -> None:
    memory.short_at, memory.error = 0, lambda: RuntimeError("illegal instruction")
    with pytest.raises(RuntimeError, match="illegal instruction"):
        tuned(llama, rows, tmp_path)
    assert memory.passes == [8]


LENGTHS = [3 * number % 101 for number in range(1000)]


def bucketed(**changes: Any) -> MixedSampler:
    options: dict[str, Any] = {
        "rows": len(LENGTHS),
        "general": 0,
        "batch_size": 8,
        "retain_share": 0.0,
        "seed": 3,
        "lengths": LENGTHS,
    }
    return MixedSampler(**(options | changes))


def steps_of(sampler: MixedSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    order = list(sampler)
    size = sampler.step_rows
    return [order[start : start + size] for start in range(0, len(order), size)]


@pytest.mark.parametrize("epoch", [0, 1, 7])
@pytest.mark.parametrize("size", [1, 7, 8, 999, 1000, 1024])
def test_each_row_is_in_one_bucket_an_epoch(epoch: int, size: int) -> None:
    steps = steps_of(bucketed(batch_size=size), epoch)
    assert Counter(row for step in steps for row in step) == Counter(range(1000))
    assert [len(step) for step in steps[:-1]] == [min(size, 1000)] * (len(steps) - 1)


def padding(steps: list[list[int]]) -> int:
    """Return the tokens by which the rows of steps fall short of the longest beside them."""
    lengths = [[LENGTHS[row] for row in step] for step in steps]
    return sum(max(step) * len(step) - sum(step) for step in lengths)


def test_rows_of_a_step_are_of_similar_length() -> None:
    assert padding(steps_of(bucketed())) < 0.1 * padding(steps_of(bucketed(lengths=None)))


def test_short_and_long_steps_come_in_any_order() -> None:
    longest = [max(LENGTHS[row] for row in step) for step in steps_of(bucketed())]
    ups = sum(later > sooner for sooner, later in pairwise(longest))
    assert 0.3 < ups / len(longest) < 0.7


def test_the_step_of_what_is_left_is_the_last() -> None:
    steps = steps_of(bucketed(rows=803, lengths=LENGTHS[:803]))
    assert [len(step) for step in steps] == [8] * 100 + [3]


def test_buckets_are_a_function_of_seed_and_epoch() -> None:
    assert steps_of(bucketed(), 2) == steps_of(bucketed(), 2)
    orders = [steps_of(bucketed(seed=seed), epoch) for seed in (3, 4) for epoch in (0, 1)]
    assert all(one != other for one in orders for other in orders if one is not other)


def test_rows_meet_others_in_every_epoch() -> None:
    together = [{frozenset(step) for step in steps_of(bucketed(), epoch)} for epoch in (0, 1)]
    assert not together[0] & together[1]


def test_general_rows_are_in_every_bucket() -> None:
    sampler = bucketed(general=5, retain_share=0.2)
    for step in steps_of(sampler):
        assert [row >= len(LENGTHS) for row in step] == [False] * 8 + [True] * 2


@pytest.mark.parametrize("where", ["get_peft_model", "step"])
def test_memory_that_is_short_elsewhere_ends_the_run_with_advice(
    where: str, llama: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    if where == "step":
        monkeypatch.setattr(torch.optim.AdamW, "step", short)
    else:
        monkeypatch.setattr("luthier_trainer.run.tune.get_peft_model", short)
    with pytest.raises(FailedPrecondition, match="does not hold the model") as caught:
        run(inputs_of(llama, rows, tmp_path, epoch_count=1))
    assert caught.value.reason == "OUT_OF_MEMORY"
