"""What is served: which models are not asked, and why."""

from __future__ import annotations

from luthier.inference.v1.adapter_pb2 import Adapter, ProbeResult
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import FailedPrecondition
from luthier_common.model_text import TEMPLATE

from luthier_inference.model_facts import is_seq2seq
from luthier_inference.settings import Precision

ENGINE = "transformers"
"""What results of our own engine's are told by."""


def check_served(base: BaseModel, adapter: Adapter | None = None) -> None:
    """FailedPrecondition says why a model is not asked at all."""
    if adapter is not None and adapter.hold_reason:
        message = f"{adapter.name} is kept but not served: {adapter.hold_reason}"
        raise _refused(message, "ADAPTER_HELD")
    if base.tuning_origin.hold_reason:
        message = f"{base.name} is kept but not served: {base.tuning_origin.hold_reason}"
        raise _refused(message, "MODEL_HELD")


def probe_result(adapter: Adapter, precision: Precision | None) -> ProbeResult | None:
    """Return what our engine, if it holds the base model so, made of the adapter's probe.

    None where nobody knows. Only the last result counts, which also is what the state tells: after
    a change of the precision, the engine is asked anew.
    """
    for last in adapter.probe_results[-1:]:
        if (last.engine, last.served_precision) == (ENGINE, precision):
            return last
    return None


def check_result(adapter: Adapter, result: ProbeResult | None) -> None:
    """FailedPrecondition when the engine does not compute what the adapter's tuning did."""
    if result is not None and not result.passed:
        message = (
            f"{adapter.name} is not served: with the base model held as {result.served_precision} "
            f"it differs from what was tuned by {result.divergence:.3f} nats a token, at most "
            f"{result.bound} is accepted, and {result.served_accuracy:.0%} of the tokens of its "
            f"probe are the likeliest instead of {result.trained_accuracy:.0%}; serve the base "
            f"model as {result.trained_precision}"
        )
        raise _refused(message, "ADAPTER_DIVERGES")


def check_chats(base: BaseModel) -> None:
    """FailedPrecondition says why a model does not answer conversations, and what it does."""
    if is_seq2seq(base.architecture):
        raise _refused(
            f"{base.name} is an encoder-decoder: it answers texts, not conversations; ask it for "
            "completions",
            "CHAT_NOT_SERVED",
        )
    if not base.has_chat_template:
        raise _refused(
            f"{base.name} has no chat template, so it cannot be asked in chats; ask it for "
            f"completions, or put a {TEMPLATE} beside its files and import them under another id",
            "CHAT_TEMPLATE_MISSING",
        )


def _refused(message: str, reason: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason=reason, field="model")
