"""Safetensors files, right and wrong ones, and a base model's snapshot, written without torch."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier_inference.tensor_reader import TensorReader
from luthier_inference.tensors import Tensors

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1,
          "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


def with_length(header: bytes, body: bytes = b"") -> bytes:
    """Return the file with that header, whatever it says, before that body."""
    return struct.pack("<Q", len(header)) + header + body


@dataclass
class Part:
    """A tensor to write."""

    shape: tuple[int, ...]
    kind: str = "F32"
    data: bytes = field(default=b"")
    """Zeros where it is empty."""

    def __post_init__(self) -> None:
        size = WIDTHS[self.kind]
        for side in self.shape:
            size *= side
        self.data = self.data or bytes(size)


def tensor_file(parts: Mapping[str, Part], metadata: Any = None) -> bytes:
    """Return a right file with these tensors, one behind the other."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for name, part in parts.items():
        offsets = [len(body), len(body) + len(part.data)]
        header[name] = {"dtype": part.kind, "shape": list(part.shape), "data_offsets": offsets}
        body += part.data
    return with_length(json.dumps(header).encode(), body)


def numbers(count: int, seed: int, kind: str = "F32") -> bytes:
    """Return that many small random numbers."""
    rng = random.Random(seed)
    values = [rng.uniform(-1, 1) for _ in range(count)]
    if kind == "F16":
        return struct.pack(f"<{count}e", *values)
    wide = struct.pack(f"<{count}f", *values)
    return (
        wide if kind == "F32" else b"".join(wide[at + 2 : at + 4] for at in range(0, 4 * count, 4))
    )


def read_tensors(data: bytes) -> Tensors:
    """Return what a file holds, as the registry reads it; BadTensors."""
    reader = TensorReader(len(data), finite=True)
    reader.feed(data)
    return reader.result()


LAYERS = {
    f"model.layers.{block}.{name}": sizes
    for block in range(2)
    for name, sizes in {
        "self_attn.q_proj": (8, 8),
        "self_attn.v_proj": (8, 4),
        "mlp.up_proj": (8, 16),
        "mlp.down_proj": (16, 8),
    }.items()
}
"""Linear layers of the snapshot that `save_snapshot` writes: inputs and outputs by name."""


def save_snapshot(folder: Path, **config: Any) -> Path:
    """Save what an import takes for a small Llama; its weights are all zero."""
    folder.mkdir()
    settings = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512, **config}
    parts = {f"{name}.weight": Part((out, into)) for name, (into, out) in LAYERS.items()}
    parts |= {
        "model.embed_tokens.weight": Part((32, 8)),
        "model.layers.0.input_layernorm.weight": Part((8,)),
        "lm_head.weight": Part((32, 8)),
    }
    for name, content in {
        "config.json": settings,
        "tokenizer.json": {"model": {"type": "BPE"}},
        "tokenizer_config.json": {"chat_template": "{{ messages }}"},
    }.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(tensor_file(parts))
    return folder


LORA = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
}


def matrices(kind: str = "F32", rank: int = 2) -> dict[str, Part]:
    """Return the matrices that `LORA` needs on the snapshot."""
    parts: dict[str, Part] = {}
    for layer, (inputs, outputs) in LAYERS.items():
        if layer.endswith(("q_proj", "v_proj")):
            for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                data = numbers(shape[0] * shape[1], len(parts), kind)
                parts[f"base_model.model.{layer}.lora_{side}.weight"] = Part(shape, kind, data)
    return parts
