"""What a verified snapshot says about the model in it, and why it may be refused."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from luthier_inference.snapshots import Snapshot

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
_NAMES = {
    "config.json",
    "generation_config.json",
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    TEMPLATE,
    "model.safetensors.index.json",
    "retain.jsonl",
    "README.md",
}
_WEIGHTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors")
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
# Tokenizers without a limit say 1e30.
_NO_LIMIT = 1_000_000_000
HOW_TO_MAKE_A_TOKENIZER = (
    'make it with: python -c "from transformers import AutoTokenizer as T; '
    "T.from_pretrained('PATH').save_pretrained('PATH')\""
)


@dataclass(frozen=True)
class ModelFacts:
    """What a base model's record says besides its files."""

    architecture: str
    parameter_count: int
    context_tokens: int
    tokenizer_digest: str
    lora_parameters_per_rank: int


def is_allowed(path: str) -> bool:
    """Whether a snapshot may hold a file of this name: data only, never code or pickles."""
    return path in _NAMES or _WEIGHTS.fullmatch(path) is not None


def read_facts(snapshot: Snapshot) -> ModelFacts:
    """Return the facts; InvalidArgument says what is missing or refused."""
    config, tokenizer_config = snapshot.json("config.json"), snapshot.json(TOKENIZER_CONFIG)
    if not config:
        raise snapshot.refused("config.json is missing", "CONFIG_MISSING")
    for path in snapshot.texts:
        if path.endswith(".json") and "auto_map" in snapshot.json(path):
            message = f"{path} has an auto_map: models that bring code of their own are refused"
            raise snapshot.refused(message, "CUSTOM_CODE")
    _check_tokenizer(snapshot, tokenizer_config)
    _check_weights(snapshot)
    return ModelFacts(
        architecture=_architecture(snapshot, config),
        parameter_count=sum(file.parameter_count for file in snapshot.tensors.values()),
        context_tokens=_context(snapshot, config, tokenizer_config),
        tokenizer_digest=hashlib.sha256(snapshot.texts[TOKENIZER]).hexdigest(),
        lora_parameters_per_rank=sum(
            file.lora_parameters_per_rank for file in snapshot.tensors.values()
        ),
    )


def _check_tokenizer(snapshot: Snapshot, tokenizer_config: dict[str, Any]) -> None:
    if TOKENIZER not in snapshot.texts:
        message = f"{TOKENIZER} is missing; {HOW_TO_MAKE_A_TOKENIZER}"
        raise snapshot.refused(message, "TOKENIZER_MISSING")
    if "model" not in snapshot.json(TOKENIZER):
        raise snapshot.refused(f"{TOKENIZER} has no model", "BAD_TOKENIZER")
    if not snapshot.texts.get(TEMPLATE) and not tokenizer_config.get("chat_template"):
        message = f"there is no chat template, neither {TEMPLATE} nor in {TOKENIZER_CONFIG}"
        raise snapshot.refused(message, "CHAT_TEMPLATE_MISSING")


def _check_weights(snapshot: Snapshot) -> None:
    if not snapshot.tensors:
        raise snapshot.refused("there is no safetensors file", "WEIGHTS_MISSING")
    shards = snapshot.json("model.safetensors.index.json").get("weight_map", {})
    if not isinstance(shards, dict):
        raise snapshot.refused("the index has no weight_map", "BAD_CONFIG")
    for tensor, path in shards.items():
        held = snapshot.tensors.get(path) if isinstance(path, str) else None
        if held is None or tensor not in held.names:
            message = f"the index names {tensor[:100]!r} in {str(path)[:100]!r}, which lacks it"
            raise snapshot.refused(message, "WEIGHTS_MISSING")


def _architecture(snapshot: Snapshot, config: dict[str, Any]) -> str:
    match config.get("architectures"):
        case [str(name)] if "CausalLM" in name or "LMHead" in name:
            return name
    message = "config.json must name one causal language model in architectures"
    raise snapshot.refused(message, "UNSUPPORTED_ARCHITECTURE")


def _context(snapshot: Snapshot, config: dict[str, Any], tokenizer_config: dict[str, Any]) -> int:
    limits = [config.get(key) for key in _CONTEXT_KEYS]
    for limit in (*limits, tokenizer_config.get("model_max_length")):
        if type(limit) is int and 0 < limit < _NO_LIMIT:
            return limit
    raise snapshot.refused(
        f"config.json does not tell the context's length ({_CONTEXT_KEYS[0]})", "CONTEXT_UNKNOWN"
    )
