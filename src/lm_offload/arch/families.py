"""One small parser for each `model_type`: Hugging Face's names and defaults to `ModelConfig`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lm_offload.arch.common import (
    Defaults,
    parse_decoder,
    parse_window,
    with_one_window,
    with_windows,
)
from lm_offload.arch.experts import Choice, with_experts
from lm_offload.arch.families_experts import parse_ernie4_5_moe, parse_granitemoe
from lm_offload.arch.families_llama import (
    parse_ernie4_5,
    parse_granite,
    parse_seed_oss,
    parse_smollm3,
)
from lm_offload.arch.family_deepseek import parse_deepseek_v2, parse_deepseek_v3
from lm_offload.arch.family_gemma import parse_gemma1, parse_gemma2, parse_gemma3_text
from lm_offload.arch.family_glm import parse_glm, parse_glm4, parse_glm4_moe
from lm_offload.arch.family_gpt_oss import parse_gpt_oss
from lm_offload.arch.family_olmo import parse_exaone4, parse_olmo2, parse_olmo3, parse_olmoe
from lm_offload.arch.family_opt import parse_opt
from lm_offload.arch.family_qwen_recurrent import (
    parse_qwen3_5,
    parse_qwen3_5_moe,
    parse_qwen3_next,
)
from lm_offload.arch.fields import Fields
from lm_offload.arch.newer_families import NEWER_PARSERS
from lm_offload.arch.shapes import ModelConfig


def parse_llama(fields: Fields) -> ModelConfig:
    """Llama 1 to 3 and everything that uses its shape."""
    bias = fields.flag("attention_bias", False)
    config = parse_decoder(fields, Defaults(2048, bos=1, eos=(2,)))
    mlp_bias = fields.flag("mlp_bias", False)
    return replace(config, qkv_bias=bias, output_bias=bias, mlp_bias=mlp_bias)


def parse_mistral(fields: Fields) -> ModelConfig:
    """Mistral: Llama with one sliding window for all layers."""
    _refuse_biases(fields)
    config = parse_decoder(fields, Defaults(131_072, bos=1, eos=(2,), kv_heads=8))
    return with_one_window(config, fields, parse_window(fields, 4096))


def parse_qwen2(fields: Fields) -> ModelConfig:
    """Qwen 2 and 2.5: biases on queries, keys and values; a window in the upper layers."""
    fields.must_be("mlp_bias", False)
    config = parse_decoder(fields, Defaults(32_768, kv_heads=32))
    return replace(_with_upper_window(config, fields), qkv_bias=True)


def parse_qwen3(fields: Fields) -> ModelConfig:
    """Qwen 3, dense: queries and keys normalised by head."""
    config = _parse_qwen3(fields, Defaults(32_768, kv_heads=32, head_dim=128))
    return _with_upper_window(config, fields)


def parse_phi3(fields: Fields) -> ModelConfig:
    """Phi-3 and Phi-4-mini: fused projections, partial rotary, longrope."""
    _refuse_biases(fields)
    original = {"original_max_position_embeddings": 4096}
    fields = Fields({**original, **fields.raw, **_phi3_rope(fields)}, fields.where)
    config = parse_decoder(fields, Defaults(4096, bos=1, eos=(32000,), norm_eps=1e-5))
    config = with_one_window(config, fields, parse_window(fields))
    return replace(config, fused_qkv=True, fused_gate_up=True)


def parse_mixtral(fields: Fields) -> ModelConfig:
    """Mixtral: Mistral with a router and experts instead of one MLP."""
    _refuse_biases(fields)
    fields = Fields({"rope_theta": 1e6, **fields.raw}, fields.where)
    config = parse_decoder(fields, Defaults(131_072, bos=1, eos=(2,), kv_heads=8, norm_eps=1e-5))
    config = with_experts(config, fields, "num_local_experts", Choice(8, 2))
    return with_one_window(config, fields, parse_window(fields))


def parse_qwen3_moe(fields: Fields) -> ModelConfig:
    """Qwen 3 with experts in every layer, narrower than a dense MLP of the same model."""
    fields.must_be("decoder_sparse_step", 1)
    fields.must_be("mlp_only_layers", [])
    fields.must_be("use_sliding_window", False)
    config = _parse_qwen3(fields, Defaults(32_768, kv_heads=4))
    key = "num_experts" if "num_experts" in fields.raw else "num_local_experts"
    config = with_experts(config, fields, key, Choice(128, 8))
    width = fields.integer("moe_intermediate_size", 768)
    scaled = fields.flag("norm_topk_prob", False)
    return replace(config, intermediate_size=width, scaled_to_one=scaled)


def parse_qwen2_moe(fields: Fields) -> ModelConfig:
    """Qwen 1.5 and 2 with experts in every layer, and one that every token uses."""
    fields.must_be("decoder_sparse_step", 1)
    fields.must_be("mlp_only_layers", [])
    fields.must_be("use_sliding_window", False)
    fields.must_be("mlp_bias", False)
    config = parse_decoder(fields, Defaults(32_768, kv_heads=16))
    return replace(
        with_experts(config, fields, "num_experts", Choice(60, 4)),
        intermediate_size=fields.integer("moe_intermediate_size", 1408),
        shared_size=fields.integer("shared_expert_intermediate_size", 5632),
        shared_gate=True,
        scaled_to_one=fields.flag("norm_topk_prob", False),
        qkv_bias=fields.flag("qkv_bias", True),
    )


PARSERS: dict[str, Callable[[Fields], ModelConfig]] = {
    "llama": parse_llama,
    "mistral": parse_mistral,
    "qwen2": parse_qwen2,
    "qwen3": parse_qwen3,
    "phi3": parse_phi3,
    "gemma2": parse_gemma2,
    "gemma3_text": parse_gemma3_text,
    "opt": parse_opt,
    "mixtral": parse_mixtral,
    "qwen3_moe": parse_qwen3_moe,
    "gpt_oss": parse_gpt_oss,
    "qwen2_moe": parse_qwen2_moe,
    "olmoe": parse_olmoe,
    "olmo2": parse_olmo2,
    "olmo3": parse_olmo3,
    "exaone4": parse_exaone4,
    "glm": parse_glm,
    "glm4": parse_glm4,
    "glm4_moe": parse_glm4_moe,
    "smollm3": parse_smollm3,
    "granite": parse_granite,
    "seed_oss": parse_seed_oss,
    "deepseek_v2": parse_deepseek_v2,
    "deepseek_v3": parse_deepseek_v3,
    "ernie4_5": parse_ernie4_5,
    "ernie4_5_moe": parse_ernie4_5_moe,
    "granitemoe": parse_granitemoe,
    "gemma": parse_gemma1,
    "qwen3_next": parse_qwen3_next,
    "qwen3_5_text": parse_qwen3_5,
    "qwen3_5_moe_text": parse_qwen3_5_moe,
    **NEWER_PARSERS,
}


def _refuse_biases(fields: Fields) -> None:
    fields.must_be("attention_bias", False)
    fields.must_be("mlp_bias", False)


def _parse_qwen3(fields: Fields, defaults: Defaults) -> ModelConfig:
    """What both kinds of Qwen 3 share."""
    fields.must_be("mlp_bias", False)
    bias = fields.flag("attention_bias", False)
    config = parse_decoder(fields, defaults)
    return replace(config, qkv_bias=bias, output_bias=bias, qk_norm=True)


def _with_upper_window(config: ModelConfig, fields: Fields) -> ModelConfig:
    """Qwen's window, where it is switched on, starts at layer `max_window_layers`."""
    first = fields.integer("max_window_layers", 28, minimum=0)
    window = parse_window(fields, 4096) if fields.flag("use_sliding_window", False) else None
    sliding = [window is not None and i >= first for i in range(config.num_layers)]
    return with_windows(config, fields, window, sliding)


def _phi3_rope(fields: Fields) -> dict[str, object]:
    """Early Phi-3 configs call longrope `su` or `yarn`."""
    section = fields.section("rope_scaling") or fields.section("rope_parameters")
    if section is None:
        return {}
    kind = section.text("rope_type", section.text("type", "default"))
    kind = "longrope" if kind in ("su", "yarn") else kind
    Fields({"rope type": kind}, section.where).must_be("rope type", "default", "longrope")
    return {"rope_scaling": {**section.raw, "rope_type": kind}, "rope_parameters": None}
