"""The order in which training text is drawn: shuffled windows, longer sequences later."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

WINDOW = 1024  # tokens drawn at once; cut into shorter sequences in the early phases
TESTS_PER_MODULE_WINDOW = 0.3


@dataclass(frozen=True)
class Phase:
    """From `start` (fraction of the budget) on: sequences of `length`, `windows` per step."""

    start: float
    length: int
    windows: int


# Short sequences and small steps while the loss falls fast; long ones when rates are low.
PHASES = (Phase(0.0, 256, 4), Phase(0.25, 512, 8), Phase(0.85, 1024, 8))


def phase_at(progress: float) -> Phase:
    """The last phase that has begun."""
    return [phase for phase in PHASES if phase.start <= progress][-1]


def window_stream(modules: np.ndarray, tests: np.ndarray, seed: int) -> Iterator[Tensor]:
    """Endless shuffled windows (WINDOW + 1,): all of `modules` an epoch, and some of `tests`."""
    rng = np.random.default_rng(seed)
    tests_left: list[Tensor] = []
    while True:
        epoch = _cut(modules, rng)
        wanted = int(len(epoch) * TESTS_PER_MODULE_WINDOW)
        tests_left = tests_left if len(tests_left) >= wanted else _cut(tests, rng)
        epoch, tests_left = epoch + tests_left[:wanted], tests_left[wanted:]
        for index in rng.permutation(len(epoch)):
            yield epoch[index]


def _cut(stream: np.ndarray, rng: np.random.Generator) -> list[Tensor]:
    starts = np.arange(int(rng.integers(WINDOW)), len(stream) - WINDOW - 1, WINDOW)
    windows = [torch.from_numpy(stream[s : s + WINDOW + 1].astype(np.int64)) for s in starts]
    return [windows[index] for index in rng.permutation(len(windows))]
