"""Which kernels this machine has, known by name before they and torch are loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lm_offload.hardware.machine import describe_machine

if TYPE_CHECKING:
    from lm_offload.kernels.base import Kernels

BF16_FLAGS = {"avx512_bf16", "amx_bf16"}  # with which torch decides what multiplies


@dataclass(frozen=True)
class KernelChoice:
    """The kernels of this machine on so many threads."""

    name: str
    threads: int
    resolve: Callable[[], Kernels]

    @classmethod
    def of(cls, kernels: Kernels) -> KernelChoice:
        """Kernels that are loaded."""
        return cls(kernels.name, kernels.threads, lambda: kernels)

    @classmethod
    def by_name(cls, threads: int) -> KernelChoice:
        """Those that `resolve_kernels` gives; they are loaded when they are wanted."""
        return cls(_resolved_name(), threads, partial(_resolved, threads))


def _resolved_name() -> str:
    if not BF16_FLAGS.isdisjoint(describe_machine().isa):
        return _resolved(1).name
    try:
        from lm_offload.kernels import _native
    except ImportError:
        return _resolved(1).name
    return f"native-{_native.best_operations().name}"


def _resolved(threads: int) -> Kernels:
    from lm_offload.kernels.resolve import resolve_kernels

    return resolve_kernels(threads)
