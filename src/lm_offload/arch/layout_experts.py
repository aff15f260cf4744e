"""Tensor names and shapes of routers and experts as Hugging Face writes them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import (
    CHOICE_BIAS,
    ROUTER,
    SHARED_GATE,
    WeightSpec,
    linear_specs,
    norm_spec,
    stacked_mlp,
)


class _Names(NamedTuple):
    """What a model type calls the block of a layer, and the matrices of an expert by role."""

    block: str  # and a dot, if there is one
    matrices: dict[str, str]
    router: str = "gate"
    shared: str = "shared_experts"
    choice_bias: str = "gate.e_score_correction_bias"
    choice_rows: tuple[int, ...] = ()  # in front of its shape
    norm: str | None = "post_attention_layernorm"  # of what the experts read


_USUAL = _Names("mlp.", {role: role for role in ("gate_proj", "up_proj", "down_proj")})
_MIXTRAL = _Names("block_sparse_moe.", {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"})
# Some stack their experts, so these names are in no file: foreign/, storage/stacks.py.
_GPT_OSS = _Names(_USUAL.block, _USUAL.matrices, "router")
_GRANITE = _Names(_MIXTRAL.block, _USUAL.matrices, "router.layer")
_ERNIE = _USUAL._replace(choice_bias="moe_statics.e_score_correction_bias", choice_rows=(1,))
_LFM2 = _MIXTRAL._replace(block="feed_forward.", choice_bias="expert_bias", norm="ffn_norm")
_AFMOE = _USUAL._replace(router="router.gate", choice_bias="expert_bias", norm="pre_mlp_layernorm")
_ONE_SHARED = _USUAL._replace(shared="shared_expert")
_NAMES = {
    "mixtral": _MIXTRAL,
    "gpt_oss": _GPT_OSS,
    "granitemoe": _GRANITE,
    "granitemoehybrid": _GRANITE,
    "nemotron_h": _USUAL._replace(block="mixer.", norm="norm"),
    "ernie4_5_moe": _ERNIE,
    "hunyuan_v1_moe": _USUAL._replace(router="gate.wg", shared="shared_mlp"),
    "llama4_text": _Names("feed_forward.", _USUAL.matrices, "router", shared="shared_expert"),
    "gemma4_text": _Names("", _USUAL.matrices, "router.proj", norm="pre_feedforward_layernorm_2"),
    "phimoe": _MIXTRAL,
    "lfm2_moe": _LFM2,
    "afmoe": _AFMOE,
    "flex_olmo": _USUAL._replace(norm=None),
    "exaone_moe": _USUAL._replace(choice_bias="e_score_correction_bias"),
    "minimax_m2": _MIXTRAL._replace(choice_bias="e_score_correction_bias"),
    **dict.fromkeys(("qwen2_moe", "qwen3_next", "qwen3_5_moe_text"), _ONE_SHARED),
}


def router_name(model_type: str, layer: int | str) -> str:
    """Of the matrix that scores the experts of a layer."""
    names = _names(model_type)
    return f"model.layers.{layer}.{names.block}{names.router}.weight"


def choice_bias_name(model_type: str, layer: int | str) -> str:
    """Of what is added to the scores of a layer's experts when they are chosen."""
    names = _names(model_type)
    return f"model.layers.{layer}.{names.block}{names.choice_bias}"


def shared_name(model_type: str, layer: int | str) -> str:
    """Of the block of the expert that every token uses."""
    if model_type == "granitemoehybrid":
        return f"model.layers.{layer}.shared_mlp"
    names = _names(model_type)
    return f"model.layers.{layer}.{names.block}{names.shared}"


def expert_name(model_type: str, layer: int | str, expert: int, role: str) -> str:
    """Of one matrix of an expert: gate_proj, up_proj or down_proj."""
    names = _names(model_type)
    return f"model.layers.{layer}.{names.block}experts.{expert}.{names.matrices[role]}.weight"


def router_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The norm of what the experts read, what scores them, and a shared expert."""
    prefix, hidden = f"model.layers.{layer}", config.hidden_size
    name, shape = router_name(config.model_type, layer), (config.num_experts, hidden)
    return (
        *_norm(config, prefix),
        *linear_specs(name.removesuffix(".weight"), ROUTER, shape, config.mlp_bias),
        *_router_scales(config, prefix),
        *_choice_bias(config, layer),
        *([] if shared_is_summed(config) else shared_weights(config, layer)),
        *_narrowing(config, prefix),
    )


def expert_weights(config: ModelConfig, layer: int, expert: int) -> tuple[WeightSpec, ...]:
    """The matrices of one expert, and their biases where it has them."""
    specs = []
    wide = config.narrowed_size or config.hidden_size
    for role, shape in _shapes(config, config.intermediate_size, wide).items():
        name = expert_name(config.model_type, layer, expert, role).removesuffix(".weight")
        specs += linear_specs(name, role, shape, config.mlp_bias)
    return tuple(replace(spec, of_expert=True) for spec in specs)


def shared_is_summed(config: ModelConfig) -> bool:
    """Whether what the expert that all use says is normalised with what the others say."""
    return config.summed_experts and config.post_norms


def _norm(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    """Of what experts read, and its biases where it has them."""
    name, hidden = _names(config.model_type).norm, config.hidden_size
    if name is None:
        return []
    specs = [norm_spec(f"{prefix}.{name}", "input_norm", hidden)]
    if config.norm_biases:
        specs.append(WeightSpec(f"{prefix}.{name}.bias", "input_norm_bias", (hidden,)))
    return specs


def sum_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """Norms of what the MLP beside the experts adds, and of what these add together."""
    names = {
        "dense_norm": "post_feedforward_layernorm_1",
        "sum_norm": "post_feedforward_layernorm_2",
    }
    prefix, size = f"model.layers.{layer}", config.hidden_size
    return tuple(norm_spec(f"{prefix}.{name}", role, size) for role, name in names.items())


def _narrowing(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    """What makes of the router's input what experts read, where that is narrower."""
    if not config.narrowed_size:
        return []
    name, shape = f"{prefix}.mixer.fc1_latent_proj", (config.narrowed_size, config.hidden_size)
    return linear_specs(name, "narrow_proj", shape, bias=False)


def _router_scales(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    """Of what a router reads, and of what each expert adds."""
    if config.model_type != "gemma4_text":
        return []
    return [
        WeightSpec(f"{prefix}.router.scale", "router_norm", (config.hidden_size,)),
        WeightSpec(f"{prefix}.router.per_expert_scale", "expert_scales", (config.num_experts,)),
    ]


def _choice_bias(config: ModelConfig, layer: int) -> list[WeightSpec]:
    """What is added to the scores of the experts when they are chosen."""
    if not config.choice_bias:
        return []
    shape = (*_names(config.model_type).choice_rows, config.num_experts)
    return [WeightSpec(choice_bias_name(config.model_type, layer), CHOICE_BIAS, shape)]


def shared_weights(config: ModelConfig, layer: int) -> list[WeightSpec]:
    """The matrices of the expert that every token uses, and the one that scores it."""
    if not config.shared_size:
        return []
    shared = shared_name(config.model_type, layer)
    if config.model_type == "granitemoehybrid":
        return stacked_mlp(shared, config.hidden_size, config.shared_size)
    specs = [
        WeightSpec(f"{shared}.{role}.weight", role, shape)
        for role, shape in _shapes(config, config.shared_size, config.hidden_size).items()
    ]
    if config.shared_gate:
        specs.append(WeightSpec(f"{shared}_gate.weight", SHARED_GATE, (1, config.hidden_size)))
    return specs


def _shapes(config: ModelConfig, narrow: int, wide: int) -> dict[str, tuple[int, int]]:
    gate = {"gate_proj": (narrow, wide)} if config.gated else {}
    return {**gate, "up_proj": (narrow, wide), "down_proj": (wide, narrow)}


def _names(model_type: str) -> _Names:
    return _NAMES.get(model_type, _USUAL)
