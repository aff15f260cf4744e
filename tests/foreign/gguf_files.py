"""Toy checkpoints as GGUF files, by the gguf package's writer, and what their bytes stand for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file
from torch import Tensor

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.gate": "ffn_gate_inp",
}
EXPERT = re.compile(r"(model\.layers\.(\d+))\.\w+\.experts\.(\d+)\.(\w+)\.weight")
MATRICES = {
    "w1": "gate",
    "w3": "up",
    "w2": "down",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
}
FormatOf = Callable[[str], str]  # of a matrix by its Hugging Face name


def write_gguf(
    source: Path,
    folder: Path,
    format_of: FormatOf | str,
    *,
    rope_factors: list[float] | None = None,
    tensors_of_part: int = 0,
    **fields: object,
) -> Path:
    """The checkpoint `source` as `folder`/toy.gguf, and what it holds as the checkpoint
    `folder`/oracle in float32; `fields` replace metadata, None removes it.
    """
    config = json.loads((source / "config.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    arch = arch_of(config)
    writer = GGUFWriter(folder / "toy.gguf", arch, split_max_tensors=tensors_of_part)
    add_metadata(writer, metadata_of(config) | fields)
    if rope_factors:
        writer.add_tensor("rope_freqs.weight", np.array(rope_factors, np.float32))
    held: dict[str, Tensor] = {}
    tensors = load_file(source / "model.safetensors")
    for name, tensor in tensors.items():
        given = format_of if isinstance(format_of, str) else format_of(name)
        is_float = tensor.dim() != 2 or name.endswith(".gate.weight")
        kind = GGMLQuantizationType["F32" if is_float else given]
        if EXPERT.fullmatch(name):
            held |= add_experts(writer, tensors, name, kind)
            continue
        ordered = interleaved(name, tensor.float(), config).numpy()
        data = as_bytes(ordered, kind)
        writer.add_tensor(gguf_name(name), data, raw_dtype=kind)
        held[name] = apart(name, torch.from_numpy(dequantize(data, kind)).clone(), config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "oracle").mkdir()
    (folder / "oracle" / "config.json").write_text(json.dumps(config))
    save_file(held, folder / "oracle" / "model.safetensors", metadata={"format": "pt"})
    return min(folder.glob("toy*.gguf"))


def add_experts(
    writer: GGUFWriter, tensors: Mapping[str, Tensor], name: str, kind: GGMLQuantizationType
) -> dict[str, Tensor]:
    """All experts of a layer in one tensor, once the first of them comes; what it holds of each."""
    found = EXPERT.fullmatch(name)
    assert found
    if found[3] != "0":
        return {}
    names = [name.replace(".experts.0.", f".experts.{i}.") for i in range(len(tensors))]
    names = [it for it in names if it in tensors]
    data = as_bytes(torch.stack([tensors[it].float() for it in names]).numpy(), kind)
    writer.add_tensor(f"blk.{found[2]}.ffn_{MATRICES[found[4]]}_exps.weight", data, raw_dtype=kind)
    parts = torch.from_numpy(dequantize(data, kind).copy())
    return {it: part.clone() for it, part in zip(names, parts, strict=True)}


def arch_of(config: Mapping[str, object]) -> str:
    """What llama.cpp calls the architecture."""
    names = {"mistral": "llama", "mixtral": "llama", "qwen3_moe": "qwen3moe"}
    model_type = str(config["model_type"])
    return names.get(model_type, model_type)


def metadata_of(config: Mapping[str, object]) -> dict[str, object]:
    """What llama.cpp's converter writes for these models."""
    arch = arch_of(config)
    rope = config.get("rope_parameters") or {}
    experts = config.get("num_local_experts")
    return {
        f"{arch}.expert_count": experts,
        f"{arch}.expert_used_count": config.get("num_experts_per_tok"),
        f"{arch}.expert_feed_forward_length": config.get("moe_intermediate_size"),
        f"{arch}.block_count": config["num_hidden_layers"],
        f"{arch}.embedding_length": config["hidden_size"],
        f"{arch}.feed_forward_length": config["intermediate_size"],
        f"{arch}.attention.head_count": config["num_attention_heads"],
        f"{arch}.attention.head_count_kv": config["num_key_value_heads"],
        f"{arch}.attention.key_length": config.get("head_dim", 16),
        f"{arch}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        f"{arch}.context_length": config["max_position_embeddings"],
        f"{arch}.rope.freq_base": float(rope.get("rope_theta", 10_000.0)),
        "tokenizer.ggml.tokens": [str(i) for i in range(int(config["vocab_size"]))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def add_metadata(writer: GGUFWriter, fields: Mapping[str, object]) -> None:
    for key, value in fields.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            writer.add_uint32(key, value)


def gguf_name(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{suffix}"
    layer, _, module = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{NAMES[module]}.{suffix}"


def as_bytes(values: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    """Quantized by the package where it can, else random codes with scales of about that size."""
    if kind.name.endswith("_K"):
        return random_blocks(values.shape, kind)
    return quantize(values, kind)


# Where the fp16 factors of a block lie, and how large they make the weights of toy models.
FACTORS = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
SIZES = {"Q2_K": 3e-2, "Q3_K": 2e-3, "Q4_K": 4e-4, "Q5_K": 2e-4, "Q6_K": 6e-5}


def random_blocks(shape: tuple[int, ...], kind: GGMLQuantizationType) -> np.ndarray:
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(shape[0])
    blocks = generator.integers(0, 256, (*shape[:-1], shape[-1] // block, block_bytes), np.uint8)
    for offset in FACTORS[kind.name]:
        factor = generator.uniform(0.5, 1, blocks.shape[:-1]) * SIZES[kind.name]
        blocks[..., offset : offset + 2] = factor.astype(np.float16)[..., None].view(np.uint8)
    return blocks.reshape(*shape[:-1], -1)


def interleaved(name: str, tensor: Tensor, config: Mapping[str, object]) -> Tensor:
    """The rows of llama's queries and keys as llama.cpp's converter orders them."""
    if not is_paired(name, config):
        return tensor
    heads = tensor.reshape(-1, 2, int(config["head_dim"]) // 2, *tensor.shape[1:])
    return heads.transpose(1, 2).reshape(tensor.shape).contiguous()


def apart(name: str, tensor: Tensor, config: Mapping[str, object]) -> Tensor:
    """The inverse of `interleaved`."""
    if not is_paired(name, config):
        return tensor
    heads = tensor.reshape(-1, int(config["head_dim"]) // 2, 2, *tensor.shape[1:])
    return heads.transpose(1, 2).reshape(tensor.shape).contiguous()


def is_paired(name: str, config: Mapping[str, object]) -> bool:
    return arch_of(config) == "llama" and ("q_proj" in name or "k_proj" in name)
