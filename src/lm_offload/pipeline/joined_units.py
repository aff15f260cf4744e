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
    kinds = model.KERNELS_ONLY - {"recurrent"}
    if config.final_softcap is not None:  # which is plain torch
        kinds -= {"head"}
    every = (number for number, unit in enumerate(units) if unit.kind in kinds)
    return frozenset(number for number in every if _may(units[number], tabled)) - {*staged}


def _may(unit: Unit, tabled: Collection[int]) -> bool:
    """Whether it is no expert that is computed as torch says."""
    return unit.kind != "expert" or unit.index in tabled
