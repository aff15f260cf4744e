"""Convert a Llama or Mixtral checkpoint from Hugging Face layout to one GGUF file.

One tensor at a time; the experts of a layer are one. Weights keep their dtype (norms and routers
become fp32, as llama.cpp wants them); there is no vocabulary, because the benchmark gives token
ids. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarks.peers.safetensors_files import Source, sources_of
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

FORMATS = {
    "BF16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16, 2),
    "F16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16, 2),
    "F32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32, 4),
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
}
MLP_NAMES = {
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ROUTER = "ffn_gate_inp"
EXPERT_NAMES = {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}
MIXTURE = "block_sparse_moe"


def names_in_order(config: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """GGUF names in the order in which a forward pass reads them, each with those that it joins."""
    experts = config.get("num_local_experts", 1)
    names = LAYER_NAMES if experts > 1 else {**LAYER_NAMES, **MLP_NAMES}
    yield "token_embd.weight", ["model.embed_tokens.weight"]
    for layer in range(config["num_hidden_layers"]):
        ours, theirs = f"blk.{layer}", f"model.layers.{layer}"
        for name, gguf_name in names.items():
            yield f"{ours}.{gguf_name}.weight", [f"{theirs}.{name}.weight"]
        if experts > 1:
            yield f"{ours}.{ROUTER}.weight", [f"{theirs}.{MIXTURE}.gate.weight"]
            for name, gguf_name in EXPERT_NAMES.items():
                prefix = f"{theirs}.{MIXTURE}.experts"
                joined = [f"{prefix}.{number}.{name}.weight" for number in range(experts)]
                yield f"{ours}.{gguf_name}.weight", joined
    yield "output_norm.weight", ["model.norm.weight"]
    yield "output.weight", ["lm_head.weight"]


def rows_for_rope(source: Source, heads: int) -> npt.NDArray[np.uint8]:
    """Rows of q or k, (heads * head_dim, hidden), from rotated halves to GGUF's rotated pairs."""
    rows, _ = source.shape
    halves = source.read().reshape(heads, 2, rows // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2))


def is_fp32(gguf_name: str, source: Source) -> bool:
    """Norms and routers."""
    return len(source.shape) == 1 or ROUTER in gguf_name


def data_of(
    gguf_name: str, joined: list[Source], config: dict[str, Any]
) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    """What the file holds of a tensor."""
    source = joined[0]
    if is_fp32(gguf_name, source):
        return source.as_fp32()
    if len(joined) > 1:
        return np.concatenate([part.read() for part in joined])
    return matrix_bytes(source, gguf_name, config)


def matrix_bytes(source: Source, gguf_name: str, config: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """The bytes of a two-dimensional weight as the file holds them."""
    if "attn_q." in gguf_name:
        return rows_for_rope(source, config["num_attention_heads"])
    if "attn_k." in gguf_name:
        return rows_for_rope(source, config["num_key_value_heads"])
    return source.read()


def add_metadata(writer: GGUFWriter, config: dict[str, Any], dtype: str) -> None:
    """The keys that llama.cpp requires of architecture `llama` without a vocabulary."""
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if "num_local_experts" in config:
        writer.add_expert_count(config["num_local_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_file_type(FORMATS[dtype][1])
    writer.add_tokenizer_model("none")


def declare_tensor(writer: GGUFWriter, name: str, joined: list[Source]) -> None:
    """Announce a tensor: fp32 for norms and routers, the checkpoint's dtype for others."""
    source, count = joined[0], len(joined)
    kind, _, element_bytes = FORMATS[source.dtype]
    if is_fp32(name, source):
        fp32_bytes = source.size_bytes // element_bytes * 4
        writer.add_tensor_info(name, source.shape, np.dtype(np.float32), fp32_bytes)
    else:
        # the writer wants the shape in bytes where the data come as bytes
        stack = (count,) if count > 1 else ()
        shape = (*stack, source.shape[0], source.shape[1] * element_bytes)
        writer.add_tensor_info(name, shape, np.dtype(np.uint8), count * source.size_bytes, kind)


def convert(folder: Path, target: Path) -> None:
    """Write `target` (beside it first, then renamed) unless it exists."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    config = json.loads((folder / "config.json").read_text())
    sources = sources_of(folder)
    tensors = [(name, [sources[it] for it in joined]) for name, joined in names_in_order(config)]
    writer = GGUFWriter(partial, "llama")
    add_metadata(writer, config, sources["lm_head.weight"].dtype)
    for name, joined in tensors:
        declare_tensor(writer, name, joined)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, joined in tensors:
        writer.write_tensor_data(data_of(name, joined, config))
    writer.close()
    os.replace(partial, target)
