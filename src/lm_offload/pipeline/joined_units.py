"""Units that are one task with their neighbours, which decode repeats in one call of native code.

::

    one by one   | embed | attention | mlp | attention | mlp | norm | head |
    joined       | embed | ------------ one recording -------------------- |

Of a mixture attention and router, and a layer's experts where all of them stay in memory.
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
    tabled: Collection[int] = frozenset(),
) -> frozenset[int]:
    """Numbers of the units that ask nothing but kernels, wherever they are in memory.

    `staged` have keys and values on disk. States of recurrent layers may be copied before and
    behind their rows. Kernels have a table of all experts of the layers `tabled`, which never
    move; those of others are computed as their router says.
    """
    kinds = recorded_kinds(config, model) - {"recurrent"}
    if config.final_softcap is not None:  # which is plain torch
        kinds -= {"head"}
    every = (number for number, unit in enumerate(units) if unit.kind in kinds)
    return frozenset(number for number in every if _may(units[number], config, tabled)) - {*staged}


def _may(unit: Unit, config: ModelConfig, tabled: Collection[int]) -> bool:
    """Whether it is no step that depends on what torch knows of experts."""
    if unit.kind == "expert":
        return unit.index in tabled
    sums = unit.kind in ("router", "mlp") and config.sums_experts(unit.index)
    return not (config.is_moe and sums)


def recorded_kinds(config: ModelConfig, model: ModelFunctions) -> frozenset[str]:
    """Kinds of units that are replayed in decode.

    A step after all experts of a layer is called an MLP, too, and asks more than kernels.
    """
    return model.KERNELS_ONLY - {"mlp"} if config.summed_experts else model.KERNELS_ONLY
