"""Chooses the plan with the shortest predicted time among those that fit the budget.

Every combination of format, sequences in flight, rows of a sweep and of a micro-batch, depth of
the ring and order of streaming is placed and estimated; the run of the best few of each kind is
then simulated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from lm_offload.errors import BudgetError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import IN_MEMORY, Plan, Workload
from lm_offload.planner.candidate import RING_DEPTHS, Candidate, place
from lm_offload.planner.device_need import device_need
from lm_offload.planner.device_placement import attention_choices, place_on_device
from lm_offload.planner.draft_rows import forced_rows, wants_drafts, with_draft_rows, with_rows
from lm_offload.planner.kv_spill import spills
from lm_offload.planner.memory import Sizes, memory_table
from lm_offload.planner.predictor import Predictor, Timed
from lm_offload.planner.request import ModelSizes, Request
from lm_offload.quant.format import parse_format
from lm_offload.units import KIB, format_bytes

MICRO_BATCH_TOKENS = (512, 256, 128, 64, 16, 1)
SWEEP_TOKENS = (8192, 2048, 512, 128, 16, 1)
SCORED_ROWS = (512, 64, 0)  # logits of prompts at once, where they are wanted
TIE = 1.01  # predictions closer than this are the same
SIMULATED = 2  # plans of each kind whose run is simulated
HOPELESS = 1.5  # a kind whose estimate is worse by this factor cannot win
MOST_SIMULATED = 24  # plans of one format


def make_plan(request: Request) -> Plan:
    """The fastest plan, with room for drafts where the request wants them and no device computes.

    Raises BudgetError with the table of bytes if none fits.
    """
    if request.device is not None:
        return ranked_plans(request)[0].plan
    if wants_drafts(request) and request.speculation == "prompt-lookup":
        *more, least = forced_rows(request)
        fits = (it for it in more if next(candidates(it), None) is not None)
        return ranked_plans(next(fits, least))[0].plan
    plan = Predictor(request).with_best_threads(ranked_plans(request)[0]).plan
    return with_draft_rows(request, plan) if wants_drafts(request) else plan


def ranked_plans(request: Request) -> list[Timed]:
    """The best plans of each kind (format, sequences in flight, ring), fastest first.

    All of them on every core, or on the threads that were asked for. Raises BudgetError with
    the table of bytes if none fits.
    """
    predictor = Predictor(request)
    placed = [(predictor.estimate_s(found), found) for found in candidates(request)]
    if not placed:
        if request.device is not None:
            raise BudgetError(device_need(request, smallest_sizes(request)))
        raise BudgetError(_smallest_need(request))
    return sorted((predictor.timed(found) for found in _finalists(placed)), key=_rank)


def _finalists(placed: Sequence[tuple[float, Candidate]]) -> Iterator[Candidate]:
    """The best few of each kind that may win within its format."""
    for in_format in _grouped(
        placed, lambda found: (found.model.weight_format, found.model.kv_format)
    ):
        limit_s = HOPELESS * min(estimate_s for estimate_s, _ in in_format)
        few: list[tuple[float, Candidate]] = []
        for kind in _grouped(
            in_format,
            lambda found: (
                *(found.sizes.max_sequences, found.ring_depth),
                *(found.residency.order, _spills(found)),
            ),
        ):
            kind.sort(key=lambda member: (_steps(member[0]), *_preference(member[1].sizes)))
            few += [member for member in kind[:SIMULATED] if member[0] <= limit_s]
        best = sorted(estimate_s for estimate_s, _ in few)[:MOST_SIMULATED]
        yield from (found for estimate_s, found in few if estimate_s <= best[-1])


def _spills(found: Candidate) -> object:
    return found.sizes.spill.layers != (), found.sizes.attention


def _grouped(
    placed: Iterable[tuple[float, Candidate]], key: Callable[[Candidate], object]
) -> list[list[tuple[float, Candidate]]]:
    groups: dict[object, list[tuple[float, Candidate]]] = {}
    for estimate_s, found in placed:
        groups.setdefault(key(found), []).append((estimate_s, found))
    return list(groups.values())


def _rank(timed: Timed) -> tuple[object, ...]:
    """By time; among equals exact formats, then more rows at once, which start together."""
    plan = timed.plan
    lossy = [parse_format(name).is_packed for name in (plan.weight_format, plan.kv_format)]
    rows = (-plan.sweep_tokens, -plan.micro_batch_tokens)
    return (_steps(timed.score_s), lossy, *rows, plan.used_bytes)


def _steps(seconds: float) -> int:
    """Time in steps of one per cent."""
    return round(math.log(seconds) / math.log(TIE))


def _preference(sizes: Sizes) -> tuple[int, int]:
    return -sizes.sweep_tokens, -sizes.micro_batch_tokens


def candidates(request: Request) -> Iterator[Candidate]:
    """Everything that can be chosen and fits the budget."""
    for model, sizes in itertools.product(request.models, _sizes(request.workload)):
        wanted = with_rows(sizes, request.draft_rows)
        if request.device is not None:
            for attention in attention_choices(request.device):
                yield from _placed(request, model, replace(wanted, attention=attention))
            continue
        yield from _placed(request, model, wanted)
        for spill in spills(request, model, wanted):
            spilled = _placed(request, model, replace(wanted, spill=spill))
            yield from (found for found in spilled if found.residency.order == "even")


def _placed(request: Request, model: ModelSizes, sizes: Sizes) -> Iterator[Candidate]:
    """With rings of several depths."""
    placed = place if request.device is None else place_on_device
    for depth in RING_DEPTHS:
        found = placed(request, model, sizes, depth)
        yield from found
        if found and not (found[0].streamed or found[0].uploaded):
            return  # without a ring there is no depth to choose


def _sizes(workload: Workload) -> Iterator[Sizes]:
    """Sequences in flight, rows of a sweep and of a micro-batch, rows with logits."""
    for in_flight in _in_flight_options(len(workload.prompt_lens)):
        blocks = _blocks_needed(workload, in_flight)
        rows = sum(sorted(workload.computed_lens)[-in_flight:])
        sweeps = sorted({max(min(option, rows), in_flight) for option in SWEEP_TOKENS})
        for sweep_tokens in sweeps:
            micros = sorted({min(option, sweep_tokens) for option in MICRO_BATCH_TOKENS})
            most = min(workload.scored_tokens, sweep_tokens)
            scored = sorted({min(option, most) for option in SCORED_ROWS})
            for micro, extra in itertools.product(micros, scored):
                yield Sizes(blocks, in_flight, sweep_tokens, micro, extra)


def _in_flight_options(num_sequences: int) -> list[int]:
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


def _smallest_need(request: Request) -> str:
    """The message of the error: the smallest plan's bytes by purpose, and its sum."""
    rows = smallest_memory(request)
    needed_kib = -(-_sum_of(rows) // KIB)
    lines = "".join(f"\n  {purpose:<22}{format_bytes(size)}" for purpose, size in rows)
    return (
        f"A CPU memory budget of {format_bytes(request.budget_bytes)} was given, the smallest that "
        f"works for this model and these prompts is {needed_kib} KiB; raise "
        f"--cpu-memory or shorten the prompts or outputs:{lines}"
    )
