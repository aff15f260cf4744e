"""The findings of `lm-offload doctor`."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

from lm_offload import __version__
from lm_offload.errors import ConfigError
from lm_offload.hardware.machine import Machine, describe_machine
from lm_offload.units import format_bytes

LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "gguf")
TIGHT_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One fact; `cost` says what it costs where something is missing."""

    name: str
    value: str | int | bool | None
    cost: str | None = None
    words: str | None = None  # the value for people, where it needs another form


def examine(path: Path | None) -> list[Finding]:
    """Every finding; raises ConfigError for a path that is not there."""
    machine = describe_machine()
    return [
        *_processor(machine),
        *_memory(machine),
        *_gpu(),
        *_kernels(machine.cores),
        _direct_reads(path or _default_place()),
        _profile(path or _default_place(), machine.cores),
        *_libraries(),
        *_cache(),
    ]


def _processor(machine: Machine) -> Iterator[Finding]:
    yield Finding("processor", machine.cpu)
    yield Finding("cores", machine.cores)
    yield Finding("NUMA nodes", machine.numa_nodes)
    yield Finding("instruction sets", " ".join(machine.isa))


def _memory(machine: Machine) -> Iterator[Finding]:
    free_bytes, limit_bytes = machine.available_memory_bytes, machine.cgroup_memory_limit_bytes
    tight = "little room: more weights are read from disk in each sweep"
    yield _bytes("memory", machine.memory_bytes)
    yield _bytes("memory available", free_bytes, tight if free_bytes < TIGHT_BYTES else None)
    if limit_bytes is None:
        yield Finding("cgroup memory limit", None, words="none")
    else:
        yield _bytes("cgroup memory limit", limit_bytes)


def _gpu() -> Iterator[Finding]:
    """Every GPU with its free memory, or why there is none."""
    from lm_offload.device.registry import gpu_memories, missing_gpu

    reason = missing_gpu()
    if reason is not None:
        yield Finding("GPU", None, words=f"none: {reason}")
        return
    for name, memory in gpu_memories().items():
        yield _bytes(f"GPU memory available on {name}", memory.free_bytes)


def _kernels(cores: int) -> Iterator[Finding]:
    from lm_offload.kernels.resolve import resolve_kernels

    name = resolve_kernels(cores).name
    yield Finding("kernels", name)
    native, bf16 = "native" in name, "bf16" in name
    cost = "about 2 to 6 times slower with bf16 weights; reinstall with a C++17 compiler"
    yield Finding("native kernels", native, None if native else cost)
    cost = f"prefill and large batches with bf16 weights compute in float32; {_units(native)}"
    yield Finding("products of bf16 in use", bf16, None if bf16 else cost)


def _units(native: bool) -> str:
    """What a processor would need for more; see `resolve_kernels`."""
    if native:
        return "AMX, or AVX512-BF16 of AMD, would be faster"
    return "AVX512-BF16 or AMX would be faster"


def _direct_reads(place: Path) -> Finding:
    direct = _reads_directly(place)
    cost = "reads go through the page cache: an extra copy, about 0.3 CPU s per GB"
    return Finding(f"direct reads at {place}", direct, None if direct else cost)


def _reads_directly(place: Path) -> bool:
    """Opens the file, a weight file of the folder, or a file made in the folder for a moment."""
    if not place.exists():
        raise ConfigError(f"{place} does not exist; give a file or folder on the disk to look at.")
    if place.is_file():
        return _opens_directly(place)
    weights = sorted(place.glob("*.safetensors"))
    if weights:
        return _opens_directly(weights[0])
    try:
        with tempfile.NamedTemporaryFile(dir=place) as made:
            return _opens_directly(Path(made.name))
    except OSError as error:
        raise ConfigError(f"{place} is not writable; give a file on that disk instead.") from error


def _opens_directly(path: Path) -> bool:
    from lm_offload.storage.direct_file import DirectFile

    file = DirectFile(path)
    file.close()
    return file.direct


def _profile(place: Path, cores: int) -> Finding:
    """What plans for models on this disk are made from."""
    from lm_offload.engine.kernel_choice import KernelChoice
    from lm_offload.engine.profile_choice import GIVEN_PROFILE
    from lm_offload.hardware.effort import FULL
    from lm_offload.hardware.fingerprint import fingerprint_of
    from lm_offload.hardware.profile_notes import disturbance_note
    from lm_offload.hardware.profile_store import load_stored

    if given := os.environ.get(GIVEN_PROFILE):
        return Finding("profile", given)
    folder = place if place.is_dir() else place.parent
    found = load_stored(fingerprint_of(KernelChoice.by_name(cores), folder, __version__))
    cost = "plans and predictions are rough; run lm-offload profile once, for a minute"
    if found is None or found.source != f"measured ({FULL.name})":
        return Finding("profile", found.source if found else "none", cost)
    return Finding("profile", found.source, disturbance_note(found))


def _libraries() -> Iterator[Finding]:
    yield Finding("python", platform.python_version())
    for name in LIBRARIES:
        try:
            yield Finding(name, version_of(name))
        except PackageNotFoundError:
            yield Finding(name, None, f"not installed: pip install {name}", "missing")


def _cache() -> Iterator[Finding]:
    from huggingface_hub import constants

    yield Finding("Hugging Face cache", constants.HF_HUB_CACHE)
    there = Path(constants.HF_HUB_CACHE).is_dir()
    yield Finding("cache exists", there, None if there else "hub ids cannot be used, only folders")
    yield Finding("offline (HF_HUB_OFFLINE)", bool(constants.HF_HUB_OFFLINE))


def _default_place() -> Path:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    return cache if cache.is_dir() and os.access(cache, os.W_OK) else Path.cwd()


def _bytes(name: str, size_bytes: int, cost: str | None = None) -> Finding:
    return Finding(name, size_bytes, cost, format_bytes(size_bytes))
