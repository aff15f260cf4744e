"""Convert a Llama checkpoint from Hugging Face layout for CTranslate2, without torch.

The layout of the specification is that of CTranslate2's own converter (`LlamaLoader` in
`converters/transformers.py`); the vocabulary is the token ids in words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.peers.safetensors_files import Source, sources_of
from ctranslate2.specs import common_spec, transformer_spec

Sources = dict[str, Source]


def convert(folder: Path, target: Path, quantization: str) -> None:
    """Write the folder `target` (beside it first, then renamed) unless it exists."""
    if target.exists():
        return
    config = json.loads((folder / "config.json").read_text())
    spec = empty_spec(config)
    fill(spec, sources_of(folder))
    spec.register_vocabulary([str(token_id) for token_id in range(config["vocab_size"])])
    spec.config.bos_token, spec.config.eos_token = "1", "2"
    spec.config.unk_token = "0"
    spec.config.layer_norm_epsilon = config["rms_norm_eps"]
    spec.validate()
    spec.optimize(quantization=quantization)
    partial = target.with_name(target.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    spec.save(str(partial))
    partial.rename(target)


def empty_spec(config: dict[str, Any]) -> Any:
    """The architecture without weights."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    return transformer_spec.TransformerDecoderModelSpec.from_config(
        config["num_hidden_layers"],
        heads,
        activation=common_spec.Activation.SWISH,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=config["rope_theta"],
        num_heads_kv=None if kv_heads == heads else kv_heads,
    )


def fill(spec: Any, sources: Sources) -> None:
    """All weights in fp32: CTranslate2 stores them in the format asked for."""
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = sources["model.embed_tokens.weight"].as_fp32()
    decoder.layer_norm.gamma = sources["model.norm.weight"].as_fp32()
    decoder.projection.weight = sources["lm_head.weight"].as_fp32()
    for index, layer in enumerate(decoder.layer):
        fill_layer(layer, f"model.layers.{index}", sources)


def fill_layer(layer: Any, prefix: str, sources: Sources) -> None:
    """One layer; query, key and value in one matrix."""

    def weight(name: str) -> Any:
        return sources[f"{prefix}.{name}.weight"].as_fp32()

    attention, ffn = layer.self_attention, layer.ffn
    attention.layer_norm.gamma = weight("input_layernorm")
    attention.linear[0].weight = np.concatenate([weight(f"self_attn.{x}_proj") for x in "qkv"])
    attention.linear[1].weight = weight("self_attn.o_proj")
    ffn.layer_norm.gamma = weight("post_attention_layernorm")
    ffn.linear_0.weight = weight("mlp.gate_proj")
    ffn.linear_0_noact.weight = weight("mlp.up_proj")
    ffn.linear_1.weight = weight("mlp.down_proj")
