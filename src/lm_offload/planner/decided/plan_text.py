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

from collections.abc import Mapping
from pathlib import Path

from lm_offload.hardware.profile_fields import Place
from lm_offload.plan import Plan
from lm_offload.planner.decided import plan_values as values
from lm_offload.planner.decided.plan_choice import DeviceChoice, PlanChoice, choice_of, joined
from lm_offload.planner.decided.plan_values import Parsers, parsed_record, plain_record
from lm_offload.units import format_bytes
from lm_offload.yaml_file import read_yaml


def plan_text(plan: Plan, model: str) -> str:
    """The YAML of a plan, with what it was chosen for as a comment."""
    import yaml  # type: ignore[import-untyped]

    choice = dict(vars(choice_of(plan)))
    device = choice.pop("device")
    record = plain_record(choice, _PARSERS)
    if device is not None and device.stages:
        record["stages"] = [
            plain_record(_values(it, _STAGE_PARSERS), _STAGE_PARSERS) for it in device.stages
        ]
    elif device is not None:
        record["device"] = plain_record(_values(device, _DEVICE_PARSERS), _DEVICE_PARSERS)
    body: str = yaml.safe_dump(record, sort_keys=False, default_flow_style=None, width=96)
    found, at_most = plan.predicted, " at most" if plan.expert_ring_bytes else ""
    return (
        f"# A plan of lm-offload for {model}; edit it and run it with --plan.\n"
        f"# It was predicted to prefill {found.prefill_tokens_per_s:.1f} tok/s and to decode "
        f"{found.decode_tokens_per_s:.2f} tok/s,\n"
        f"# with {format_bytes(plan.used_bytes)} of memory in use and "
        f"{format_bytes(plan.streamed_bytes)} read in each sweep{at_most}.\n{body}"
    )


def read_plan(file: Path) -> PlanChoice:
    """The plan in a YAML file; raises ConfigError for keys and values that cannot be."""
    place, found = Place(file.name), read_yaml(file)
    known = {**_DEFAULTS, **found} if isinstance(found, Mapping) else found
    record = parsed_record(known, place, _PARSERS, _OPTIONAL)
    if (stages := record.pop("stages", None)) is not None:
        if "device" in record:
            place.at("stages").refuse("given with device", "one of them")
        record["device"] = joined(stages)
    return PlanChoice(**record)


def _values(choice: DeviceChoice, parsers: Parsers) -> Mapping[str, object]:
    return {name: getattr(choice, name) for name in parsers}


def _stages(value: object, place: Place) -> list[DeviceChoice]:
    """Of two devices at least."""
    if not isinstance(value, list) or len(value) < 2:
        place.refuse(repr(value), "a list of two stages or more")
    records = (parsed_record(stage, place, _STAGE_PARSERS) for stage in value)
    return [DeviceChoice(**record) for record in records]


def _device(value: object, place: Place) -> DeviceChoice:
    # Plans of earlier versions do not say.
    optional = frozenset({"attention", "kv_blocks", "in_place", "in_place_rows"})
    return DeviceChoice(**parsed_record(value, place, _DEVICE_PARSERS, optional))


_DEFAULTS = {"draft_rows": 0}  # of plans written before drafts were
_DEVICE_PARSERS: Parsers = {
    "name": values.text,
    "budget": values.size,
    "resident": values.units,
    "ring": values.size_or_none,
    "attention": values.attention,
    "kv_blocks": values.count_or_none,
    "in_place": values.units,
    "in_place_rows": values.count_or_none,
}
_STAGE_PARSERS: Parsers = {
    "name": values.text,
    "budget": values.size,
    "begins": values.one_or_more,
    "resident": values.units,
    "ring": values.size_or_none,
}
_PARSERS: Parsers = {
    "weight_format": values.format_name,
    "kv_format": values.format_name,
    "budget": values.size,
    "resident": values.units,
    "streamed": values.units,
    "table_resident": values.flag,
    "ring": values.size_or_none,
    "kv_blocks": values.count,
    "max_sequences": values.count,
    "sweep_tokens": values.count,
    "micro_batch_tokens": values.count,
    "scored_rows": values.count_or_none,
    "draft_rows": values.count_or_none,
    "read_block": values.size,
    "read_concurrency": values.count,
    "threads": values.threads,
    "kv_on_disk": values.layers,
    "kv_group_blocks": values.count_or_none,
    "kv_ring_blocks": values.count_or_none,
    "spare_sequences": values.count_or_none,
    "kept_states": values.count_or_none,
    "retention": values.flag,
    "expert_ring": values.size_or_none,
    "device": _device,
    "stages": _stages,
}
# Plans of earlier versions do not say; nor do those that have nothing of the kind.
_OPTIONAL = frozenset(
    {
        *("threads", "kv_on_disk", "kv_group_blocks", "kv_ring_blocks", "spare_sequences"),
        *("kept_states", "retention", "expert_ring", "device", "stages"),
    }
)
