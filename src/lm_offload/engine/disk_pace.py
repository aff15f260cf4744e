"""Whether the disk reads as fast as the profile says from which plans are made."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from lm_offload.engine.outputs import SweepRecord
from lm_offload.plan import Plan
from lm_offload.step_time import StepTime
from lm_offload.units import format_rate

log = logging.getLogger(__name__)

LEAST_READ_S = 2.0  # of reading: less says little
MOST_RATIO = 1.5  # of the two rates; a shared disk drifts by less within an hour


def warn_of_pace(plan: Plan, records: Iterable[SweepRecord]) -> bool:
    """Warn where decode sweeps read much faster or slower than predicted; whether it did."""
    expected = plan.predicted.step_s.get("decode")
    read = [record.time for record in records if not record.prefill_tokens]
    read_s, read_bytes = sum(one.disk_read_s for one in read), sum(one.read_bytes for one in read)
    if expected is None or not expected.disk_read_s or not read_bytes or read_s < LEAST_READ_S:
        return False
    expected_bytes_per_s, bytes_per_s = _rate(expected), read_bytes / read_s
    if 1 / MOST_RATIO < bytes_per_s / expected_bytes_per_s < MOST_RATIO:
        return False
    log.warning(
        "The disk read %s, where the profile of this machine says %s; `lm-offload profile` "
        "measures it anew, for plans and predictions that fit.",
        format_rate(bytes_per_s),
        format_rate(expected_bytes_per_s),
    )
    return True


def _rate(time: StepTime) -> float:
    return time.read_bytes / time.disk_read_s
