"""Adapters that mean harm, or are broken: each made from a right one, the same at every run."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier_common.errors import DataLoss, FailedPrecondition, InvalidArgument, PlatformError

from tests.support.safetensors_files import LORA, Part, matrices, tensor_file, with_length

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MARKER = "unpickled"
"""The folder that pickles make, in the working folder, when somebody loads them."""
_SEED = 5


def _nothing(adapter: Adapter) -> None:
    """Leave the manifest as it is."""


@dataclass(frozen=True)
class Hostile:
    """An adapter, and how it must be refused."""

    name: str
    reason: str
    weights: bytes = field(default_factory=lambda: tensor_file(matrices()))
    config: bytes = field(default_factory=lambda: json.dumps(LORA).encode())
    others: Mapping[str, bytes] = field(default_factory=dict)
    """Further files, by path."""
    spoil: Callable[[Adapter], None] = _nothing
    """What is done to the manifest."""
    flip: tuple[str, int] | None = None
    """A stored byte that is damaged: of which file, and where."""
    error: type[PlatformError] = InvalidArgument

    @property
    def files(self) -> dict[str, bytes]:
        """Contents by path."""
        return {CONFIG: self.config, WEIGHTS: self.weights, **self.others}


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARKER,)


def harmful_pickle(protocol: int = 4) -> bytes:
    """Return a pickle that makes `MARKER` when it is loaded."""
    return pickle.dumps(_Harm(), protocol)


def pickles() -> Iterator[Hostile]:
    """Yield pickles under the name of safetensors."""
    for protocol in range(6):
        yield Hostile(f"protocol {protocol}", "NOT_SAFETENSORS", harmful_pickle(protocol))
    yield Hostile("and a long tail", "NOT_SAFETENSORS", harmful_pickle() + bytes(3 << 20))


def archives() -> Iterator[Hostile]:
    """Yield archives with a pickle in them, as torch.save makes them."""
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive:
            archive.writestr("archive/data.pkl", harmful_pickle(2))
        yield Hostile(f"zip, {name}", "NOT_SAFETENSORS", packed.getvalue())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("data.pkl")
        member.size = len(harmful_pickle())
        tar.addfile(member, io.BytesIO(harmful_pickle()))
    yield Hostile("tar", "NOT_SAFETENSORS", packed.getvalue())
    yield Hostile("gzip", "NOT_SAFETENSORS", gzip.compress(harmful_pickle(), mtime=0))


def unfit_types() -> Iterator[Hostile]:
    """Yield tensors of types that no LoRA matrix has; some hold a pickle."""
    for kind in ("U8", "I8", "BOOL"):
        part = Part((len(harmful_pickle()),), kind, harmful_pickle())
        for name in ("payload", "base_model.model.x.lora_A.weight"):
            weights = tensor_file(matrices() | {name: part})
            yield Hostile(f"{kind}, {name}", "UNSUPPORTED_DTYPE", weights)
    for kind in ("F64", "I64", "I32", "F8_E4M3", "F8_E5M2"):
        parts = {name: Part(part.shape, kind) for name, part in matrices().items()}
        yield Hostile(kind, "UNSUPPORTED_DTYPE", tensor_file(parts))


def header_lengths() -> Iterator[Hostile]:
    """Yield headers of lengths that cannot be, or are not read."""
    for length in (0, 1, 100_000_001, 2**31, 2**32 + 2, 2**63 - 1, 2**63, 2**64 - 1):
        weights = struct.pack("<Q", length) + tensor_file(matrices())[8:]
        yield Hostile(str(length), "NOT_SAFETENSORS", weights)
    for length in ((16 << 20) + 1, 50_000_000, 100_000_000):
        weights = struct.pack("<Q", length) + tensor_file(matrices())[8:]
        yield Hostile(str(length), "HEADER_TOO_LARGE", weights)
    yield Hostile("blanks first", "NOT_SAFETENSORS", with_length(b"  {}"))
    yield Hostile("a list", "NOT_SAFETENSORS", with_length(b"[1]"))


def truncated() -> Iterator[Hostile]:
    """Yield files that end early."""
    whole = tensor_file(matrices())
    end = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(_SEED)
    for at in (0, 1, 7, 8, *sorted(rng.sample(range(9, end), 4))):
        yield Hostile(f"at {at}, in the header", "HEADER_TRUNCATED", whole[:at])
    for at in (end, *sorted(rng.sample(range(end, len(whole)), 4)), len(whole) - 1):
        yield Hostile(f"at {at}, in the tensors", "TENSORS_TRUNCATED", whole[:at])


def trailing() -> Iterator[Hostile]:
    """Yield files with something behind their end."""
    tails = {"a byte": b"\0", "a pickle": harmful_pickle(), "itself": tensor_file(matrices())}
    for name, tail in tails.items():
        yield Hostile(name, "TRAILING_BYTES", tensor_file(matrices()) + tail)


def bad_json() -> Iterator[Hostile]:
    """Yield headers that are no JSON."""
    for text in (
        "{not json}", '{"', '{"a":}', '{"a":{},}', "{'a': {}}", '{"a":{}} {}', '{"a":NaN}',
        '{"a":Infinity}', '{"a":[-Infinity]}', '{"a":"\n"}', '{"a":01}', '{"a":+1}', "{/**/}",
    ):  # fmt: skip
        yield Hostile(repr(text), "HEADER_NOT_JSON", with_length(text.encode()))
    digits = '{"a":' + "9" * 5000 + "}"
    yield Hostile("a number of 5000 digits", "HEADER_NOT_JSON", with_length(digits.encode()))
    utf16 = json.dumps({"a": 1}).encode("utf-16-le")
    yield Hostile("UTF-16", "HEADER_NOT_JSON", with_length(utf16))


def bad_encodings() -> Iterator[Hostile]:
    """Yield headers that are not UTF-8."""
    for name, data in {
        "latin-1": b"\xe9",
        "overlong": b"\xc0\xaf",
        "a surrogate": b"\xed\xa0\x80",
        "beyond Unicode": b"\xf5\x80\x80\x80",
        "cut short": b"\xe2\x82",
    }.items():
        yield Hostile(name, "HEADER_NOT_UTF8", with_length(b'{"' + data + b'":{}}'))


def duplicate_keys() -> Iterator[Hostile]:
    """Yield headers in which readers may take either of two."""
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    for text in (
        f'{{"a":{entry},"a":{entry}}}',
        f'{{"a":{entry},"\\u0061":{entry}}}',
        f'{{"__metadata__":{{}},"a":{entry},"__metadata__":{{}}}}',
        '{"__metadata__":{"k":"1","k":"2"}}',
        entry.replace('"dtype":"F32"', '"dtype":"U8","dtype":"F32"').join(('{"a":', "}")),
        entry.replace('"shape":[1]', '"shape":[9],"shape":[1]').join(('{"a":', "}")),
        entry.replace("[0,4]", '[0,4],"data_offsets":[0,8]').join(('{"a":', "}")),
    ):
        yield Hostile(text, "HEADER_DUPLICATE_KEY", with_length(text.encode(), bytes(4)))


def deep_nesting() -> Iterator[Hostile]:
    """Yield headers that overflow the stacks of readers."""
    for depth in (2_000, 1_000_000):
        for name, text in {
            "lists": '{"a":' + "[" * depth,
            "objects": '{"a":' * depth,
            "metadata": '{"__metadata__":{"k":' + "[" * depth,
        }.items():
            weights = with_length(text.encode())
            yield Hostile(f"{depth} {name}", "HEADER_TOO_DEEP", weights)


def bad_metadata() -> Iterator[Hostile]:
    """Yield metadata that are not texts by name."""
    values: tuple[Any, ...] = (
        1, [], "text", None, True, {"k": 1}, {"k": None}, {"k": ["x"]}, {"k": {"k": "x"}}
    )  # fmt: skip
    for value in values:
        header = json.dumps({"__metadata__": value}).encode()
        yield Hostile(repr(value), "BAD_METADATA", with_length(header))


def _entries(reason: str, *entries: Any) -> Iterator[Hostile]:
    """Yield a file for each entry, before a body of 16 bytes."""
    for entry in entries:
        header = json.dumps({"a": entry}).encode()
        yield Hostile(repr(entry)[:80], reason, with_length(header, bytes(16)))


def _entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}


def bad_entries() -> Iterator[Hostile]:
    """Yield entries that say too little, too much, or something else."""
    lacking = [{k: v for k, v in _entry().items() if k != key} for key in _entry()]
    others: tuple[Any, ...] = (1, None, "F32", [], {}, _entry(more=1), _entry(__reduce__="x"))
    shapes = (_entry(shape=4), _entry(shape="22"), _entry(shape={"0": 2}), _entry(dtype=5))
    offsets = [_entry(data_offsets=value) for value in ([], [0], [0, 8, 16], 16, None, {"0": 0})]
    yield from _entries("BAD_TENSOR_ENTRY", *lacking, *others, *shapes, *offsets)


def unknown_types() -> Iterator[Hostile]:
    """Yield types that the format does not have."""
    kinds = ("PICKLE", "O", "f32", "", "F31", "F32 ", "float32", "F" * 10_000)
    yield from _entries("UNKNOWN_DTYPE", *(_entry(dtype=kind) for kind in kinds))


def bad_shapes() -> Iterator[Hostile]:
    """Yield shapes that are none, or that overflow."""
    shapes: list[list[Any]] = [
        [-2, -2], [-4], [True, 4], [2.0, 2], ["2", 2], [None], [[2], 2], [2**48 + 1, 0],
        [2**64], [10**4000, 0], [4, *[1] * 8],
    ]  # fmt: skip
    yield from _entries("BAD_SHAPE", *(_entry(shape=shape) for shape in shapes))


def bad_offsets() -> Iterator[Hostile]:
    """Yield offsets that are none."""
    pairs: list[list[Any]] = [
        [-16, 0], [16, 0], [0, -16], [False, 16], [0.0, 16], ["0", 16], [None, 16], [[0], 16]
    ]  # fmt: skip
    yield from _entries("BAD_OFFSETS", *(_entry(data_offsets=pair) for pair in pairs))


def wrong_sizes() -> Iterator[Hostile]:
    """Yield tensors whose shape needs other bytes than they have."""
    for shape in ([2, 3], [1, 2], [], [0], [2**31, 2**33], [2**32, 2**30], [2**48] * 8):
        yield from _entries("TENSOR_SIZE_MISMATCH", _entry(shape=shape))
    for kind in ("F16", "F64", "U8"):
        yield from _entries("TENSOR_SIZE_MISMATCH", _entry(dtype=kind))
    yield from _entries("TENSOR_SIZE_MISMATCH", _entry(data_offsets=[0, 2**63]))


def bad_layouts() -> Iterator[Hostile]:
    """Yield tensors that share bytes, or leave some to others."""
    for reason, offsets in (
        ("TENSORS_OVERLAP", [[0, 16], [0, 16]]),
        ("TENSORS_OVERLAP", [[0, 16], [4, 20]]),
        ("TENSORS_OVERLAP", [[0, 16], [15, 31]]),
        ("TENSORS_GAPPED", [[4, 20], [20, 36]]),
        ("TENSORS_GAPPED", [[0, 16], [17, 33]]),
        ("TENSORS_GAPPED", [[0, 16], [2**40, 2**40 + 16]]),
    ):
        entries = {f"t{n}": _entry(data_offsets=pair) for n, pair in enumerate(offsets)}
        size = max(last for _, last in offsets)
        body = bytes(min(size, 64))
        yield Hostile(f"{offsets}", reason, with_length(json.dumps(entries).encode(), body))


_BITS = {
    "F32": {"nan": 0x7FC00000, "-nan": 0xFFC00000, "signalling": 0x7F800001, "inf": 0x7F800000,
            "-inf": 0xFF800000},
    "F16": {"nan": 0x7E00, "-nan": 0xFE00, "signalling": 0x7C01, "inf": 0x7C00, "-inf": 0xFC00},
    "BF16": {"nan": 0x7FC0, "-nan": 0xFFC0, "signalling": 0x7F81, "inf": 0x7F80, "-inf": 0xFF80},
}  # fmt: skip


def not_finite() -> Iterator[Hostile]:
    """Yield one number among many that is none, or without end."""
    rng = random.Random(_SEED)
    for kind, values in _BITS.items():
        width = 4 if kind == "F32" else 2
        for value, bits in values.items():
            for where in ("first", "last", "somewhere"):
                parts = matrices(kind)
                name = rng.choice(list(parts))
                data = bytearray(parts[name].data)
                last = len(data) - width
                at = {"first": 0, "last": last}.get(where, rng.randrange(0, last, width))
                data[at : at + width] = bits.to_bytes(width, "little")
                parts[name].data = bytes(data)
                yield Hostile(f"{kind} {value} {where}", "NOT_FINITE", tensor_file(parts))


def missing_matrices() -> Iterator[Hostile]:
    """Yield adapters that lack one matrix, or both of a layer."""
    for name in matrices():
        parts = matrices()
        del parts[name]
        yield Hostile(f"without {name}", "UNPAIRED_MATRIX", tensor_file(parts))
        partner = name.replace("lora_A", "lora_B")
        if partner != name:
            del parts[partner]
            yield Hostile(f"without {name} and B", "MATRICES_MISSING", tensor_file(parts))
    yield Hostile("empty", "MATRICES_MISSING", tensor_file({}))


def wrong_shapes() -> Iterator[Hostile]:
    """Yield matrices that fit neither the rank nor the layer."""
    for name, part in matrices().items():
        first, second = part.shape
        rank_first = "lora_A" in name
        for shape, reason in (
            ((first + 1, second), "RANK_MISMATCH" if rank_first else "SHAPE_MISMATCH"),
            ((first, second + 1), "SHAPE_MISMATCH" if rank_first else "RANK_MISMATCH"),
            ((second, first), "RANK_MISMATCH"),
            ((first, second, 1), "SHAPE_MISMATCH"),
            ((first * second,), "SHAPE_MISMATCH"),
        ):
            weights = tensor_file(matrices() | {name: Part(shape)})
            yield Hostile(f"{name} {shape}", reason, weights)
    for rank in (1, 3, 1024):
        yield Hostile(f"r {rank}", "RANK_MISMATCH", config=_lora(r=rank))


def _lora(**changes: Any) -> bytes:
    return json.dumps({**LORA, **changes}).encode()


def wrong_layers() -> Iterator[Hostile]:
    """Yield matrices for layers that the base lacks, and ones that nobody asked for."""
    pair = {"A": Part((2, 8)), "B": Part((8, 2))}
    for layer, reason in (
        ("model.layers.2.self_attn.q_proj", "UNKNOWN_LAYER"),
        ("model.layers.00.self_attn.q_proj", "UNKNOWN_LAYER"),
        ("layers.0.self_attn.q_proj", "UNKNOWN_LAYER"),
        ("model.model.layers.0.self_attn.q_proj", "UNKNOWN_LAYER"),
        ("model.layers.0.self_attn.q_proj.", "UNKNOWN_LAYER"),
        ("model.embed_tokens", "UNKNOWN_LAYER"),
        ("lm_head", "UNKNOWN_LAYER"),
        ("model.layers.0.input_layernorm", "UNKNOWN_LAYER"),
        ("model.layers.0.mlp.down_proj", "LAYER_NOT_TARGETED"),
        ("model.layers.1.mlp.up_proj", "LAYER_NOT_TARGETED"),
    ):
        names = {f"base_model.model.{layer}.lora_{side}.weight": pair[side] for side in "AB"}
        yield Hostile(layer, reason, tensor_file(matrices() | names))
    for target in (
        "z_proj",
        "lm_head",
        "embed_tokens",
        "input_layernorm",
        "proj",
        "0",
        "..",
        "Q_PROJ",
    ):
        config = _lora(target_modules=["q_proj", "v_proj", target])
        yield Hostile(f"target {target}", "UNKNOWN_TARGET_MODULE", config=config)


def other_tensors() -> Iterator[Hostile]:
    """Yield tensors that are no LoRA matrices."""
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    for name in (
        "lm_head.weight", "base_model.model.lm_head.weight", f"{layer}.base_layer.weight",
        f"{layer}.lora_magnitude_vector", f"{layer}.lora_embedding_A", f"{layer}.lora_B.bias",
        f"{layer}.lora_A.default.weight", f"{layer}.lora_C.weight",
        f"{layer}.modules_to_save.weight", f"{layer}/../x.lora_A.weight",
        f"{layer}\n.lora_A.weight", f"\ud800{layer}.lora_A.weight", f"{layer}.lora_A.weight\0",
        "", "__reduce__", "x" * 100_000, f"{layer}é.lora_A.weight",
    ):  # fmt: skip
        weights = tensor_file(matrices() | {name: Part((2, 8))})
        yield Hostile(repr(name)[-60:], "UNSUPPORTED_TENSOR", weights)


def options() -> Iterator[Hostile]:
    """Yield options of peft that reach beyond the adapter, or that serving does not honour."""
    for option in (
        {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"rank_pattern": {"(a+)+$": 3}},
        {"alpha_pattern": {"q_proj": 64}}, {"layers_to_transform": [0]},
        {"layers_pattern": "layers"}, {"exclude_modules": ["v_proj"]},
        {"target_parameters": ["w"]}, {"lora_bias": True}, {"trainable_token_indices": [1]},
        {"layer_replication": [[0, 2]]}, {"megatron_config": {"a": 1}},
        {"loftq_config": {"loftq_bits": 4}}, {"eva_config": {"rho": 2.0}},
        {"corda_config": {"a": 1}}, {"runtime_config": {"ephemeral_gpu_offload": True}},
        {"use_qalora": True}, {"auto_map": {"A": "evil.A"}}, {"alora_invocation_tokens": [1]},
        {"bias": "all"}, {"bias": "lora_only"}, {"bias": None}, {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_16"}, {"init_lora_weights": 1},
        {"init_lora_weights": "olora"}, {"init_lora_weights": "loftq"},
        {"init_lora_weights": ["eva"]}, {"peft_type": "IA3"}, {"peft_type": "LOHA"},
        {"peft_type": "PROMPT_TUNING"}, {"peft_type": None}, {"task_type": "SEQ_CLS"},
        {"task_type": "SEQ_2_SEQ_LM"}, {"some_future_option": {"on": True}},
    ):  # fmt: skip
        yield Hostile(repr(option), "UNSUPPORTED_ADAPTER", config=_lora(**option))


def settings() -> Iterator[Hostile]:
    """Yield settings of the wrong type or size."""
    for rank in (0, -1, True, "2", 2.0, None, 1025, 10**9):
        yield Hostile(f"r {rank!r}", "RANK_OUT_OF_LIMITS", config=_lora(r=rank))
    for name, value in (
        ("lora_alpha", None), ("lora_alpha", 0), ("lora_alpha", -4), ("lora_alpha", True),
        ("lora_alpha", "4"), ("lora_alpha", 1e300), ("use_rslora", "yes"), ("use_rslora", 1),
        ("fan_in_fan_out", "no"), ("target_modules", None), ("target_modules", []),
        ("target_modules", ".*(a+)+$"), ("target_modules", "all-linear"), ("target_modules", [""]),
        ("target_modules", [1]), ("target_modules", ["(a+)+$"]), ("target_modules", {"q_proj": 1}),
        ("target_modules", ["../../etc"]), ("target_modules", ["q_proj", "x" * 201]),
    ):  # fmt: skip
        config = _lora(**{name: value})
        yield Hostile(f"{name} {value!r}"[:80], "BAD_ADAPTER_CONFIG", config=config)


def configurations() -> Iterator[Hostile]:
    """Yield configurations that are no JSON object."""
    good = json.dumps(LORA)
    for name, config in {
        "a pickle": harmful_pickle(0),
        "a pickle of bytes": harmful_pickle(5),
        "empty": b"",
        "a list": b"[]",
        "null": b"null",
        "cut": good[:-3].encode(),
        "twice r": good.replace('"r": 2', '"r": 2, "r": 64').encode(),
        "NaN": good.replace('"lora_alpha": 4', '"lora_alpha": NaN').encode(),
        "infinite": good.replace('"lora_alpha": 4', '"lora_alpha": 1e999').encode(),
        "UTF-16": good.encode("utf-16"),
        "a byte order mark": good.encode("utf-8-sig"),
        "deep": b'{"a":' + b"[" * 100_000,
        "huge": good.encode() + b" " * (1 << 20),
    }.items():
        yield Hostile(name, "BAD_ADAPTER_CONFIG", config=config)


def forbidden_files() -> Iterator[Hostile]:
    """Yield files that may not come with an adapter."""
    for path in (
        "adapter_model.bin", "pytorch_model.bin", "adapter_model.pt", "training_args.bin",
        "optimizer.pkl", "modeling.py", "../adapter_config.json", "/etc/passwd", "x/README.md", "",
        "ADAPTER_CONFIG.JSON", "adapter_model.safetensors\0", ".adapter_model.safetensors",
        "adapter_model-00001-of-00002.safetensors", "adapter_model.safetensors.index.json",
    ):  # fmt: skip
        yield Hostile(repr(path), "FILE_NOT_ALLOWED", others={path: harmful_pickle(2)})


def manifests() -> Iterator[Hostile]:
    """Yield manifests that do not say what is in the store, or say it twice."""
    for index, file in enumerate(("config", "weights")):
        for name, values, reason in (
            ("no digest", {"sha256": ""}, "BAD_FILES"),
            ("a short digest", {"sha256": "ab"}, "BAD_FILES"),
            ("a path for a digest", {"sha256": "../" * 21 + "x"}, "BAD_FILES"),
            ("an upper-case digest", {"sha256": "A" * 64}, "BAD_FILES"),
            ("a size below zero", {"size_bytes": -1}, "BAD_FILES"),
            ("no size", {"size_bytes": 0}, "FILE_SIZE_MISMATCH"),
            ("a byte too few", {"size_bytes": 20}, "FILE_SIZE_MISMATCH"),
            ("too large", {"size_bytes": 1 << 40}, "ADAPTER_TOO_LARGE"),
        ):
            yield Hostile(f"{file}: {name}", reason, spoil=_file_with(index, **values))
        yield Hostile(
            f"{file}: absent", "BLOB_MISSING", spoil=_file_with(index, sha256="0" * 64),
            error=FailedPrecondition,
        )  # fmt: skip
        yield Hostile(f"without {file}", "BAD_FILES", spoil=_with_files(1 - index))
    yield Hostile("twice", "BAD_FILES", spoil=_with_files(0, 1, 0))
    yield Hostile("none", "BAD_FILES", spoil=_with_files())


def _file_with(index: int, **values: Any) -> Callable[[Adapter], None]:
    def spoil(adapter: Adapter) -> None:
        for name, value in values.items():
            setattr(adapter.files[index], name, value)

    return spoil


def _with_files(*indices: int) -> Callable[[Adapter], None]:
    def spoil(adapter: Adapter) -> None:
        kept = [adapter.files[index] for index in indices]
        del adapter.files[:]
        adapter.files.extend(kept)

    return spoil


def _with(name: str, value: str) -> Callable[[Adapter], None]:
    def spoil(adapter: Adapter) -> None:
        setattr(adapter, name, value)

    return spoil


def damaged() -> Iterator[Hostile]:
    """Yield adapters of which a stored byte has changed since."""
    rng = random.Random(_SEED)
    sizes = {WEIGHTS: len(tensor_file(matrices())), CONFIG: len(json.dumps(LORA))}
    for path, size in sizes.items():
        for at in (0, 8, *sorted(rng.sample(range(9, size), 3)), size - 1):
            yield Hostile(f"{path} at {at}", "OBJECT_DAMAGED", flip=(path, at), error=DataLoss)


def other_bases() -> Iterator[Hostile]:
    """Yield adapters that were made for something else."""
    for name in ("base_model_digest", "tokenizer_digest"):
        for value in ("", "0" * 64, "x"):
            yield Hostile(
                f"{name} {value!r}", "BASE_MODEL_MISMATCH", error=FailedPrecondition,
                spoil=_with(name, value),
            )  # fmt: skip


_METHODS: dict[str, dict[str, Any]] = {
    "ADALORA": {"init_r": 2, "lora_alpha": 4, "total_step": 10},
    "LOHA": {"r": 2, "alpha": 4},
    "LOKR": {"r": 2, "alpha": 4},
}
_PARTS = {
    "ADALORA": {"lora_A": (2, 8), "lora_E": (2, 1), "lora_B": (8, 2)},
    "LOHA": {"hada_w1_a": (8, 2), "hada_w1_b": (2, 8), "hada_w2_a": (8, 2), "hada_w2_b": (2, 8)},
    "LOKR": {"lokr_w1": (2, 4), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 2)},
}
"""What a layer of 8 inputs and outputs has, and its shapes."""


def _of_method(name: str, reason: str, method: str, config: Any = None, **parts: Any) -> Hostile:
    """Return an adapter for the two `q_proj`; `parts` are the shapes of those of the first."""
    settings = {"peft_type": method, "target_modules": ["q_proj"], **_METHODS[method]}
    layers = [f"base_model.model.model.layers.{block}.self_attn.q_proj" for block in range(2)]
    shapes = [{**_PARTS[method], **parts}, _PARTS[method]]
    tensors = {
        f"{layer}.{part}": Part(shape)
        for layer, each in zip(layers, shapes, strict=True)
        for part, shape in each.items()
        if shape is not None
    }
    return Hostile(
        f"{method} {name}", reason, tensor_file(tensors),
        json.dumps({**settings, **(config or {})}).encode(),
    )  # fmt: skip


def parts_of_methods() -> Iterator[Hostile]:
    """Yield adapters of other methods whose tensors do not go together, or fit no layer."""
    for method, parts in _PARTS.items():
        yield _of_method("without all", "MATRICES_MISSING", method, **dict.fromkeys(parts))
        for part, (rows, columns) in parts.items():
            yield _of_method(f"without {part}", "UNPAIRED_MATRIX", method, **{part: None})
            for shape in ((rows,), (rows, columns, 1), ()):
                yield _of_method(f"{part} {shape}", "SHAPE_MISMATCH", method, **{part: shape})
            for sides in ((rows + 1, columns), (rows, columns + 1), (0, columns), (rows, 0)):
                inner = sides[0] if part in _RANK_FIRST else sides[1]
                wrong = inner != 2 or part == "lora_E"
                reason = "RANK_MISMATCH" if wrong and part != "lokr_w1" else "SHAPE_MISMATCH"
                yield _of_method(f"{part} {sides}", reason, method, **{part: sides})
        for rank in (1, 3):
            ranks = {key: rank for key in ("r", "init_r") if key in _METHODS[method]}
            yield _of_method(f"configured {rank}", "RANK_MISMATCH", method, ranks)
    for surplus in ("lokr_w2", "lokr_w1_a", "lokr_w1_b"):
        yield _of_method(f"also {surplus}", "SURPLUS_MATRIX", "LOKR", **{surplus: (4, 2)})
    # Products of the right size that are of other sides.
    yield _of_method("turned", "SHAPE_MISMATCH", "LOKR", lokr_w1=(4, 4), lokr_w2_b=(2, 4))


_RANK_FIRST = {"lora_A", "hada_w1_b", "hada_w2_b", "lokr_w2_b"}


def tensors_of_methods() -> Iterator[Hostile]:
    """Yield tensors of convolutions, and of other methods than the configuration names."""
    for method, parts in (
        ("LOHA", ["hada_t1", "hada_t2", "lora_A", "lokr_w1", "hada_w1", "hada_w1_a.weight"]),
        ("LOKR", ["lokr_t2", "lokr_w1.weight", "hada_w1_a", "lokr_w3", "lokr_", "alpha"]),
        ("ADALORA", ["lora_A.weight", "lora_E.weight", "lora_embedding_A", "ranknum"]),
    ):
        for part in parts:
            yield _of_method(part, "UNSUPPORTED_TENSOR", method, **{part: (2, 2, 3, 3)})
    for method, shapes in _PARTS.items():
        tensors = {f"base_model.model.model.layers.9.{part}": Part((2, 2)) for part in shapes}
        config = _of_method("", "", method).config
        yield Hostile(f"{method} layer", "UNKNOWN_LAYER", tensor_file(tensors), config)


def options_of_methods() -> Iterator[Hostile]:
    """Yield configurations of other methods that are not honoured, or are of the wrong type."""
    for method in _PARTS:
        for option in (
            {"modules_to_save": ["lm_head"]}, {"exclude_modules": ["v_proj"]}, {"bias": "all"},
            {"layers_to_transform": [0]}, {"alpha_pattern": {"q_proj": 64}}, {"use_dora": True},
            {"task_type": "SEQ_CLS"}, {"peft_type": [method]}, {"peft_type": method.lower()},
            {"some_future_option": 1},
        ):  # fmt: skip
            yield _of_method(repr(option), "UNSUPPORTED_ADAPTER", method, option)
        key = "init_r" if method == "ADALORA" else "r"
        for rank in (0, -1, True, "2", None, 1025):
            yield _of_method(f"{key} {rank!r}", "RANK_OUT_OF_LIMITS", method, {key: rank})
        key = "lora_alpha" if method == "ADALORA" else "alpha"
        for alpha in (0, -4, None, "4", True):
            yield _of_method(f"{key} {alpha!r}", "BAD_ADAPTER_CONFIG", method, {key: alpha})
    for method in ("LOHA", "LOKR"):
        pattern = {"rank_pattern": {"(a+)+$": 3}}
        yield _of_method(repr(pattern), "UNSUPPORTED_ADAPTER", method, pattern)
    layer = "model.layers.0.self_attn.q_proj"
    for given, reason in (
        (["x"], "BAD_ADAPTER_CONFIG"),
        ({f"{layer}.lora_E": 2}, "BAD_ADAPTER_CONFIG"),
        ({f"{layer}.lora_E": [1, 1]}, "BAD_ADAPTER_CONFIG"),
        ({f"{layer}.lora_E": [True]}, "BAD_ADAPTER_CONFIG"),
        ({f"{layer}.lora_E": [True] * 3}, "BAD_ADAPTER_CONFIG"),
        ({layer: [True, True]}, "BAD_ADAPTER_CONFIG"),
        ({f"{layer}.lora_E": [True, False]}, "RANK_MISMATCH"),
        ({f"{layer}.lora_E": [False, False]}, "RANK_MISMATCH"),
        ({"model.layers.9.q_proj.lora_E": [True, True]}, "UNKNOWN_LAYER"),
        ({"model.layers.0.mlp.up_proj.lora_E": [True, True]}, "LAYER_NOT_TARGETED"),
    ):
        yield _of_method(f"rank_pattern {given}", reason, "ADALORA", {"rank_pattern": given})


KINDS: dict[str, list[Hostile]] = {
    kind.__name__: list(kind())
    for kind in (
        pickles, archives, unfit_types, header_lengths, truncated, trailing, bad_json,
        bad_encodings, duplicate_keys, deep_nesting, bad_metadata, bad_entries, unknown_types,
        bad_shapes, bad_offsets, wrong_sizes, bad_layouts, not_finite, missing_matrices,
        wrong_shapes, wrong_layers, other_tensors, options, settings, configurations,
        forbidden_files, manifests, damaged, other_bases, parts_of_methods, tensors_of_methods,
        options_of_methods,
    )
}  # fmt: skip
"""All of them, by kind."""
