"""Which cores the threads of native kernels may run on."""

from __future__ import annotations

from collections.abc import Sequence


def spread_workers(nodes: Sequence[Sequence[int]]) -> None:
    """Let each thread run on the cores of one node, in turn; plain torch has its own threads."""
    try:
        from lm_offload.kernels import _native
    except ImportError:
        return
    _native.spread_workers([list(cores) for cores in nodes])
