"""What kind of machine this is, as far as it can be read without measuring."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lm_offload.hardware.limits import (
    allowed_cores,
    available_memory_bytes,
    cgroup_memory_limit_bytes,
)
from lm_offload.hardware.numa import numa_nodes

ISA_FLAGS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Processor and memory; no host name and no path."""

    cpu: str
    isa: tuple[str, ...]  # those flags that matter to the kernels
    cores: int  # that this process may use
    numa_nodes: int  # that these cores are on
    memory_bytes: int
    available_memory_bytes: int
    cgroup_memory_limit_bytes: int | None


def describe_machine() -> Machine:
    """This machine as it is now."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    flags = _field(cpuinfo, ("flags", "Features")).split()
    total_kib = _field(Path("/proc/meminfo").read_text(), ("MemTotal",)).split()[0]
    return Machine(
        cpu=_field(cpuinfo, ("model name", "Model")) or platform.machine(),
        isa=tuple(flag for flag in ISA_FLAGS if flag in flags),
        cores=allowed_cores(),
        numa_nodes=max(len(numa_nodes()), 1),
        memory_bytes=int(total_kib) * 1024,
        available_memory_bytes=available_memory_bytes(),
        cgroup_memory_limit_bytes=cgroup_memory_limit_bytes(),
    )


def _field(text: str, names: Iterable[str]) -> str:
    """The value of the first `name : value` line with one of `names`; empty if there is none."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""
