"""Which cores the threads of native kernels may run on."""

from __future__ import annotations

from collections.abc import Sequence


def spread_workers(groups: Sequence[Sequence[int]]) -> None:
    """Give each thread one of the groups of cores; plain torch has threads of its own.

    The calling thread keeps its cores: whoever is where it runs moves out of its way.
    """
    try:
        from lm_offload.kernels import _native
    except ImportError:
        return
    _native.spread_workers([list(cores) for cores in groups])
