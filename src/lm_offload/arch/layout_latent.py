"""Tensor names and shapes of multi-head latent attention as Hugging Face writes them."""

from __future__ import annotations

from lm_offload.arch.shapes import LatentShape, ModelConfig
from lm_offload.arch.weight_spec import LATENT_UP, WeightSpec, linear_specs, norm_spec


def latent_projections(config: ModelConfig, latent: LatentShape, prefix: str) -> list[WeightSpec]:
    """The matrices around the narrow vectors, and their norms."""
    hidden, heads, bias = config.hidden_size, config.num_heads, config.qkv_bias
    made = heads * (latent.other_dim + latent.value_dim)
    narrow = (latent.kv_rank + latent.rotated_dim, hidden)
    attended = heads * latent.value_dim
    return [
        *_queries(config, latent, prefix),
        *linear_specs(f"{prefix}.kv_a_proj_with_mqa", "kv_a_proj", narrow, bias),
        norm_spec(f"{prefix}.kv_a_layernorm", "kv_a_norm", latent.kv_rank),
        *linear_specs(f"{prefix}.kv_b_proj", LATENT_UP, (made, latent.kv_rank), False),
        *linear_specs(f"{prefix}.o_proj", "o_proj", (hidden, attended), config.output_bias),
    ]


def _queries(config: ModelConfig, latent: LatentShape, prefix: str) -> list[WeightSpec]:
    hidden, rank = config.hidden_size, latent.query_rank
    size = config.num_heads * latent.head_dim
    if rank is None:
        return linear_specs(f"{prefix}.q_proj", "q_proj", (size, hidden), False)
    return [
        *linear_specs(f"{prefix}.q_a_proj", "q_a_proj", (rank, hidden), config.qkv_bias),
        norm_spec(f"{prefix}.q_a_layernorm", "q_a_norm", rank),
        *linear_specs(f"{prefix}.q_b_proj", "q_b_proj", (size, rank), False),
    ]
