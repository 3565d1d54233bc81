"""What a verified snapshot says about the model in it, and why it may be refused."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from luthier_common.model_text import TEMPLATE, TOKENIZER, TOKENIZER_CONFIG

from luthier_inference.snapshots import Snapshot
from luthier_inference.weights import lora_parameters_per_rank, parameter_count

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
# Positions of T5 and mT5 are relative, so there is no limit; this is what they were trained with.
_T5_CONTEXT = 512
_SEQ2SEQ = "ForConditionalGeneration"
_SEQ2SEQ_TYPES = frozenset({"t5", "mt5"})
# Of a configuration that does not say; transformers writes what it finds.
_TIED_BY_DEFAULT = frozenset({"falcon", "gemma", "mpt"})
# Model types whose code transformers has. Snapshots of some are older than that and name code of
# their own, which nothing here reads: it is no part of a snapshot and never trusted.
_NATIVE_TYPES = _SEQ2SEQ_TYPES | {
    "falcon", "gemma", "gpt_neox", "llama", "mistral", "mpt", "phi", "phi3", "qwen2", "qwen3"
}  # fmt: skip
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
    has_chat_template: bool


def is_seq2seq(architecture: str) -> bool:
    """Whether a model of this class reads with an encoder and writes with a decoder."""
    return architecture.endswith(_SEQ2SEQ)


def is_allowed(path: str) -> bool:
    """Whether a snapshot may hold a file of this name: data only, never code or pickles."""
    return path in _NAMES or _WEIGHTS.fullmatch(path) is not None


def read_facts(snapshot: Snapshot) -> ModelFacts:
    """Return the facts; InvalidArgument says what is missing or refused."""
    config, tokenizer_config = snapshot.json("config.json"), snapshot.json(TOKENIZER_CONFIG)
    if not config:
        raise snapshot.refused("config.json is missing", "CONFIG_MISSING")
    _check_code(snapshot, config)
    _check_tokenizer(snapshot)
    _check_weights(snapshot)
    architecture = _architecture(snapshot, config)
    shapes = {
        name: shape for file in snapshot.tensors.values() for name, shape in file.shapes.items()
    }
    return ModelFacts(
        architecture=architecture,
        parameter_count=parameter_count(shapes, tied=_is_tied(config, architecture)),
        context_tokens=_context(snapshot, config, tokenizer_config),
        tokenizer_digest=hashlib.sha256(snapshot.texts[TOKENIZER]).hexdigest(),
        lora_parameters_per_rank=lora_parameters_per_rank(shapes),
        has_chat_template=bool(
            snapshot.texts.get(TEMPLATE) or tokenizer_config.get("chat_template")
        ),
    )


def _model_type(config: dict[str, Any]) -> str:
    return str(config.get("model_type"))


def _check_code(snapshot: Snapshot, config: dict[str, Any]) -> None:
    for path in snapshot.texts:
        if path == "config.json" and _model_type(config) in _NATIVE_TYPES:
            continue
        if path.endswith(".json") and "auto_map" in snapshot.json(path):
            message = f"{path} has an auto_map: models that bring code of their own are refused"
            raise snapshot.refused(message, "CUSTOM_CODE")


def _check_tokenizer(snapshot: Snapshot) -> None:
    if TOKENIZER not in snapshot.texts:
        message = f"{TOKENIZER} is missing; {HOW_TO_MAKE_A_TOKENIZER}"
        raise snapshot.refused(message, "TOKENIZER_MISSING")
    if "model" not in snapshot.json(TOKENIZER):
        raise snapshot.refused(f"{TOKENIZER} has no model", "BAD_TOKENIZER")


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
    seq2seq = _model_type(config) in _SEQ2SEQ_TYPES
    match config.get("architectures"):
        case [str(name)] if seq2seq and is_seq2seq(name):
            return name
        case [str(name)] if not seq2seq and ("CausalLM" in name or "LMHead" in name):
            return name
    raise snapshot.refused(
        "config.json must name one model in architectures: a causal language model, or "
        f"{_SEQ2SEQ} of T5 or mT5",
        "UNSUPPORTED_ARCHITECTURE",
    )


def _is_tied(config: dict[str, Any], architecture: str) -> bool:
    """Whether an output head in the files is a copy of the input embedding."""
    if is_seq2seq(architecture):
        # transformers calls every T5 tied, but keeps the head apart where the files have one.
        return False
    return bool(config.get("tie_word_embeddings", _model_type(config) in _TIED_BY_DEFAULT))


def _context(snapshot: Snapshot, config: dict[str, Any], tokenizer_config: dict[str, Any]) -> int:
    limits = [config.get(key) for key in _CONTEXT_KEYS]
    for limit in (*limits, tokenizer_config.get("model_max_length")):
        if type(limit) is int and 0 < limit < _NO_LIMIT:
            return limit
    if _model_type(config) in _SEQ2SEQ_TYPES:
        return _T5_CONTEXT
    raise snapshot.refused(
        f"config.json does not tell the context's length ({_CONTEXT_KEYS[0]})", "CONTEXT_UNKNOWN"
    )
