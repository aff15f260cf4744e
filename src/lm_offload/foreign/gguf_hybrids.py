"""Keys of the architectures with recurrent layers; which these are, their tensors say."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.foreign.gguf_dense import multiplied
from lm_offload.foreign.gguf_mixtures import expert_counts
from lm_offload.foreign.gguf_rope import Shapes
from lm_offload.foreign.gguf_sigmoids import SIGMOID

_FUSED = "blk.0.ssm_in.weight"  # of early files of Qwen3-Next
_CONVOLUTION_BIAS = "ssm_conv1d.bias"


def qwen3next(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Qwen3-Next, whose projections are apart as those of Qwen3.5 but in early files."""
    kind = "qwen3_next" if _FUSED in tensors else "qwen3_5_moe_text"
    return {**_with_experts(fields, shapes, tensors), "model_type": kind}


def qwen35(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Qwen3.5 and 3.6, dense."""
    fields.must_be("expert_count", 0)
    return {"model_type": "qwen3_5_text", **_delta(fields, shapes, tensors)}


def qwen35moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Qwen3.5 and 3.6 with experts."""
    return {**_with_experts(fields, shapes, tensors), "model_type": "qwen3_5_moe_text"}


def granitehybrid(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Granite 4, H: an expert that every token uses beside the others, or alone."""
    count = fields.integer("expert_count", 0, minimum=0)
    chosen = expert_counts(fields, "num_local_experts") if count else {"num_local_experts": 0}
    heads, rotates = (
        fields.integer("ssm.time_step_rank"),
        fields.flag("rope.scaling.finetuned", True),
    )
    inner, hidden = fields.integer("ssm.inner_size"), int(shapes["hidden_size"])
    if inner % hidden:
        raise fields.wrong("ssm.inner_size", f"a multiple of embedding_length={hidden}")
    return {
        **multiplied(fields, shapes, tensors),
        "model_type": "granitemoehybrid",
        "layer_types": _kinds(shapes, tensors, "mamba", "attention"),
        "position_embedding_type": "rope" if rotates else "nope",
        "shared_intermediate_size": fields.integer(
            "expert_shared_feed_forward_length", shapes["intermediate_size"]
        ),
        "mamba_expand": inner // hidden,
        "mamba_n_heads": heads,
        "mamba_n_groups": fields.integer("ssm.group_count", 1),
        "mamba_d_state": fields.integer("ssm.state_size"),
        "mamba_d_conv": fields.integer("ssm.conv_kernel"),
        "mamba_conv_bias": any(name.endswith(_CONVOLUTION_BIAS) for name in tensors),
        **chosen,
    }


def lfm2(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """LFM2: the width of its MLP is what it has."""
    fields.must_be("expert_count", 0)
    widths = {"block_auto_adjust_ff_dim": False}
    return {"model_type": "lfm2", **_short_convolutions(fields, shapes, tensors), **widths}


def lfm2moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """LFM2 with experts: their weights are scaled to one."""
    fields.must_be("expert_gating_func", SIGMOID)
    return {
        "model_type": "lfm2_moe",
        **_short_convolutions(fields, shapes, tensors),
        **expert_counts(fields, "num_experts"),
        "moe_intermediate_size": fields.integer("expert_feed_forward_length"),
        "num_dense_layers": fields.integer("leading_dense_block_count", 0, minimum=0),
        "use_expert_bias": any(".exp_probs_b" in name for name in tensors),
    }


def _short_convolutions(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    layers = range(int(shapes["num_hidden_layers"]))
    convolves = [f"blk.{it}.shortconv.conv.weight" in tensors for it in layers]
    return {
        "norm_eps": shapes["rms_norm_eps"],
        "conv_L_cache": fields.integer("shortconv.l_cache"),
        "layer_types": ["conv" if it else "full_attention" for it in convolves],
    }


def _with_experts(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    width = fields.integer("expert_feed_forward_length")
    return {
        **_delta(fields, shapes, tensors),
        **expert_counts(fields, "num_experts"),
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": fields.integer(
            "expert_shared_feed_forward_length", width
        ),
        "norm_topk_prob": True,
    }


def _delta(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """The sizes of gated delta nets, and which layers are."""
    heads, inner = fields.integer("ssm.time_step_rank"), fields.integer("ssm.inner_size")
    if inner % heads:
        raise fields.wrong("ssm.inner_size", f"a multiple of ssm.time_step_rank={heads}")
    return {
        "linear_num_key_heads": fields.integer("ssm.group_count"),
        "linear_num_value_heads": heads,
        "linear_key_head_dim": fields.integer("ssm.state_size"),
        "linear_value_head_dim": inner // heads,
        "linear_conv_kernel_dim": fields.integer("ssm.conv_kernel"),
        "layer_types": _kinds(shapes, tensors, "linear_attention", "full_attention"),
    }


def _kinds(shapes: Shapes, tensors: Collection[str], recurrent: str, attends: str) -> list[str]:
    layers = range(int(shapes["num_hidden_layers"]))
    return [recurrent if f"blk.{it}.ssm_out.weight" in tensors else attends for it in layers]
