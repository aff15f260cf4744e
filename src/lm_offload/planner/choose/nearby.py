"""Plans near a good one: its sizes placed as if there were a little less memory.

Each memory is filled as full as it gets. Of few units one more may leave the others spread worse,
in the sweep or between link and processors, than they were without it::

    budget 8   x . . x . .     2 of 6, the others evenly apart
    budget 9   x . x . . x     3 of 6; a ring of one unit waits at the last two
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lm_offload.planner.choose.in_place_choice import reserved_rows
from lm_offload.planner.choose.options import ways
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.shortlist import Estimated
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.request import Request

MOST_UNITS = 100  # of more than these one is less than a per cent


def nearby(predictor: Predictor, found: Candidate, limit_s: float) -> list[Estimated]:
    """Those with estimates below `limit_s`, the best first; none for a model of many units."""
    if len(found.model.units) > MOST_UNITS:
        return []
    estimated = (predictor.estimated(near, limit_s) for near in _placed(predictor, found))
    return sorted((it for it in estimated if it[0] < limit_s), key=lambda it: it[0])


def _placed(predictor: Predictor, found: Candidate) -> Iterator[Candidate]:
    option = _option_of(found)
    for request in _with_less(predictor.request, found):
        yield from ways(Predictor(request, predictor.common), found.model, option)


def _with_less(request: Request, found: Candidate) -> Iterator[Request]:
    """No more than is used, too little for that by a byte, and by a unit."""
    for missing_bytes in (0, 1, max(found.model.unit_bytes)):
        yield replace(request, budget_bytes=found.peak_bytes["cpu"] - missing_bytes)
        if (device := request.device) and not device.stages:
            left_bytes = found.peak_bytes["gpu"] - missing_bytes
            yield replace(request, device=replace(device, budget_bytes=left_bytes))


def _option_of(found: Candidate) -> Sizes:
    """What the candidate was placed from: with memory for all rows that may be in place."""
    sizes = found.sizes
    if not sizes.in_place_rows:
        return sizes
    layers = found.model.config.num_layers if sizes.in_place_layers else 0
    return replace(sizes, in_place_rows=reserved_rows(sizes), in_place_layers=layers)
