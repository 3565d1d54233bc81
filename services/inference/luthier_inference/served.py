"""What is served: which models are not asked, and why."""

from __future__ import annotations

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import FailedPrecondition

from luthier_inference.model_facts import TEMPLATE, is_seq2seq


def check_served(base: BaseModel, adapter: Adapter | None = None) -> None:
    """FailedPrecondition says why a model is not asked at all."""
    if adapter is not None and adapter.hold_reason:
        message = f"{adapter.name} is kept but not served: {adapter.hold_reason}"
        raise _refused(message, "ADAPTER_HELD")
    if base.tuning_origin.hold_reason:
        message = f"{base.name} is kept but not served: {base.tuning_origin.hold_reason}"
        raise _refused(message, "MODEL_HELD")


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
