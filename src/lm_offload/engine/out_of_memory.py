"""What becomes of a run whose device has no memory left: it ends, or goes on with a smaller plan.

Others take memory of a GPU too, and kernels may need more than is counted. The budget is lowered by
what was lacking and a margin; sequences that are unfinished keep their tokens and are computed
again, as after a preemption.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from lm_offload.errors import BudgetError, ConfigError, DeviceMemoryError
from lm_offload.plan import OnOom
from lm_offload.planner.request import DeviceBudget
from lm_offload.sequence import Sequence
from lm_offload.units import KIB, align_down, format_bytes

MARGIN_FRAC = 1 / 32  # of the budget, beyond what was lacking

log = logging.getLogger(__name__)


def check_on_oom(on_oom: OnOom, device: DeviceBudget | None) -> OnOom:
    """The same; raises ConfigError for what is none, or where no device computes."""
    if on_oom not in ("stop", "replan"):
        raise ConfigError(f"on_oom is {on_oom!r}, allowed are stop and replan; choose one.")
    if on_oom == "replan" and device is None:
        raise ConfigError(
            "on_oom=replan was given without GPU memory; it says what is done when a GPU has none "
            "left, give both or leave it out."
        )
    return on_oom


def smaller(budget: DeviceBudget, error: DeviceMemoryError) -> DeviceBudget:
    """The budget that leaves out what was lacking, on each device; it is never negative."""

    def left(part: DeviceBudget) -> int:
        left_bytes = int(part.budget_bytes * (1 - MARGIN_FRAC)) - error.lacking_bytes
        return max(align_down(left_bytes, KIB), 0)

    return budget.changed(left)


def stopped(error: DeviceMemoryError, left: DeviceBudget) -> DeviceMemoryError:
    """The error of a run that ends, with the budget that would have been the next."""
    return DeviceMemoryError(
        f"{error.what}; outputs that were returned are good, for the others start again with "
        f"--gpu-memory {_as_given(left)}, or with --on-oom replan, which does so by "
        "itself.",
        error.what,
        error.lacking_bytes,
    )


def _as_given(budget: DeviceBudget) -> str:
    return ",".join(f"{part.budget_bytes >> 10}KiB" for part in budget.each)


def hopeless(error: DeviceMemoryError, none: BudgetError) -> DeviceMemoryError:
    """The error where no smaller plan is left."""
    message = f"{error.what}, and no smaller plan is left. {none}"
    return DeviceMemoryError(message, error.what, error.lacking_bytes)


def warn_of(error: DeviceMemoryError, left: DeviceBudget, sequences: int) -> None:
    """Say what was lacking and how the run goes on."""
    log.warning(
        "%s; the run goes on with a GPU memory budget of %s, %d unfinished sequence(s) are "
        "computed again.",
        *(error.what, format_bytes(left.budget_bytes), sequences),
    )


def unfinished(sequences: Iterable[Sequence]) -> list[Sequence]:
    """Those to be computed again, ready for that."""
    left = [sequence for sequence in sequences if sequence.finish_reason is None]
    for sequence in left:
        sequence.restart()
    return left
