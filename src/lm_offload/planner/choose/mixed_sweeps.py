"""Sizes whose sweeps mix prompts and decode, which estimates cannot tell.

An estimate takes the sweeps of prompts and those of decode apart. Where a sweep has few rows, a
short request decodes in it while a long prompt is still computed, so that it is done sooner::

    rows of a sweep   prompt of a | prompt of b ...  | decode of a and b      as estimated
                      prompt of a | a, prompt of b | a, prompt of b | b       as it runs

Throughput hardly changes, the mean time at which a request is done does. With the objective
latency such sizes are therefore simulated, whatever their estimates.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from lm_offload.planner.choose.best_first import BestFirst
from lm_offload.planner.places.candidate import Candidate


def mixed(search: BestFirst, best: Candidate) -> Iterator[Candidate]:
    """The model of the best estimate in sweeps too short for all prompts of those in flight.

    For each number of sequences in flight and of rows one candidate, its rows cut least.
    """
    spilled = bool(best.sizes.spill.layers)
    for group in search.groups:
        if group.model is not best.model or group.spilled != spilled:
            continue
        by_rows = {sizes.sweep_tokens: sizes for sizes in group.options}  # the last is cut least
        for sizes in [*by_rows.values()][:-1]:
            if sizes.max_sequences > 1:
                placed = map(search.bounds.predictor.estimated, search.placed(group, sizes))
                found = min(placed, key=itemgetter(0), default=None)
                if found is not None:
                    yield found[1]
