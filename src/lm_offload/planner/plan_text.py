"""Plans as YAML that a person can read, edit and run again.

::

    budget: 1024MiB
    weight_format: bf16
    resident: [embed, layers.0.attention, layers.1.attention]
    streamed: [layers.0.mlp, layers.1.mlp]
    ring: 66MiB
    max_sequences: 4
    threads: {compute: 2, attention: 2, sampling: 1}

Only decisions are written; what follows from them, memory and predictions, is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lm_offload.errors import ConfigError
from lm_offload.hardware.profile_fields import Place
from lm_offload.plan import Plan, ThreadPlan
from lm_offload.quant.format import parse_format
from lm_offload.units import KIB, MIB, format_bytes, parse_size
from lm_offload.yaml_file import read_yaml


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
    draft_rows: int
    read_block: int  # bytes
    read_concurrency: int
    threads: ThreadPlan | None = None  # None: every core
    kv_on_disk: tuple[int, ...] = ()  # layers
    kv_group_blocks: int = 0
    kv_ring_blocks: int = 0
    spare_sequences: int = 0


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
        draft_rows=plan.draft_rows,
        read_block=plan.read_block_bytes,
        read_concurrency=plan.read_concurrency,
        threads=plan.threads,
        kv_on_disk=plan.spill.layers,
        kv_group_blocks=plan.spill.group_blocks,
        kv_ring_blocks=plan.spill.ring_blocks,
        spare_sequences=plan.spare_sequences,
    )


def plan_text(plan: Plan, model: str) -> str:
    """The YAML of a plan, with what it was chosen for as a comment."""
    import yaml  # type: ignore[import-untyped]

    record = {name: _plain(name, value) for name, value in vars(choice_of(plan)).items()}
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
    if not isinstance(values, Mapping):
        place.refuse(repr(values), f"a mapping with the keys {', '.join(_PARSERS)}")
    for key in values:
        if key not in _PARSERS:
            place.at(key).refuse("not a known key", ", ".join(_PARSERS))
    values = {**_DEFAULTS, **values}
    for key in _PARSERS:
        if key not in values and key not in _OPTIONAL:
            place.at(key).refuse("missing", "a plan that has it")
    parsed = {
        key: parse(values[key], place.at(key)) for key, parse in _PARSERS.items() if key in values
    }
    return PlanChoice(**parsed)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, ThreadPlan):
        return dict(vars(value))
    return _size_text(value) if _PARSERS[name] in (_size, _size_or_none) else value


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


def _layers(value: object, place: Place) -> tuple[int, ...]:
    if not isinstance(value, list):
        place.refuse(repr(value), "a list of layers such as [1, 3]")
    return tuple(_count_or_none(layer, place) for layer in value)


def _threads(value: object, place: Place) -> ThreadPlan:
    names = [item.name for item in fields(ThreadPlan)]
    if not isinstance(value, Mapping) or set(value) != set(names):
        place.refuse(repr(value), f"a mapping of {', '.join(names)} to whole numbers")
    return ThreadPlan(**{name: _count(value[name], place.at(name)) for name in names})


_DEFAULTS = {"draft_rows": 0}  # of plans written before drafts were
_PARSERS: dict[str, Callable[[object, Place], Any]] = {
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
    "draft_rows": _count_or_none,
    "read_block": _size,
    "read_concurrency": _count,
    "threads": _threads,
    "kv_on_disk": _layers,
    "kv_group_blocks": _count_or_none,
    "kv_ring_blocks": _count_or_none,
    "spare_sequences": _count_or_none,
}
# Plans of earlier versions do not say; nor do those whose KV cache is all in memory.
_OPTIONAL = {"threads", "kv_on_disk", "kv_group_blocks", "kv_ring_blocks", "spare_sequences"}
