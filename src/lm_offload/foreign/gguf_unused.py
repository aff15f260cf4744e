"""A tensor that no function here reads would change what a model says: such a file is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from lm_offload.arch.config import parse_config
from lm_offload.arch.weight_spec import LATENT_UP
from lm_offload.arch.weights import build_units
from lm_offload.errors import UnsupportedModelError
from lm_offload.foreign.gguf_latent import halves_of
from lm_offload.foreign.gguf_tensor import gate_of_both, own_matrix

_EXPERTS = ".experts."


def refuse_unused(names: Collection[str], config: Mapping[str, Any], where: str) -> None:
    """Compare all tensors but those of single experts with what is read.

    `names` are Hugging Face's. Raises CheckpointError for a config that is wrong,
    UnsupportedModelError for a tensor that is not read.
    """
    whole = parse_config(config, where)
    small = replace(whole, num_experts=min(whole.num_experts, 2))  # which are alike
    specs = [spec for unit in build_units(small, 1 << 62) for spec in unit.weights]
    read = {name for spec in specs for name in (spec.name, own_matrix(spec).name)}
    read |= {gate_of_both(name) for name in read}
    read |= {half for spec in specs if spec.role == LATENT_UP for half in halves_of(spec.name)}
    for name in names:
        if _EXPERTS not in name and name not in read:
            raise UnsupportedModelError(
                f"Tensor {name} of {where} is none that model_type {whole.model_type} reads here; "
                "take the Hugging Face checkpoint of this model."
            )
