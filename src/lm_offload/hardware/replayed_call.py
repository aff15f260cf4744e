"""Calls of kernels as decode makes them: written down once, then replayed.

What Python takes of a call, 3 to 5 us, is more than a small product of one row takes. The engine
pays it where it asks for a kernel (`call_s`, see engine/overhead.py), and not where it replays one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lm_offload.kernels.base import Kernels, Recording

Replay = Callable[[int, int], None]  # bytes by which weights lie further, and keys and values
_Call = Callable[[Kernels], object]


def replay_of(kernels: Kernels, call: _Call) -> Replay | None:
    """What repeats a call, which is made here; None where it cannot be written down."""
    recording = kernels.record()
    if recording is None:
        return None
    call(recording.kernels)
    return partial(_replay, recording, call) if recording.complete else None


def _replay(recording: Recording, _: _Call, weights_shift: int, cache_shift: int) -> None:
    """The call is kept: a recording has addresses alone, and its tensors must stay."""
    recording.replay(weights_shift, cache_shift)
