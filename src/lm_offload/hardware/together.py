"""How much two kinds of work that go on at once slow one another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lm_offload.hardware.interference_probe import after, fraction, repeated_s
from lm_offload.hardware.timing import Deadline

SAMPLE_S = 0.01

Work = Callable[[], object]


def left_of_each(first: Work, second: Work, budget_s: float) -> tuple[float, float]:
    """What is left of the rate of each, 0 to 1, while the other is called without pause.

    Each alone and both together in turns, compared within a turn. Neither may hold the
    interpreter while it works.
    """
    deadline = Deadline(budget_s)
    left: list[tuple[float, float]] = []
    with ThreadPoolExecutor(1) as pool:
        while not left or not deadline.passed:
            alone = repeated_s(first, after(SAMPLE_S)), repeated_s(second, after(SAMPLE_S))
            is_over = after(SAMPLE_S)
            other = pool.submit(repeated_s, second, is_over)
            beside_s = repeated_s(first, is_over)
            left.append((alone[0] / beside_s, alone[1] / other.result()))
    firsts, seconds = zip(*left, strict=True)
    return fraction(firsts), fraction(seconds)
