"""Hugging Face configs of toys of the model types of 2025 and 2026."""

from __future__ import annotations

from typing import Any

from tests.toy_shapes import EXPERTS, GATED, LATENT, TEMPERED, WINDOW

NEWER: dict[str, dict[str, Any]] = {
    "ministral3": {**GATED, "sliding_window": WINDOW, "rope_parameters": TEMPERED},
    "mistral4": {
        **LATENT,
        "first_k_dense_replace": 1,
        "n_group": 3,
        "topk_group": 2,
        "routed_scaling_factor": 1.3,
        "rope_parameters": {**TEMPERED, "mscale": 0.7, "mscale_all_dim": 1.3},
    },
    "minimax_m2": {
        **GATED,
        **EXPERTS,
        "num_local_experts": 5,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
    },
    "glm4_moe_lite": {**LATENT, "n_group": 3, "topk_group": 2},
}
