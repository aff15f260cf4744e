"""Sizes as people write and read them; everything inside the package counts in bytes."""

from __future__ import annotations

import re

from lm_offload.errors import ConfigError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SLOW_BYTES_PER_S = 1e8  # two digits behind the point say little of less
PAGE_BYTES = 4096  # alignment of direct reads: a multiple of every logical block size in use
HUGE_PAGE_BYTES = 2 * MIB

_FACTORS = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "kb": 1000,
    "m": MIB, "mib": MIB, "mb": 1000**2,
    "g": GIB, "gib": GIB, "gb": 1000**3,
    "t": 1 << 40, "tib": 1 << 40, "tb": 1000**4,
}  # fmt: skip
_SIZE = re.compile(r"\s*(\d{1,24}(?:\.\d+)?)\s*([a-zA-Z]*|%)\s*")


def parse_size(text: str | float, whole_bytes: int | None = None) -> int:
    """Bytes in `text`: `8GiB`, `8GB`, `8G` (= 8 GiB), `4096`, or `80%` of `whole_bytes`.

    Raises ConfigError for anything else, and for a share where there is no whole.
    """
    match = _SIZE.fullmatch(str(text))
    unit = match[2].lower() if match else ""
    if match and unit == "%" and whole_bytes is not None:
        return int(float(match[1]) / 100 * whole_bytes)
    if not match or unit not in _FACTORS:
        raise ConfigError(f"{text!r} is not a size; write for example 8GiB, 8GB, 500MiB or 80%.")
    return int(float(match[1]) * _FACTORS[unit])


def format_bytes(size_bytes: float) -> str:
    """A size for people, always with its binary unit."""
    for factor, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size_bytes) >= factor:
            return f"{size_bytes / factor:.2f} {name}"
    return f"{size_bytes:.0f} B"


def format_rate(bytes_per_s: float) -> str:
    """A bandwidth for people, always in decimal GB/s, with more digits where it is slow."""
    digits = 2 if abs(bytes_per_s) >= SLOW_BYTES_PER_S else 4
    return f"{bytes_per_s / 1e9:.{digits}f} GB/s"


def format_seconds(seconds: float) -> str:
    """A duration for people: milliseconds below a second."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def align_up(value: int, alignment: int = PAGE_BYTES) -> int:
    """The smallest multiple of `alignment` that is at least `value`."""
    return -(-value // alignment) * alignment


def align_down(value: int, alignment: int = PAGE_BYTES) -> int:
    """The largest multiple of `alignment` that is at most `value`."""
    return value // alignment * alignment
