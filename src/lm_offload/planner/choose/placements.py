"""Placements beside a device that a search and what it is compared with have in common.

Where units lie follows from bytes alone, so a machine with a faster link or processor asks for the
same placements. Cuts between several devices are chosen by time and are placed anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.places.device_placement import place_on_device
from lm_offload.schedule.in_place import NOTHING

Found = TypeVar("Found")


def placed_on_device(
    predictor: Predictor,
    model: ModelSizes,
    sizes: Sizes,
    depth: RingDepth,
    host_first: frozenset[int] = NOTHING,
) -> list[Candidate]:
    """As `place_on_device`, once for each budget."""

    def place() -> list[Candidate]:
        return place_on_device(predictor.request, model, sizes, depth, host_first)

    device = predictor.request.device
    if device is None or device.stages:
        return place()
    return once_by_bytes(predictor, model, (sizes, depth, host_first), place)


def once_by_bytes(
    predictor: Predictor, model: ModelSizes, key: tuple[object, ...], find: Callable[[], Found]
) -> Found:
    """What `find` gives, which depends on `key` and on bytes; remembered between searches."""
    known = predictor.common.by_bytes
    whole = predictor.room, id(model), *key
    if whole not in known:
        known[whole] = model, find()  # with the model, so that no other gets its identity
    found: Found = known[whole][1]
    return found
