"""The trainers of a run: transformers' and trl's, extended by what all methods share.

A step's lines pass through the model in micro-batches whose gradients add up, fewer at a time when
the device's memory does not hold them; evaluation counts tokens, not batches; the state of a run is
saved as `resume_state` has it; and a run that is told to gives its device back between two steps.
"""

from __future__ import annotations

import contextlib
import gc
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from luthier_common.disk import is_disk_full
from torch.nn import functional
from transformers import Trainer, TrainerControl
from trl.trainer.utils import add_fused_lm_head

from luthier_trainer.gates import BASE
from luthier_trainer.run import resume_state
from luthier_trainer.run.course import Course
from luthier_trainer.run.curves import step_figures
from luthier_trainer.run.data import Collator, MixedSampler, cut
from luthier_trainer.run.evidence import with_perplexity
from luthier_trainer.run.output_head import (
    Tensors,
    is_frozen_product,
    plain_model,
    score_frozen,
    score_whole,
)
from luthier_trainer.run.report import Snapshot
from luthier_trainer.run.rows import IGNORED, Row
from luthier_trainer.run.schedule import is_judged, is_published
from luthier_trainer.run.shortage import is_out_of_memory, too_large

Score = Callable[[Any, Tensors], dict[str, torch.Tensor]]
"""Sums over a batch: see `StepTrainer.score`."""


class StepTrainer(Trainer):  # type: ignore[misc]
    """What the trainers of all methods share."""

    def __init__(self, *, course: Course, **options: Any) -> None:
        super().__init__(**options)
        self.course = course
        self.control: TrainerControl

    def score(self, model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
        """Return the sums over a batch: `loss` of `items`, and what makes up the other figures."""
        raise AssertionError("each trainer has its own")  # pragma: no cover

    def score_tokens(self, model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
        """Return the same for rows of answers, also where preferences are learned."""
        return self.score(model, inputs)

    def figures(self, sums: Counter[str]) -> dict[str, float]:
        """Return the figures of a log from summed scores."""
        return {"mean_token_accuracy": sums["correct"] / max(1, sums["tokens"])}

    def items(self, inputs: Tensors) -> int:
        """Return what a batch's loss is the mean of: its learned tokens, or its pairs."""
        return int((inputs["labels"] != IGNORED).sum())

    def parts(self, inputs: Tensors, lines: int) -> list[Tensors]:
        """Cut a batch into micro-batches of at most so many lines."""
        total = len(inputs["input_ids"])
        parts = [
            {name: values[start : start + lines] for name, values in inputs.items()}
            for start in range(0, total, lines)
        ]
        if self.course.line_tokens and "position_ids" in inputs:
            return [piece for line in parts for piece in cut(line, self.course.line_tokens)]
        return parts

    def compute_loss(
        self,
        model: Any,
        inputs: Tensors,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Return a micro-batch's share of the step's mean loss."""
        with self._autocast():
            sums = self.score(model, inputs)
        loss: torch.Tensor = sums["loss"] / num_items_in_batch * self.course.loss_scale
        self.course.sums.update({name: float(value.detach()) for name, value in sums.items()})
        return loss

    def training_step(
        self, model: Any, inputs: Tensors, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Add up the gradients of a step's micro-batches; smaller ones when memory is short."""
        items = max(1, self.items(inputs))
        before = self.course.sums.copy()
        while True:
            try:
                losses = [
                    super(StepTrainer, self).training_step(model, part, items)
                    for part in self.parts(inputs, self._lines(inputs))
                ]
                if self._unscaled(model):
                    return torch.stack(losses).sum() / self.course.loss_scale
                self.course.loss_scale /= 2
                self.course.sums = before.copy()
                continue
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                short = str(error)
            # Behind the handler: the error's frames hold what is to be freed.
            self.course.sums = before.copy()
            self._shrink(model, inputs, short)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Judge the validation rows, and keep the weights if they are the best so far."""
        judged = self.judge(self.course.judged, self.course.judging, self.score)
        metrics = {f"eval_{name}": value for name, value in judged.items()}
        self.log(metrics)
        self._keep_if_best(metrics["eval_loss"])
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def evidence(self) -> dict[str, float]:
        """Return what the model can do now, beside what `evaluate` tells."""
        found = self.course.asker.figures(self.model, self._beat)
        if self.course.regression:
            judged = self.judge(
                self.course.regression, self.course.regression_collator, self.score_tokens
            )
            figures = {f"regression_{name}": value for name, value in judged.items()}
            found |= with_perplexity(figures, "regression_loss", "regression_perplexity")
        return found

    @torch.no_grad()
    def judge(self, rows: Sequence[Row], collate: Collator, score: Score) -> dict[str, float]:
        """Return `loss` and the other figures of rows.

        Means are over tokens (or pairs), whatever the batches.
        """
        was_training, sums = self.model.training, Counter[str]()
        self.model.eval()
        size = self.args.per_device_eval_batch_size
        for start in range(0, len(rows), size):
            sums.update(
                self._judge(self._prepare_inputs(collate(rows[start : start + size])), score)
            )
            self._beat()
        self.model.train(was_training)
        return {"loss": sums["loss"] / max(1.0, sums["items"])} | self.figures(sums)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the figures of the steps since the last log to their losses."""
        if "loss" in logs:
            logs |= self.figures(self.course.sums)
            self.course.sums = Counter()
        Trainer.log(self, logs, start_time)

    def save_state(self) -> Path:
        """Save the state after the last step, and return where."""
        best = self.course.folder / resume_state.BEST
        return resume_state.save(self, self.course.states, best if best.exists() else None)

    def give_state(self) -> None:
        """Save the state and have it committed; a full disk leaves the one before in force."""
        with self._room_for(
            "the run's state; it goes on, and a fault would take it back to the state before"
        ):
            self.course.board.states.put(self.save_state())

    @contextlib.contextmanager
    def _room_for(self, what: str) -> Iterator[None]:
        """Say so where the disk has none, and go on."""
        try:
            yield
        except OSError as error:
            if not is_disk_full(error):
                raise
            self.course.board.say(f"There is no room on the disk for {what}")

    def _beat(self) -> None:
        """Between two batches: a sign of life, and perhaps the end."""
        self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

    def _judge(self, batch: Tensors, score: Score) -> Counter[str]:
        while True:
            sums, lines = Counter[str](), self._lines(batch)
            try:
                for part in self.parts(batch, lines):
                    with self.compute_loss_context_manager(), self._autocast():
                        scored = score(self.model, part)
                    sums.update({name: float(value) for name, value in scored.items()})
                return sums
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                short = str(error)
            self._shrink(self.model, batch, short)

    def _lines(self, inputs: Tensors) -> int:
        return min(self.course.lines or 2**31, len(inputs["input_ids"]))

    def _unscaled(self, model: Any) -> bool:
        """Take the scale out of the gradients; False, and none of them left, if it was too much."""
        if self.course.loss_scale == 1:
            return True
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            model.zero_grad()
            return False
        for gradient in gradients:
            gradient.div_(self.course.loss_scale)
        return True

    def _shrink(self, model: Any, inputs: Tensors, short: str) -> None:
        lines, tokens = self._lines(inputs), self._divisible_tokens(inputs)
        if lines > 1:
            self.course.lines = math.ceil(lines / 2)
            held, rest = f"{lines} lines", f"{self.course.lines}"
        elif tokens:
            self.course.lines, self.course.line_tokens = 1, math.ceil(tokens / 2)
            held, rest = f"{tokens} tokens", f"about {self.course.line_tokens}"
        else:
            raise too_large("one line of a step", short)
        model.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()
        self.course.board.say(
            f"The device's memory does not hold {held} at once; the step goes on with "
            f"{rest} at a time, which learns the same"
        )

    def _divisible_tokens(self, inputs: Tensors) -> int:
        """Return the tokens of the longest pass that more than one row shares; 0 if none does."""
        if "position_ids" not in inputs:
            return 0
        shared = [part for part in self.parts(inputs, 1) if len(cut(part, 1)) > 1]
        return max((part["input_ids"].shape[1] for part in shared), default=0)

    def _autocast(self) -> torch.autocast:
        mixed = self.course.mixed
        return torch.autocast("cpu", dtype=mixed or torch.bfloat16, enabled=mixed is not None)

    def _keep_if_best(self, loss: float) -> None:
        best = self.state.best_metric
        if math.isfinite(loss) and (best is None or loss < best):
            with self._room_for("the best weights so far; those before stay the best"):
                resume_state.save_weights(self.model, self.course.folder / resume_state.BEST)
                self.state.best_metric, self.state.best_global_step = loss, self.state.global_step

    def _prepare_for_training(self, *args: Any, **options: Any) -> Any:
        """Judge what is to be judged before the loop: at the very start, the untuned model."""
        prepared = super()._prepare_for_training(*args, **options)
        if not self.state.global_step:
            self._judge_untuned()
        # A resumed run may have been stopped on its way to a judgement.
        judged = {entry["step"] for entry in self.state.log_history if "eval_loss" in entry}
        due = is_judged(self.args, self.state, self.course.sampler.steps)
        if due and self.state.global_step not in judged:
            self.evaluate()
        self._give_earlier_snapshots()
        self._give_snapshot()
        return prepared

    def _judge_untuned(self) -> None:
        """Log what the untuned model can do; the history keeps it."""
        before = self.evidence()
        if self.course.judged:
            judged = self.judge(self.course.judged, self.course.judging, self.score)
            before |= {f"valid_{name}": value for name, value in judged.items()}
        if before:
            self.log({f"{BASE}{name}": value for name, value in before.items()})

    def _maybe_log_save_evaluate(self, *args: Any, **options: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **options)
        self._give_snapshot()

    def _give_snapshot(self) -> None:
        """Have the adapter published at the ends of the last epochs but the very last."""
        save = self.course.snapshot
        if save is not None and self._publishes(step := self.state.global_step):
            folder = self._snapshot_folder(step)
            with self._room_for(f"the checkpoint of step {step}, which is not published"):
                if not folder.exists():
                    unfinished = folder.with_name(f".{folder.name}.unfinished")
                    shutil.rmtree(unfinished, ignore_errors=True)
                    save(self.model, unfinished)
                    unfinished.rename(folder)
                self._put_snapshot(step)

    def _give_earlier_snapshots(self) -> None:
        """Have those published that a fault has kept from it; repeating it changes nothing."""
        for step in filter(self._publishes, range(self.state.global_step)):
            if self._snapshot_folder(step).exists():
                self._put_snapshot(step)

    def _put_snapshot(self, step: int) -> None:
        found = self._snapshot_folder(step).iterdir()
        files = sorted(path for path in found if path.suffix in (".json", ".safetensors"))
        figures = step_figures(self.state.log_history, step)
        self.course.board.snapshots.put(Snapshot(step, files, figures))

    def _publishes(self, step: int) -> bool:
        return is_published(step, self.course.sampler.steps, self.state.max_steps)

    def _snapshot_folder(self, step: int) -> Path:
        return self.course.folder / "snapshots" / f"step-{step}"

    def _get_train_sampler(self, train_dataset: Any = None) -> MixedSampler:
        return self.course.sampler

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.give_state()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state = Path(resume_from_checkpoint)
        resume_state.load_state_weights(self.model, state)
        best = self.course.folder / resume_state.BEST
        best.unlink(missing_ok=True)
        if (state / resume_state.BEST).exists():
            best.hardlink_to(state / resume_state.BEST)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            resume_state.load_optimizer(self, Path(checkpoint))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            resume_state.load_rng(Path(checkpoint))


class CausalTrainer(StepTrainer):
    """Answers, completions and texts, learned by a decoder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        plain = plain_model(self.model)
        add_fused_lm_head(plain, outputs=("log_probs", "is_top1"))
        self._score = score_frozen if is_frozen_product(plain) else score_whole

    def score(self, model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
        """See `StepTrainer`."""
        return self._score(model, inputs)

    def items(self, inputs: Tensors) -> int:
        """See `StepTrainer`; a line's first token is never guessed."""
        return int((inputs["labels"][:, 1:] != IGNORED).sum())


class Seq2SeqTrainer(StepTrainer):
    """Completions, learned by the decoder of an encoder-decoder."""

    def score(self, model: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
        """See `StepTrainer`."""
        logits, labels = model(**inputs, use_cache=False).logits.float(), inputs["labels"]
        learned = labels != IGNORED
        loss = functional.cross_entropy(logits[learned], labels[learned], reduction="sum")
        tokens = learned.sum()
        correct = (logits.argmax(-1) == labels)[learned].sum()
        return {"loss": loss, "correct": correct, "tokens": tokens, "items": tokens}
