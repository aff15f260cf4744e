"""Units that are one task with their neighbours, which decode repeats in one call of native code.

::

    one by one   | embed | attention | mlp | attention | mlp | norm | head |
    joined       | embed | ------------ one recording -------------------- |
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
from lm_offload.models.base import ModelFunctions


def joined_units(
    units: Sequence[Unit],
    config: ModelConfig,
    model: ModelFunctions,
    staged: Collection[int] = frozenset(),
) -> frozenset[int]:
    """Numbers of the units that ask nothing but kernels, wherever they are in memory.

    `staged` have keys and values on disk. States of recurrent layers may be copied before and
    behind their rows, and which experts are computed is for routers to say.
    """
    if config.is_moe:
        return frozenset()
    kinds = recorded_kinds(config, model) - {"recurrent"}
    if config.final_softcap is not None:  # which is plain torch
        kinds -= {"head"}
    every = (number for number, unit in enumerate(units) if unit.kind in kinds)
    return frozenset(every) - frozenset(staged)


def recorded_kinds(config: ModelConfig, model: ModelFunctions) -> frozenset[str]:
    """Kinds of units that are replayed in decode.

    A step after all experts of a layer is called an MLP, too, and asks more than kernels.
    """
    return model.KERNELS_ONLY - {"mlp"} if config.summed_experts else model.KERNELS_ONLY
