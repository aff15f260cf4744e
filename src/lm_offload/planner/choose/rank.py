"""Which of several simulated plans is the better one."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lm_offload.planner.choose.predictor import Predictor, Timed
from lm_offload.planner.choose.shortlist import Estimated
from lm_offload.quant.format import parse_format

TIE = 1.01  # predictions closer than this are the same


def steps(seconds: float) -> int:
    """Time in steps of one per cent."""
    return round(math.log(seconds) / math.log(TIE))


def rank(timed: Timed) -> tuple[object, ...]:
    """By time; among equals exact formats, then a cache in memory and one processor, then whole
    MLPs, then more rows at once, which start together, then reads that run further ahead.
    """
    plan = timed.plan
    lossy = [parse_format(name).is_packed for name in (plan.weight_format, plan.kv_format)]
    rows = (-plan.sweep_tokens, -plan.micro_batch_tokens)
    rest = (-plan.ring_bytes, plan.used_bytes)
    in_place = bool(plan.device and plan.device.in_place)
    simple = bool(plan.spill.layers), in_place, timed.candidate.model.is_cut
    return (steps(timed.score_s), lossy, *simple, *rows, *rest)


def best_of(predictor: Predictor, found: Iterable[Estimated], best: Timed | None) -> Timed | None:
    """The best of `best` and of those found whose estimates are below all that was simulated."""
    for estimate_s, candidate in found:
        if best is None or estimate_s < best.score_s:
            timed = predictor.timed(candidate)
            best = timed if best is None else min(best, timed, key=rank)
    return best
