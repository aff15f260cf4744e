"""Chooses the plan with the shortest predicted time among those that fit the budget.

Combinations of formats, sequences in flight, rows of a sweep and of a micro-batch, depth of the
ring and order of streaming are placed and estimated as long as their bounds leave hope; the runs of
the best few are then simulated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from lm_offload.errors import BudgetError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import IN_MEMORY, Plan, Workload
from lm_offload.planner.best_first import BestFirst, Group, steps
from lm_offload.planner.bounds import Bounds
from lm_offload.planner.candidate import RING_DEPTHS, Candidate, place
from lm_offload.planner.device_need import device_need
from lm_offload.planner.device_placement import attention_choices, place_on_device
from lm_offload.planner.draft_rows import (
    FORCED,
    forced_rows,
    wants_drafts,
    with_draft_rows,
    with_rows,
)
from lm_offload.planner.kv_spill import spills
from lm_offload.planner.memory import Sizes, memory_table
from lm_offload.planner.predictor import Predictor, Timed
from lm_offload.planner.request import DeviceBudget, ModelSizes, Request
from lm_offload.quant.format import parse_format
from lm_offload.units import KIB, format_bytes

MICRO_BATCH_TOKENS = (512, 256, 128, 64, 16, 1)
SWEEP_TOKENS = (8192, 2048, 512, 128, 16, 1)
SCORED_ROWS = (512, 64, 0)  # logits of prompts at once, where they are wanted


def make_plan(request: Request) -> Plan:
    """The fastest plan, with room for drafts where the request wants them and no device computes.

    Raises BudgetError with the table of bytes if none fits.
    """
    if request.device is not None:
        return fastest_plans(request)[0].plan
    if wants_drafts(request) and request.speculation in FORCED:
        *more, least = forced_rows(request)
        fits = (it for it in more if next(candidates(it), None) is not None)
        return fastest_plans(next(fits, least))[0].plan
    plan = Predictor(request).with_best_threads(fastest_plans(request)[0]).plan
    return with_draft_rows(request, plan) if wants_drafts(request) else plan


def fastest_plans(request: Request) -> list[Timed]:
    """The best plans, of several kinds (formats, sequences in flight, ring), fastest first.

    All of them on every core, or on the threads that were asked for. Raises BudgetError with
    the table of bytes if none fits.
    """
    search = _search(request)
    return _timed(search, search.best())


def ranked_plans(request: Request) -> list[Timed]:
    """The fastest plans, and the best of each format that is not among them, fastest first."""
    search = _search(request)
    found = search.best()
    known = {id(candidate.model) for candidate in found}
    others = (search.best_of(model) for model in request.models if id(model) not in known)
    return _timed(search, [*found, *itertools.chain.from_iterable(others)])


def _search(request: Request) -> BestFirst:
    bounds = Bounds(Predictor(request))
    return BestFirst(bounds, [*_groups(request)], partial(_place_group, request))


def _timed(search: BestFirst, found: Sequence[Candidate]) -> list[Timed]:
    predictor = search.bounds.predictor
    if not found:
        raise BudgetError(_need(predictor.request))
    return sorted(map(predictor.timed, found), key=_rank)


def _rank(timed: Timed) -> tuple[object, ...]:
    """By time; among equals exact formats, then a cache in memory, then more rows at once, which
    start together, then reads that run further ahead.
    """
    plan = timed.plan
    lossy = [parse_format(name).is_packed for name in (plan.weight_format, plan.kv_format)]
    rows = (-plan.sweep_tokens, -plan.micro_batch_tokens)
    rest = (-plan.ring_bytes, plan.used_bytes)
    return (steps(timed.score_s), lossy, bool(plan.spill.layers), *rows, *rest)


def candidates(request: Request) -> Iterator[Candidate]:
    """Everything that can be chosen and fits the budget."""
    for group in _groups(request):
        for sizes in group.options:
            yield from _place_group(request, group, sizes)


def _groups(request: Request) -> Iterator[Group]:
    """Models and sequences in flight, with keys and values in memory or some on disk."""
    for model, in_flight in itertools.product(request.models, _in_flight_options(request.workload)):
        options = [
            with_rows(sizes, request.draft_rows) for sizes in _sizes(request.workload, in_flight)
        ]
        if request.device is not None:
            yield from _groups_beside(request.device, Group(model, options, spilled=False))
            continue
        yield Group(model, options, spilled=False)
        if request.spill_bytes and not request.draft_rows:
            yield Group(model, options, spilled=True)


def _groups_beside(device: DeviceBudget, group: Group) -> Iterator[Group]:
    """With keys and values on the device, and in host memory."""
    for attention in attention_choices(device):
        options = [replace(sizes, attention=attention) for sizes in group.options]
        yield group._replace(options=options)


def _place_group(request: Request, group: Group, sizes: Sizes) -> Iterator[Candidate]:
    """An option of a group in every way that fits."""
    if not group.spilled:
        yield from _placed(request, group.model, sizes)
        return
    for spill in spills(request, group.model, sizes):
        yield from _placed(request, group.model, replace(sizes, spill=spill))


def _placed(request: Request, model: ModelSizes, sizes: Sizes) -> Iterator[Candidate]:
    """With rings of several depths."""
    placed = place if request.device is None else place_on_device
    for depth in RING_DEPTHS:
        found = placed(request, model, sizes, depth)
        yield from found
        if found and not (found[0].streamed or found[0].uploaded):
            return  # without a ring there is no depth to choose


def _sizes(workload: Workload, in_flight: int) -> Iterator[Sizes]:
    """Rows of a sweep, of a micro-batch, with logits; those with fewer rows first."""
    blocks = _blocks_needed(workload, in_flight)
    rows = sum(sorted(workload.computed_lens)[-in_flight:])
    sweeps = sorted({max(min(option, rows), in_flight) for option in SWEEP_TOKENS})
    for sweep_tokens in sweeps:
        micros = sorted({min(option, sweep_tokens) for option in MICRO_BATCH_TOKENS})
        most = min(workload.scored_tokens, sweep_tokens)
        scored = sorted({min(option, most) for option in SCORED_ROWS})
        for micro, extra in itertools.product(micros, scored):
            yield Sizes(blocks, in_flight, sweep_tokens, micro, extra)


def _in_flight_options(workload: Workload) -> list[int]:
    num_sequences = len(workload.prompt_lens)
    powers = [1 << exponent for exponent in range(num_sequences.bit_length())]
    return sorted({min(option, num_sequences) for option in [*powers, num_sequences]})


def _blocks_needed(workload: Workload, in_flight: int) -> int:
    """For the longest `in_flight` sequences, a common prefix as part of the first that has it."""
    longest = sorted(workload.own_lens)[-in_flight:]
    alone = max(map(blocks_for, workload.total_lens))
    return max(sum(map(blocks_for, longest)), alone)


def smallest_memory(request: Request) -> tuple[tuple[str, int], ...]:
    """Purpose and bytes of the smallest plan: one sequence, row by row, one unit staged."""
    sizes = with_rows(smallest_sizes(request), request.draft_rows)
    found = [
        _smallest_of(model, replace(sizes, spill=spill))
        for model in request.models
        for spill in (IN_MEMORY, *spills(request, model, sizes))
    ]
    return min(found, key=_sum_of)


def smallest_sizes(request: Request) -> Sizes:
    """One sequence, row by row."""
    attention = attention_choices(request.device)[0] if request.device else "device"
    return Sizes(_blocks_needed(request.workload, 1), 1, 1, 1, attention=attention)


def _smallest_of(model: ModelSizes, sizes: Sizes) -> tuple[tuple[str, int], ...]:
    ring_bytes = max(unit.size_bytes for unit in model.units)
    rows = memory_table(model, sizes, table_resident=False)
    return (("staging ring", ring_bytes), *rows)


def _sum_of(rows: Iterable[tuple[str, int]]) -> int:
    return sum(size_bytes for _, size_bytes in rows)


def _need(request: Request) -> str:
    """The message of the error: the smallest plan's bytes by purpose, and its sum."""
    if request.device is not None:
        return device_need(request, smallest_sizes(request))
    rows = smallest_memory(request)
    needed_kib = -(-_sum_of(rows) // KIB)
    lines = "".join(f"\n  {purpose:<22}{format_bytes(size)}" for purpose, size in rows)
    return (
        f"A CPU memory budget of {format_bytes(request.budget_bytes)} was given, the smallest that "
        f"works for this model and these prompts is {needed_kib} KiB; raise "
        f"--cpu-memory or shorten the prompts or outputs:{lines}"
    )
