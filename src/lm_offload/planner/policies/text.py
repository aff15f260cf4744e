"""Policies as YAML that a person can read and edit.

::

    weights: {gpu: 20%, cpu: 80%}
    kv: {cpu: 100%}
    activations: {cpu: 100%}
    micro_batch_size: 48
    num_micro_batches: 3
    prefill: {compute: gpu, attention: gpu}
    decode: {compute: gpu, attention: cpu}
    schedule: flexgen
    weight_format: fp16
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from lm_offload.errors import ConfigError
from lm_offload.hardware.profile_fields import Place, default_of
from lm_offload.planner.decided.plan_values import flag
from lm_offload.planner.policies.policy import PhasePolicy, Policy, Share
from lm_offload.quant.format import Format, parse_format
from lm_offload.yaml_file import read_yaml

TIERS = ("gpu", "cpu", "disk")
SUM_TOLERANCE = 1e-6  # of three shares that a person typed


def read_policy(file: Path) -> Policy:
    """The policy in a YAML file; raises ConfigError for what cannot be."""
    return policy_from_dict(read_yaml(file), file.name)


def policy_text(policy: Policy) -> str:
    """The policy as YAML, which `read_policy` turns into an equal one."""
    import yaml  # type: ignore[import-untyped]

    text: str = yaml.safe_dump(policy_to_dict(policy), sort_keys=False, default_flow_style=None)
    return text


def policy_to_dict(policy: Policy) -> dict[str, Any]:
    """Mappings, texts and numbers; tiers that hold nothing are left out."""
    return {item.name: _plain(getattr(policy, item.name)) for item in dataclasses.fields(policy)}


def policy_from_dict(values: object, origin: str) -> Policy:
    """The policy that `values` describes; `origin` names the file in the messages.

    Raises ConfigError for keys that are missing or unknown and for values that cannot be.
    """
    place, hints = Place(origin), get_type_hints(Policy)
    given = _mapping(values, tuple(hints), place)
    for item in dataclasses.fields(Policy):
        if default_of(item) is dataclasses.MISSING and item.name not in given:
            place.at(item.name).refuse("missing", "a policy that has it")
    parsed = {key: _parse(hints[key], value, place.at(key)) for key, value in given.items()}
    return Policy(**parsed)


def parse_share(value: object, place: Place) -> Share:
    """Fractions by tier, which sum to 1: {gpu: 20%, cpu: 0.8}."""
    given = _mapping(value, TIERS, place)
    share = Share(**{tier: _fraction(part, place.at(tier)) for tier, part in given.items()})
    total = share.gpu + share.cpu + share.disk
    if not math.isclose(total, 1.0, abs_tol=SUM_TOLERANCE):
        place.refuse(f"{total:.4g} in sum", "shares of gpu, cpu and disk that sum to 1")
    return share


def _plain(value: Any) -> Any:
    if isinstance(value, Share):
        return {tier: part for tier in TIERS if (part := getattr(value, tier))}
    if isinstance(value, PhasePolicy):
        return dataclasses.asdict(value)
    return str(value) if isinstance(value, Format) else value


def _mapping(value: object, allowed: tuple[str, ...], place: Place) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        place.refuse(repr(value), f"a mapping of {', '.join(allowed)}")
    for key in value:
        if key not in allowed:
            place.refuse_key(key, allowed)
    return value


def _fraction(value: object, place: Place) -> float:
    text = str(value).strip()
    try:
        part = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        part = math.nan
    if isinstance(value, bool) or not 0 <= part <= 1:
        place.refuse(repr(value), "a share such as 0.2 or 20%")
    return part


def _count(value: object, place: Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        place.refuse(repr(value), "a whole number above zero")
    return value


def _phase(value: object, place: Place) -> PhasePolicy:
    hints = get_type_hints(PhasePolicy)
    given = _mapping(value, tuple(hints), place)
    return PhasePolicy(
        **{key: _parse(hint, given.get(key), place.at(key)) for key, hint in hints.items()}
    )


def _format(value: object, place: Place) -> Format:
    try:
        return parse_format(str(value))
    except ConfigError as error:
        raise ConfigError(f"{'.'.join(place.keys)} in {place.origin}: {error}") from error


_PARSERS: dict[type, Callable[[object, Place], Any]] = {
    Share: parse_share,
    PhasePolicy: _phase,
    Format: _format,
    int: _count,
    bool: flag,
}


def _parse(hint: Any, value: object, place: Place) -> Any:
    if hint in _PARSERS:
        return _PARSERS[hint](value, place)
    allowed = get_args(hint)  # of a Literal
    return value if value in allowed else place.refuse(repr(value), ", ".join(allowed))
