"""llama.cpp in its own environment: answers prompts with a model that it is given.

Knows nothing but the standard library, numpy, gguf and llama_cpp.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OTHERS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def main() -> None:
    """Write the model as GGUF, let it answer, and print tokens and seconds between them."""
    task = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        path = Path(folder) / "model.gguf"
        convert(Path(task["model"]), path, exact=task["precision"] == "fp32")
        print(json.dumps(answer(path, task)), flush=True)


def answer(path: Path, task: dict[str, Any]) -> dict[str, list[Any]]:
    """Answer the prompts greedily, one after the other."""
    from llama_cpp import Llama  # noqa: PLC0415 - only in its own environment

    # Type 0: keys and values in float32, which ours are, too.
    model = Llama(
        str(path),
        n_ctx=1024,
        n_threads=task["threads"],
        n_threads_batch=task["threads"],
        type_k=0,
        type_v=0,
        verbose=False,
    )
    tokens, latencies = [], []
    for prompt in task["prompts"]:
        model.reset()
        written, times = [], []
        for token in model.generate(prompt, temp=0.0):
            written.append(token)
            times.append(time.perf_counter())
            if len(written) == task["count"]:
                break
        tokens.append(written)
        latencies.append((times[-1] - times[0]) / (len(times) - 1))
    return {"tokens": tokens, "latencies": latencies}


def convert(folder: Path, path: Path, *, exact: bool) -> None:
    """Write a Llama that transformers saved in bfloat16, matrices in float32 or bfloat16."""
    import gguf  # noqa: PLC0415

    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(tokenizer["vocab"], key=tokenizer["vocab"].get))
    writer.add_token_types([1] * config["vocab_size"])
    writer.add_token_merges(
        [one if isinstance(one, str) else " ".join(one) for one in tokenizer["merges"]]
    )
    for name, bits in tensors(folder / "model.safetensors"):
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            bits = paired(bits, heads if "q_proj" in name else key_heads)
        if exact or bits.ndim == 1:
            writer.add_tensor(gguf_name(name), (bits.astype("uint32") << 16).view("float32"))
        else:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(gguf_name(name), bits.view("uint8"), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(path: Path) -> Any:
    """Yield the tensors of a safetensors file in bfloat16, as the 16 bits that they are."""
    import numpy as np  # noqa: PLC0415

    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    for name, one in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            first, last = one["data_offsets"]
            bits = np.frombuffer(data[8 + size + first : 8 + size + last], "<u2")
            yield name, bits.reshape(one["shape"])


def paired(bits: Any, heads: int) -> Any:
    """Return a matrix with the two numbers that a rotation turns beside each other."""
    rows, columns = bits.shape
    halves = bits.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns).copy()


def gguf_name(name: str) -> str:
    """Return what GGUF calls a tensor of transformers' Llama."""
    name = name.removesuffix(".weight")
    if name in _OTHERS:
        return f"{_OTHERS[name]}.weight"
    layer, part = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{_LAYER[part]}.weight"


if __name__ == "__main__":
    main()
