"""Cosines and sines of rotary position embedding (Su et al. 2021) and its stretched forms."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from lm_offload.arch.rope import TEMPERATURE

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.config import ModelConfig, RopeConfig


def rotary_tables(
    config: ModelConfig, positions: Tensor, lengths: Tensor | None = None
) -> tuple[tuple[Tensor, Tensor], ...]:
    """(cos, sin) [T, rotary_dim / 2] float32 for each of config.ropes, attention factor included.

    positions [T] int64. lengths [T] int64: the longest that the sequence of each row may become
    (prompt plus max_tokens), the same number for all its rows and sweeps. Only ropes that
    depend on length (`dynamic`, `longrope`) read it; None means inside the original window.
    Transformers switches by the longest sequence of each call instead; this rule gives the same
    inside the window and does not depend on chunks, batch or preemption.
    """
    rows = positions.to(torch.float32).unsqueeze(1)
    return tuple(_table(rope, rows, lengths) for rope in config.ropes)


def inverse_frequencies(rope: RopeConfig, lengths: Tensor | None) -> Tensor:
    """[rotary_dim / 2], or [T, rotary_dim / 2] where the frequencies depend on the length."""
    if lengths is None or not rope.depends_on_length:
        return _fixed_frequencies(rope)
    return _dynamic(rope, lengths) if rope.kind == "dynamic" else _longrope(rope, lengths)


def _table(rope: RopeConfig, rows: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    if rope.kind == TEMPERATURE:
        return _temperatures(rope, rows)
    angles = rows * inverse_frequencies(rope, lengths)
    cos, sin = angles.cos(), angles.sin_()
    if rope.attention_factor != 1:
        return cos.mul_(rope.attention_factor), sin.mul_(rope.attention_factor)
    return cos, sin


def _temperatures(rope: RopeConfig, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Factors in place of cosines and no sines: nothing turns, see arch/temperature.py."""
    periods = ((rows + rope.first_position) / rope.original_max_positions).floor_()
    factors = 1 + rope.growth * torch.log(1 + periods)
    cos = factors.expand(-1, rope.rotary_dim // 2).contiguous()
    return cos, torch.zeros_like(cos)


@lru_cache(maxsize=32)
def _fixed_frequencies(rope: RopeConfig) -> Tensor:
    plain = 1.0 / _periods(rope)
    if rope.still:
        plain[-rope.still :] = 0.0
    if rope.kind == "linear":
        return plain / rope.factor
    if rope.kind == "llama3":
        return _llama3(rope, plain)
    if rope.kind == "yarn":
        return _yarn(rope)
    if rope.kind == "longrope":
        return _divided(rope, rope.short_factor)
    return plain


def _periods(rope: RopeConfig) -> Tensor:
    """theta^(2i / d), the period of frequency i in positions over 2 pi."""
    return rope.theta ** _exponents(rope)


def _exponents(rope: RopeConfig) -> Tensor:
    return torch.arange(0, rope.rotary_dim, 2, dtype=torch.float32) / rope.rotary_dim


def _divided(rope: RopeConfig, factors: tuple[float, ...]) -> Tensor:
    """LongRoPE (Ding et al. 2024): each frequency has a divisor of its own."""
    return 1.0 / (torch.tensor(factors, dtype=torch.float32) * _periods(rope))


def _longrope(rope: RopeConfig, lengths: Tensor) -> Tensor:
    beyond = (lengths > rope.original_max_positions).unsqueeze(1)
    return torch.where(beyond, _divided(rope, rope.long_factor), _fixed_frequencies(rope))


def _dynamic(rope: RopeConfig, lengths: Tensor) -> Tensor:
    """Dynamic NTK: theta grows with the length beyond the original window."""
    window, size = rope.original_max_positions, rope.rotary_dim
    excess = lengths.clamp(min=window).to(torch.float32) / window - 1
    theta = rope.theta * (1 + rope.factor * excess) ** (size / (size - 2))
    return 1.0 / theta.unsqueeze(1) ** _exponents(rope)


def _llama3(rope: RopeConfig, plain: Tensor) -> Tensor:
    """Llama 3.1: long waves are divided by the factor, short ones stay, between them a ramp."""
    window, low, high = rope.original_max_positions, rope.low_freq_factor, rope.high_freq_factor
    waves_in_window = window * plain / (2 * math.pi)
    ramp = high - low or torch.finfo(torch.float32).tiny
    keep = ((waves_in_window - low) / ramp).clamp(0, 1)
    return (1 - keep) * plain / rope.factor + keep * plain


def _yarn(rope: RopeConfig) -> Tensor:
    """YaRN (Peng et al. 2023) section 3.2: interpolate only what turns rarely in the window."""
    low, high = _yarn_turns_at(rope, rope.beta_fast), _yarn_turns_at(rope, rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.rotary_dim - 1)
    index = torch.arange(rope.rotary_dim // 2, dtype=torch.float32)
    stretch = ((index - low) / ((high - low) or 0.001)).clamp(0, 1)
    plain = 1.0 / _periods(rope)
    return plain / rope.factor * stretch + plain * (1 - stretch)


def _yarn_turns_at(rope: RopeConfig, turns: float) -> float:
    """The index of the frequency that turns this often within the original window."""
    ratio = rope.original_max_positions / (turns * 2 * math.pi)
    return rope.rotary_dim * math.log(ratio) / (2 * math.log(rope.theta))
