"""Convert a Llama checkpoint from Hugging Face layout to one GGUF file, one tensor at a time.

Weights keep their dtype (norms become fp32, as llama.cpp wants them); there is no vocabulary,
because the benchmark gives token ids. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
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
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def names_in_order(layers: int) -> Iterator[tuple[str, str]]:
    """(GGUF name, Hugging Face name) in the order in which a forward pass reads them."""
    yield "token_embd.weight", "model.embed_tokens.weight"
    for layer in range(layers):
        for theirs, gguf_name in LAYER_NAMES.items():
            yield f"blk.{layer}.{gguf_name}.weight", f"model.layers.{layer}.{theirs}.weight"
    yield "output_norm.weight", "model.norm.weight"
    yield "output.weight", "lm_head.weight"


def rows_for_rope(source: Source, heads: int) -> npt.NDArray[np.uint8]:
    """Rows of q or k, (heads * head_dim, hidden), from rotated halves to GGUF's rotated pairs."""
    rows, _ = source.shape
    halves = source.read().reshape(heads, 2, rows // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2))


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
    writer.add_file_type(FORMATS[dtype][1])
    writer.add_tokenizer_model("none")


def declare_tensor(writer: GGUFWriter, name: str, source: Source) -> None:
    """Announce a tensor: fp32 for norms, the checkpoint's dtype for matrices."""
    kind, _, element_bytes = FORMATS[source.dtype]
    if len(source.shape) == 1:
        fp32_bytes = source.size_bytes // element_bytes * 4
        writer.add_tensor_info(name, source.shape, np.dtype(np.float32), fp32_bytes)
    else:
        # the writer wants the shape in bytes where the data come as bytes
        shape = (source.shape[0], source.shape[1] * element_bytes)
        writer.add_tensor_info(name, shape, np.dtype(np.uint8), source.size_bytes, kind)


def convert(folder: Path, target: Path) -> None:
    """Write `target` (beside it first, then renamed) unless it exists."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    config = json.loads((folder / "config.json").read_text())
    sources = sources_of(folder)
    names = list(names_in_order(config["num_hidden_layers"]))
    writer = GGUFWriter(partial, "llama")
    add_metadata(writer, config, sources["lm_head.weight"].dtype)
    for gguf_name, name in names:
        declare_tensor(writer, gguf_name, sources[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for gguf_name, name in names:
        source = sources[name]
        norm = len(source.shape) == 1
        writer.write_tensor_data(
            source.as_fp32() if norm else matrix_bytes(source, gguf_name, config)
        )
    writer.close()
    os.replace(partial, target)
