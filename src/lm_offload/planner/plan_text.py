"""Plans as YAML that a person can read, edit and run again.

::

    budget: 1024MiB
    weight_format: bf16
    resident: [embed, layers.0.attention, layers.1.attention]
    streamed: [layers.0.mlp, layers.1.mlp]
    ring: 66MiB
    max_sequences: 4

Only decisions are written; what follows from them, memory and predictions, is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_offload.errors import ConfigError
from lm_offload.hardware.profile_fields import Place
from lm_offload.plan import Plan
from lm_offload.quant.format import parse_format
from lm_offload.units import KIB, MIB, format_bytes, parse_size
from lm_offload.yaml_file import read_yaml

Parsers = Mapping[str, Callable[[object, Place], Any]]


@dataclass(frozen=True)
class DeviceChoice:
    """The decisions of a plan on a device."""

    name: str
    budget: int  # bytes
    resident: tuple[str, ...]
    ring: int  # bytes


@dataclass(frozen=True)
class PlanChoice:
    """The decisions of a plan, in the order in which they are written."""

    weight_format: str
    kv_format: str
    budget: int  # bytes
    resident: tuple[str, ...]
    streamed: tuple[str, ...]
    table_resident: bool
    ring: int  # bytes
    kv_blocks: int
    max_sequences: int
    sweep_tokens: int
    micro_batch_tokens: int
    scored_rows: int
    read_block: int  # bytes
    read_concurrency: int
    device: DeviceChoice | None = None


def choice_of(plan: Plan) -> PlanChoice:
    """What of a plan is a decision."""
    return PlanChoice(
        weight_format=plan.weight_format,
        kv_format=plan.kv_format,
        budget=plan.budget_bytes,
        resident=plan.resident,
        streamed=plan.streamed,
        table_resident=plan.table_resident,
        ring=plan.ring_bytes,
        kv_blocks=plan.kv_blocks,
        max_sequences=plan.max_sequences,
        sweep_tokens=plan.sweep_tokens,
        micro_batch_tokens=plan.micro_batch_tokens,
        scored_rows=plan.scored_rows,
        read_block=plan.read_block_bytes,
        read_concurrency=plan.read_concurrency,
        device=_device_of(plan),
    )


def _device_of(plan: Plan) -> DeviceChoice | None:
    found = plan.device
    if found is None:
        return None
    return DeviceChoice(found.name, found.budget_bytes, found.resident, found.ring_bytes)


def plan_text(plan: Plan, model: str) -> str:
    """The YAML of a plan, with what it was chosen for as a comment."""
    import yaml  # type: ignore[import-untyped]

    choice = dict(vars(choice_of(plan)))
    device = choice.pop("device")
    record = _plain_record(choice, _PARSERS)
    if device is not None:
        record["device"] = _plain_record(vars(device), _DEVICE_PARSERS)
    body: str = yaml.safe_dump(record, sort_keys=False, default_flow_style=None, width=96)
    found = plan.predicted
    return (
        f"# A plan of lm-offload for {model}; edit it and run it with --plan.\n"
        f"# It was predicted to prefill {found.prefill_tokens_per_s:.1f} tok/s and to decode "
        f"{found.decode_tokens_per_s:.2f} tok/s,\n"
        f"# with {format_bytes(plan.used_bytes)} of memory in use and "
        f"{format_bytes(plan.streamed_bytes)} read in each sweep.\n{body}"
    )


def read_plan(file: Path) -> PlanChoice:
    """The plan in a YAML file; raises ConfigError for keys and values that cannot be."""
    place, values = Place(file.name), read_yaml(file)
    if not isinstance(values, Mapping) or "device" not in values:
        return PlanChoice(**_parsed(values, place, _PARSERS))
    host = {key: value for key, value in values.items() if key != "device"}
    device = _parsed(values["device"], place.at("device"), _DEVICE_PARSERS)
    return PlanChoice(**_parsed(host, place, _PARSERS), device=DeviceChoice(**device))


def _parsed(values: object, place: Place, parsers: Parsers) -> dict[str, Any]:
    """Every key of `parsers` and no other."""
    if not isinstance(values, Mapping):
        place.refuse(repr(values), f"a mapping with the keys {', '.join(parsers)}")
    for key in values:
        if key not in parsers:
            place.at(key).refuse("not a known key", ", ".join(parsers))
    for key in parsers:
        if key not in values:
            place.at(key).refuse("missing", "a plan that has it")
    return {key: parse(values[key], place.at(key)) for key, parse in parsers.items()}


def _plain_record(values: Mapping[str, Any], parsers: Parsers) -> dict[str, Any]:
    return {name: _plain(value, parsers[name]) for name, value in values.items()}


def _plain(value: Any, parser: Callable[[object, Place], Any]) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return _size_text(value) if parser in (_size, _size_or_none) else value


def _size_text(size_bytes: int) -> str | int:
    """The same number of bytes in the largest unit that keeps it whole."""
    for factor, unit in ((MIB, "MiB"), (KIB, "KiB")):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return size_bytes


def _size_or_none(value: object, place: Place) -> int:
    try:
        return parse_size(str(value))
    except ConfigError:
        place.refuse(repr(value), "a size such as 66MiB")


def _size(value: object, place: Place) -> int:
    return _size_or_none(value, place) or place.refuse(repr(value), "a size above zero")


def _count_or_none(value: object, place: Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        place.refuse(repr(value), "a whole number")
    return value


def _count(value: object, place: Place) -> int:
    return _count_or_none(value, place) or place.refuse(repr(value), "a whole number above zero")


def _flag(value: object, place: Place) -> bool:
    return value if isinstance(value, bool) else place.refuse(repr(value), "true or false")


def _format(value: object, place: Place) -> str:
    try:
        return str(parse_format(str(value)))
    except ConfigError as error:
        raise ConfigError(f"{place.keys[-1]} in {place.origin}: {error}") from error


def _units(value: object, place: Place) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        place.refuse(repr(value), "a list of units such as [embed, layers.0.mlp]")
    return tuple(value)


def _text(value: object, place: Place) -> str:
    return value if isinstance(value, str) else place.refuse(repr(value), "a name")


_DEVICE_PARSERS: Parsers = {
    "name": _text,
    "budget": _size,
    "resident": _units,
    "ring": _size_or_none,
}
_PARSERS: Parsers = {
    "weight_format": _format,
    "kv_format": _format,
    "budget": _size,
    "resident": _units,
    "streamed": _units,
    "table_resident": _flag,
    "ring": _size_or_none,
    "kv_blocks": _count,
    "max_sequences": _count,
    "sweep_tokens": _count,
    "micro_batch_tokens": _count,
    "scored_rows": _count_or_none,
    "read_block": _size,
    "read_concurrency": _count,
}
