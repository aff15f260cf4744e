"""Toy checkpoints as GGUF files, by the gguf package's writer, and what their bytes stand for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.foreign.gguf_changes import Change, change_of
from tests.foreign.gguf_metadata import add_metadata, arch_of, metadata_of

EXPERT = re.compile(r"(model\.layers\.(\d+))\.\w+\.experts\.(\d+)\.(\w+)\.weight")
STACK = re.compile(r"model\.layers\.(\d+)\.mlp\.experts\.(gate_up|down)_proj(_bias|)")
UPRIGHT = re.compile(
    r"model\.layers\.(\d+)\.(block_sparse_moe|mlp\.experts)\.(input_linear\.weight|"
    r"output_linear\.weight|gate_up_proj|down_proj)"
)
MATRICES = {
    "w1": "gate",
    "w3": "up",
    "w2": "down",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
}
PAIRED = (
    "llama",
    "smollm3",
    "granite",
    "granitemoe",
    "arcee",
    "mistral3",
)  # whose queries and keys the converter permutes
UNTOUCHED = (".gate.weight", ".router.weight", ".shared_expert_gate.weight")
FLOATS = ("ssm_conv1d.weight", "ssm_a", "ssm_d", "ssm_norm.weight")
FormatOf = Callable[[str], str]  # of a matrix by its Hugging Face name


def write_gguf(
    source: Path,
    folder: Path,
    format_of: FormatOf | str,
    *,
    vectors: Mapping[str, list[float]] | None = None,
    tensors_of_part: int = 0,
    **fields: object,
) -> Path:
    """The checkpoint `source` as `folder`/toy.gguf, and what it holds as the checkpoint
    `folder`/oracle in float32; `fields` replace metadata, None removes it.
    """
    config = json.loads((source / "config.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(folder / "toy.gguf", arch_of(config), split_max_tensors=tensors_of_part)
    add_metadata(writer, metadata_of(config) | fields)
    for name, values in (vectors or {}).items():
        writer.add_tensor(name, np.array(values, np.float32))
    held: dict[str, Tensor] = {}
    tensors = load_file(source / "model.safetensors")
    for name, tensor in tensors.items():
        given = format_of if isinstance(format_of, str) else format_of(name)
        is_stack = (STACK.fullmatch(name) or UPRIGHT.fullmatch(name)) and tensor.dim() == 3
        is_float = not is_stack and (
            tensor.dim() != 2 or name.endswith((*UNTOUCHED, "_bias", "_norm.weight"))
        )
        kind = GGMLQuantizationType["F32" if is_float else given]
        change = change_of(name, tensor.shape, config)
        if change:
            held[name] = add_changed(writer, change, tensor.float(), kind)
        elif EXPERT.fullmatch(name):
            held |= add_experts(writer, tensors, name, kind)
        elif STACK.fullmatch(name):
            upright = config["model_type"] != "gpt_oss"
            add = add_upright if upright else add_stack
            held[name] = add(writer, name, tensor.float(), kind)
        elif UPRIGHT.fullmatch(name):
            held[name] = add_upright(writer, name, tensor.float(), kind)
        else:
            held[name] = add_tensor(writer, config, name, tensor.float(), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "oracle").mkdir()
    (folder / "oracle" / "config.json").write_text(json.dumps(config))
    save_file(held, folder / "oracle" / "model.safetensors", metadata={"format": "pt"})
    return min(folder.glob("toy*.gguf"))


def add_tensor(
    writer: GGUFWriter,
    config: Mapping[str, Any],
    name: str,
    tensor: Tensor,
    kind: GGMLQuantizationType,
) -> Tensor:
    """One that is no expert's, and what the file holds of it."""
    adds_one = arch_of(config).startswith(("gemma", "nemotron", "qwen3next", "qwen35"))
    one = 1 if adds_one and name.endswith("norm.weight") else 0
    laid = (interleaved(name, tensor, config) + one).squeeze(0)
    laid = laid.squeeze(1) if name.endswith("conv.conv.weight") else laid
    data = as_bytes(laid.numpy(), kind)
    writer.add_tensor(gguf_name(name, config), data, raw_dtype=kind)
    stored = torch.from_numpy(dequantize(data, kind)).clone().view(tensor.shape)
    return apart(name, stored - one, config)


def add_changed(
    writer: GGUFWriter, change: Change, tensor: Tensor, kind: GGMLQuantizationType
) -> Tensor:
    """One of a recurrent layer, or of an MLP beside it."""
    held = []
    for name, part in zip(change.names, change.forward(tensor), strict=True):
        is_float = part.dim() == 1 or name.endswith(FLOATS)
        own = GGMLQuantizationType.F32 if is_float else kind
        data = as_bytes(part.numpy(), own)
        writer.add_tensor(name, data, raw_dtype=own)
        held.append(torch.from_numpy(dequantize(data, own).copy()))
    return change.back(held).clone()


def add_stack(writer: GGUFWriter, name: str, stack: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """Experts of gpt-oss, [E, in, out] or biases [E, out], rows of gate and up apart."""
    found = STACK.fullmatch(name)
    assert found
    rows = stack if found[3] else stack.transpose(1, 2)
    roles = ("gate", "up") if found[2] == "gate_up" else ("down",)
    held = torch.empty_like(rows)
    for turn, role in enumerate(roles):
        data = as_bytes(rows[:, turn :: len(roles)].contiguous().numpy(), kind)
        suffix = "bias" if found[3] else "weight"
        writer.add_tensor(f"blk.{found[1]}.ffn_{role}_exps.{suffix}", data, raw_dtype=kind)
        held[:, turn :: len(roles)] = torch.from_numpy(dequantize(data, kind).copy())
    return held if found[3] else held.transpose(1, 2).contiguous()


def add_upright(writer: GGUFWriter, name: str, stack: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """Experts of Granite, [E, out, in], rows of the gate in front of those of up."""
    found = UPRIGHT.fullmatch(name)
    assert found
    roles = ("gate", "up") if found[3].startswith(("input", "gate_up")) else ("down",)
    held = []
    for role, rows in zip(roles, stack.chunk(len(roles), 1), strict=True):
        data = as_bytes(rows.contiguous().numpy(), kind)
        writer.add_tensor(f"blk.{found[1]}.ffn_{role}_exps.weight", data, raw_dtype=kind)
        held.append(torch.from_numpy(dequantize(data, kind).copy()))
    return torch.cat(held, 1)


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


def gguf_name(name: str, config: Mapping[str, Any]) -> str:
    """As the gguf package maps it; the converter gives attention sinks a suffix."""
    name += ".weight" if name.endswith("sinks") else ""
    name = name.replace("e_score_correction_bias", "e_score_correction.bias")
    name += ".bias" if name.endswith("expert_bias") else ""
    arch = next(it for it, text in gguf.MODEL_ARCH_NAMES.items() if text == arch_of(config))
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    found = names.get_name(name, try_suffixes=(".weight", ".bias"))
    assert found, name
    return found


def as_bytes(values: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    """Quantized by the package where it can, else random codes with scales of about that size."""
    if kind.name in FACTORS:
        return random_blocks(values.shape, kind)
    return quantize(values, kind)


# Where the fp16 factors of a block lie, and how large they make the weights of toy models.
FACTORS = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
FACTORS |= dict.fromkeys(("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S"), (0,))
FACTORS |= dict.fromkeys(("IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"), (0,))
FACTORS |= {"IQ1_M": ()}  # is spread over its scales
SIZES = {"Q2_K": 3e-2, "Q3_K": 2e-3, "Q4_K": 4e-4, "Q5_K": 2e-4, "Q6_K": 6e-5}
SIZES |= {"IQ4_NL": 1e-3, "IQ4_XS": 5e-5}


def random_blocks(shape: tuple[int, ...], kind: GGMLQuantizationType) -> np.ndarray:
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(shape[0])
    blocks = generator.integers(0, 256, (*shape[:-1], shape[-1] // block, block_bytes), np.uint8)
    for offset in FACTORS[kind.name]:
        factor = generator.uniform(0.5, 1, blocks.shape[:-1]) * SIZES.get(kind.name, 1e-3)
        blocks[..., offset : offset + 2] = factor.astype(np.float16)[..., None].view(np.uint8)
    if kind.name == "IQ1_M":
        blocks[..., 49::2] = blocks[..., 49::2] & 15 | 32  # its highest bits lie in four bytes
    return blocks.reshape(*shape[:-1], -1)


def interleaved(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Tensor:
    """The rows of llama's queries and keys as llama.cpp's converter orders them."""
    if not is_paired(name, config):
        return tensor
    heads = tensor.reshape(-1, 2, int(config["head_dim"]) // 2, *tensor.shape[1:])
    return heads.transpose(1, 2).reshape(tensor.shape).contiguous()


def apart(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Tensor:
    """The inverse of `interleaved`."""
    if not is_paired(name, config):
        return tensor
    heads = tensor.reshape(-1, int(config["head_dim"]) // 2, 2, *tensor.shape[1:])
    return heads.transpose(1, 2).reshape(tensor.shape).contiguous()


def is_paired(name: str, config: Mapping[str, Any]) -> bool:
    return arch_of(config) in PAIRED and ("q_proj" in name or "k_proj" in name)
