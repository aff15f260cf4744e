"""Rotary position embedding as described by a checkpoint: kinds, parameters, both spellings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lm_offload.arch.fields import Fields
from lm_offload.errors import UnsupportedModelError

ROPE_KINDS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")
TEMPERATURE = "temperature"  # turns nothing: queries grow with their position


@dataclass(frozen=True)
class RopeConfig:
    """One rotary embedding; a model has one, or one per kind of layer."""

    kind: str  # one of ROPE_KINDS, or TEMPERATURE
    theta: float
    rotary_dim: int  # how many of head_dim are rotated, even
    factor: float = 1.0
    original_max_positions: int = 0  # window of pretraining, where the kind needs it
    attention_factor: float = 1.0  # scales cos and sin
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    truncate: bool = True  # yarn
    short_factor: tuple[float, ...] = ()  # longrope, one per frequency
    long_factor: tuple[float, ...] = ()  # longrope
    still: int = 0  # the last so many frequencies, which turn nothing
    growth: float = 0.0  # temperature
    first_position: int = 0  # temperature

    @property
    def depends_on_length(self) -> bool:
        """Whether the frequencies change for sequences beyond the original window."""
        return self.kind in ("dynamic", "longrope")

    def length_class(self, length: int) -> int:
        """Equal for sequences, by the longest they may become, that are rotated alike."""
        if self.kind == "dynamic":
            return max(length, self.original_max_positions)
        return int(self.kind == "longrope" and length > self.original_max_positions)


def parse_rope(config: Fields, rotary_dim: int, max_positions: int) -> RopeConfig:
    """The one rope of a model, from `rope_parameters` (5.x) or `rope_scaling` and `rope_theta`."""
    section = config.section("rope_scaling") or config.section("rope_parameters")
    if section and any(isinstance(value, Mapping) for value in section.raw.values()):
        raise UnsupportedModelError(
            f"{section.where} differs by layer type, which is supported for Gemma only; "
            "choose another checkpoint."
        )
    # Transformers lets the key beside the section win over the key inside it.
    key = "original_max_position_embeddings"
    original = 0 if config.get(key) is None else config.integer(key, minimum=2)
    theta = config.number("rope_theta", 10_000.0, above=1)
    return parse_section(section, theta, rotary_dim, max_positions, original)


def parse_section(
    section: Fields | None,
    theta: float,
    rotary_dim: int,
    max_positions: int,
    original: int = 0,
) -> RopeConfig:
    """One rope section; `theta` and `max_positions` stand in for what it does not say.

    `original` other than 0 is the window of pretraining, whatever the section says.
    """
    if section is None:
        return RopeConfig("default", theta, rotary_dim)
    rope = RopeConfig(
        kind=_rope_kind(section),
        theta=section.number("rope_theta", theta, above=1),
        rotary_dim=rotary_dim,
        original_max_positions=original
        or section.integer("original_max_position_embeddings", max_positions, minimum=2),
    )
    return _PARSERS[rope.kind](rope, section, max_positions)


def _rope_kind(section: Fields) -> str:
    kind = section.text("rope_type", section.text("type", "default"))
    if kind not in ROPE_KINDS and kind != "su":
        raise UnsupportedModelError(
            f"{section.where} has rope type {kind!r}, supported are {', '.join(ROPE_KINDS)}; "
            "choose another checkpoint."
        )
    return "longrope" if kind == "su" else kind


def _default(rope: RopeConfig, section: Fields, max_positions: int) -> RopeConfig:
    return RopeConfig("default", rope.theta, rope.rotary_dim)


def _linear(rope: RopeConfig, section: Fields, max_positions: int) -> RopeConfig:
    return replace(rope, factor=section.number("factor"), original_max_positions=max_positions)


def _dynamic(rope: RopeConfig, section: Fields, max_positions: int) -> RopeConfig:
    if rope.rotary_dim <= 2:
        raise section.wrong("rope_type", "a rotary dimension above 2")
    return _linear(rope, section, max_positions)


def _llama3(rope: RopeConfig, section: Fields, max_positions: int) -> RopeConfig:
    rope = replace(
        rope,
        factor=section.number("factor"),
        low_freq_factor=section.number("low_freq_factor"),
        high_freq_factor=section.number("high_freq_factor"),
    )
    if rope.high_freq_factor < rope.low_freq_factor:
        raise section.wrong("high_freq_factor", "at least low_freq_factor")
    return rope


def _yarn(rope: RopeConfig, section: Fields, max_positions: int) -> RopeConfig:
    factor = section.number("factor", max_positions / rope.original_max_positions)
    return replace(
        rope,
        factor=factor,
        attention_factor=section.number("attention_factor", _yarn_attention(section, factor)),
        beta_fast=section.number("beta_fast", 32.0),
        beta_slow=section.number("beta_slow", 1.0),
        truncate=section.flag("truncate", True),
    )


def _longrope(rope: RopeConfig, section: Fields, max_positions: int) -> RopeConfig:
    original = rope.original_max_positions
    factor = section.number("factor", max_positions / original)
    stretch = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return replace(
        rope,
        factor=factor,
        original_max_positions=original,
        attention_factor=section.number("attention_factor", stretch),
        short_factor=section.numbers("short_factor", rope.rotary_dim // 2),
        long_factor=section.numbers("long_factor", rope.rotary_dim // 2),
    )


def _yarn_attention(section: Fields, factor: float) -> float:
    """The temperature of attention, YaRN (Peng et al. 2023) section 3.4."""
    mscale, mscale_all_dim = section.get("mscale"), section.get("mscale_all_dim")
    if not (mscale and mscale_all_dim):
        return yarn_scale(factor, 1.0)
    wanted, base = section.number("mscale"), section.number("mscale_all_dim")
    return yarn_scale(factor, wanted) / yarn_scale(factor, base)


def yarn_scale(factor: float, weight: float) -> float:
    """What YaRN multiplies queries and keys with, as DeepSeek weighs it."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


_PARSERS = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}
