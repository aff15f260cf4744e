"""Where attention is timed: rows, device, and what is looked at beside rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.timing import typical_among_s, typical_s
from lm_offload.units import MIB

CPU = torch.device("cpu")
CACHED_BYTES = 8 * MIB  # soon brought into a cache again that other works have filled meanwhile


class Key(NamedTuple):
    """One work. Of kinds beside "decode" and "prefill", which are decodes, only ratios count."""

    kind: str  # "decode", "prefill"; "beside", "apart": orders of blocks; "cached"
    format: str
    shape: HeadShape
    context: int


Works = Mapping[Key, Callable[[], object]]


@dataclass(frozen=True)
class Setting:
    """What is attended to, where, and who says how long a call takes."""

    sequences: int = 4  # in decode
    prompt_rows: int = 64  # of a chunk at the end of its context
    orders: bool = True  # whether the order of blocks is looked at
    cached_bytes: int = 0  # of keys and values that the last-level cache keeps; 0: not looked at
    device: torch.device = CPU
    replay_s: float | None = None  # of decode beside its work; None: it is not replayed
    seconds_of: Callable[[Works, float], dict[Key, float]] = typical_s

    def fixed_s(self, kind: str, kernel_s: float) -> float:
        """What a call of this kind takes beside its work; `kernel_s` if it is asked for."""
        return kernel_s if self.replay_s is None or kind == "prefill" else self.replay_s


ON_CPU = Setting()


def among(other: Callable[[], object], replay_s: float | None, cache_bytes: int) -> Setting:
    """The CPU's, where attention of prompts comes after calls of `other`, as in sweeps.

    That of decode is replayed, which takes `replay_s` beside its work; `cache_bytes` stay in the
    last-level cache.
    """

    def seconds_of(works: Works, budget_s: float) -> dict[Key, float]:
        prompts = {key: work for key, work in works.items() if key.kind == "prefill"}
        others = {key: work for key, work in works.items() if key.kind != "prefill"}
        prompts_s = budget_s * len(prompts) / len(works)
        return {
            **typical_s(others, budget_s - prompts_s),
            **typical_among_s(prompts, other, prompts_s),
        }

    return Setting(
        cached_bytes=min(CACHED_BYTES, cache_bytes),
        replay_s=replay_s,
        seconds_of=seconds_of,
    )
