"""One text form of profiles, for JSON that calibration writes and YAML that people write.

A record is a mapping of its field names; fields that have a default may be left out. Numbers may
carry units (`300GB/s`, `16GiB`, `65TFLOP/s`, `10us`, `90%`). A curve is a mapping of sizes to
rates, or a single number where the rate is the same for every size::

    name: T4 with 208 GB
    source: data sheet
    cpu: {threads: 32, memory_bytes: 208GiB, memory_bytes_per_s: 60GB/s, peak_flops: 2TFLOP/s}
    disk_bytes: 1.5TB
    disk_read: {bytes_per_s: {64KiB: 0.4GB/s, 1MiB: 1.6GB/s}, block_bytes: 1MiB}
    disk_write: {bytes_per_s: 1GB/s}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_fields import ANY_SIZE, Place, default_of, parse_record


def profile_to_dict(profile: HardwareProfile) -> dict[str, Any]:
    """Mappings, texts and numbers, which `profile_from_dict` turns into an equal profile."""
    return _plain_record(profile)


def profile_from_dict(values: object, origin: str) -> HardwareProfile:
    """The profile that `values` describes; `origin` names the file in the messages.

    Raises ConfigError for keys that are missing or unknown and for values that cannot be.
    """
    profile: HardwareProfile = parse_record(HardwareProfile, values, Place(origin))
    return profile


def _plain_record(record: Any) -> dict[str, Any]:
    """Every field that is not at its default."""
    values = ((item, getattr(record, item.name)) for item in dataclasses.fields(record))
    return {item.name: _plain(value) for item, value in values if value != default_of(item)}


def _plain(value: Any) -> Any:
    if isinstance(value, Curve):
        return _plain_curve(value)
    if dataclasses.is_dataclass(value):
        return _plain_record(value)
    if isinstance(value, tuple):  # pairs of names and texts
        return dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _plain_curve(curve: Curve) -> float | dict[str, float]:
    if curve.sizes == (ANY_SIZE,):
        return curve.rates[0]
    sizes = (str(int(size)) if size == int(size) else repr(size) for size in curve.sizes)
    return dict(zip(sizes, curve.rates, strict=True))
