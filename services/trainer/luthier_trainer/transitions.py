"""What runs make of their jobs: pure changes of the record, and the words for them."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.trainer.v1.training_job_pb2 import TrainingJob, TrainingJobEvent
from luthier_common.errors import Internal
from luthier_common.rpc.status import to_status

from luthier_trainer.jobs import AT_WORK, FINAL, move
from luthier_trainer.publish import Published
from luthier_trainer.run_settings import EXIT_GAVE_BACK

COMPLETED = "The job has successfully completed"
MOST_FAULTS = 3
"""Faults of one job between which it saved nothing new."""


@dataclass(frozen=True)
class Ending:
    """How a run ended, by itself or by our hand."""

    how: str
    """For people."""
    gave_back: bool = False
    """It was told to, or did so of its own accord: nobody's fault."""
    preempted: bool = False
    """A job of a higher priority wanted its place."""


def ending_of(code: int, *, asked: bool) -> Ending:
    """Return what an exit code means for a run that was, or was not, asked for its place."""
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Ending(how, gave_back=asked or code == EXIT_GAVE_BACK)


def claim(job: TrainingJob) -> TrainingJob | None:
    """Give a waiting job to its next run; None when it waits no more."""
    if job.state != TrainingJob.QUEUED:
        return None
    job.epoch += 1
    return move(job, TrainingJob.RUNNING)


def settle(job: TrainingJob, ending: Ending) -> TrainingJob | None:
    """Put a job whose run has ended where it goes next.

    None when there is nothing to change: its result awaits publication, or another has settled it.
    """
    if job.state == TrainingJob.CANCELLING:
        return move(job, TrainingJob.CANCELLED)
    if job.state not in AT_WORK or job.HasField("result"):
        return None
    if job.state == TrainingJob.PAUSING:
        return move(job, TrainingJob.PAUSED)
    if not ending.gave_back:
        job.fault_count += 1
        if job.fault_count >= MOST_FAULTS:
            reason = f"its run ended {MOST_FAULTS} times and got no further; the last time "
            job.error.CopyFrom(to_status(Internal(reason + ending.how, reason="RUN_FAILED")))
            return move(job, TrainingJob.FAILED)
    return move(job, TrainingJob.QUEUED)


def succeed(job: TrainingJob, published: Published) -> TrainingJob | None:
    """End a job whose result has been published; None when another has ended it."""
    if job.state not in AT_WORK:
        return None
    job.adapter = published.adapter
    job.tuned_base_model = published.tuned_base_model
    job.result_files[:] = published.result_files
    job.gate_failure = published.gate_failure
    return move(job, TrainingJob.SUCCEEDED)


def end_of(job: TrainingJob) -> tuple[str, TrainingJobEvent.Level]:
    """Return what is said last of a job that has ended."""
    match job.state:
        case TrainingJob.CANCELLED:
            return "The job was cancelled", TrainingJobEvent.INFO
        case TrainingJob.FAILED:
            return f"The job failed: {job.error.message}", TrainingJobEvent.ERROR
    return COMPLETED, TrainingJobEvent.INFO


def tell(job: TrainingJob, ending: Ending) -> tuple[str, TrainingJobEvent.Level]:
    """Return what to say of a job that `settle` has changed, and how much it matters."""
    paused = job.state == TrainingJob.PAUSED
    if job.state in FINAL:
        return end_of(job)
    rest = "the job is paused and will" if paused else "it will"
    if job.HasField("resume_state"):
        rest += f" go on from step {job.resume_state.step}"
    else:
        rest += " start over"
    if not ending.gave_back:
        return f"The run ended ({ending.how}); {rest}", TrainingJobEvent.WARN
    # The state may be one that an earlier run has saved.
    saved = job.HasField("resume_state") and job.resume_state.epoch == job.epoch
    what = f"saved its state at step {job.resume_state.step} and gave" if saved else "gave"
    whom = "to a job of higher priority" if ending.preempted else "back"
    return f"The run {what} the device {whom}; {rest}", TrainingJobEvent.INFO
