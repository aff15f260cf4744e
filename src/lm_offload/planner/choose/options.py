"""What a search chooses from: groups of options that differ in rows alone, and their placements."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from lm_offload.plan import Workload
from lm_offload.planner.choose.best_first import Group
from lm_offload.planner.choose.device_options import options_beside
from lm_offload.planner.choose.draft_rows import with_rows
from lm_offload.planner.choose.in_place_choice import with_mlps_in_place
from lm_offload.planner.choose.in_place_layers import with_layers_in_place
from lm_offload.planner.choose.placements import placed_on_device
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.smallest import blocks_needed
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.places.device_placement import mlps
from lm_offload.planner.places.host_placement import RING_DEPTHS, host_ring_depths, place
from lm_offload.planner.places.kv_spill import spills
from lm_offload.planner.request import Request
from lm_offload.schedule.in_place import NOTHING

MICRO_BATCH_TOKENS = (512, 256, 128, 64, 16, 1)
SWEEP_TOKENS = (8192, 2048, 512, 128, 16, 1)
Place = Callable[[ModelSizes, Sizes, RingDepth], list[Candidate]]
SCORED_ROWS = (512, 64, 0)  # logits of prompts at once, where they are wanted


def groups_of(request: Request) -> Iterator[Group]:
    """Models, whole and cut, and sequences in flight, with keys and values in memory or on disk."""
    every = [[*_options_of(request, it)] for it in _in_flight_options(request.workload)]
    for model, ways in itertools.product(request.with_cut, every):
        for options, spilled in ways:
            yield Group(model, options, spilled)


def _options_of(request: Request, in_flight: int) -> Iterator[tuple[Sequence[Sizes], bool]]:
    """The same for any model, and whether some keys and values are to lie on disk."""
    options = [with_rows(sizes, request.draft_rows) for sizes in _sizes(request, in_flight)]
    if request.device is not None:
        yield from ((some, False) for some in options_beside(request, options))
        return
    yield options, False
    if request.spill_bytes and not request.draft_rows:
        yield options, True


def expanded(request: Request, group: Group, sizes: Sizes) -> Iterator[Sizes]:
    """An option of a group with the layers named that are on disk."""
    if not group.spilled:
        yield sizes
        return
    for spill in spills(request, group.model, sizes):
        yield replace(sizes, spill=spill)


def ways(predictor: Predictor, model: ModelSizes, sizes: Sizes) -> Iterator[Candidate]:
    """Everything that sizes can be placed as."""
    if sizes.in_place_layers:
        for depth in RING_DEPTHS:
            yield from with_layers_in_place(predictor, model, sizes, depth)
        return
    for candidate in _placed(predictor, model, sizes):
        if sizes.in_place_rows:
            yield from with_mlps_in_place(predictor, candidate)
        else:
            yield candidate


def _placed(predictor: Predictor, model: ModelSizes, sizes: Sizes) -> Iterator[Candidate]:
    """With rings of several depths."""
    placed: Place = partial(place, predictor.request)
    depths = host_ring_depths(predictor.request.profile.disk_read)
    if predictor.request.device is not None:
        last = mlps(model) if sizes.in_place_rows else NOTHING
        placed, depths = partial(placed_on_device, predictor, host_first=last), RING_DEPTHS
    for depth in depths:
        found = placed(model, sizes, depth)
        if model.is_cut and found and not found[0].streamed:
            return  # nothing needs a ring
        yield from found
        if found and not (found[0].streamed or found[0].uploaded):
            return  # without a ring there is no depth to choose


def _sizes(request: Request, in_flight: int) -> Iterator[Sizes]:
    """Rows of a sweep, of a micro-batch, with logits; those with fewer rows first."""
    workload, threads = request.workload, request.default_threads.compute
    blocks = blocks_needed(workload, in_flight)
    rows = sum(sorted(workload.computed_lens)[-in_flight:])
    sweeps = sorted({max(min(option, rows), in_flight) for option in SWEEP_TOKENS})
    for sweep_tokens in sweeps:
        micros = sorted({min(option, sweep_tokens) for option in MICRO_BATCH_TOKENS})
        most = min(workload.scored_tokens, sweep_tokens)
        scored = sorted({min(option, most) for option in SCORED_ROWS})
        for micro, extra in itertools.product(micros, scored):
            yield Sizes(
                *(blocks, in_flight, sweep_tokens, micro, extra),
                threads=threads,
                kept_states=request.kept_states,
            )


def _in_flight_options(workload: Workload) -> list[int]:
    num_sequences = len(workload.prompt_lens)
    powers = [1 << exponent for exponent in range(num_sequences.bit_length())]
    return sorted({min(option, num_sequences) for option in [*powers, num_sequences]})
