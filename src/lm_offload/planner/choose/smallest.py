"""The smallest plan that a request allows, and what is told where not even that fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Workload
from lm_offload.planner.choose.draft_rows import with_rows
from lm_offload.planner.costs.memory import Sizes, memory_table
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.places.device_need import device_need
from lm_offload.planner.places.device_placement import attention_choices, in_place_choices
from lm_offload.planner.places.kv_spill import is_worth_reads, spills
from lm_offload.planner.request import Request
from lm_offload.units import KIB, format_bytes


def blocks_needed(workload: Workload, in_flight: int) -> int:
    """For the longest `in_flight` sequences, a common prefix as part of the first that has it."""
    longest = sorted(workload.own_lens)[-in_flight:]
    alone = blocks_for(workload.most_tokens)
    return max(sum(map(blocks_for, longest)), alone)


def smallest_memory(request: Request) -> tuple[tuple[str, int], ...]:
    """Purpose and bytes of the smallest plan: one sequence, row by row, one unit staged.

    MLPs are whole or cut, whichever takes less.
    """
    sizes = with_rows(smallest_sizes(request), request.draft_rows)
    found = [rows for model in request.with_cut for rows in _ways(request, model, sizes)]
    return min(found, key=_sum_of)


def _ways(
    request: Request, model: ModelSizes, sizes: Sizes
) -> Iterator[tuple[tuple[str, int], ...]]:
    """With keys and values in memory; with some on disk where no budget is too large for that."""
    in_memory = _smallest_of(model, sizes)
    yield in_memory
    if is_worth_reads(model, sizes, _sum_of(in_memory)):
        for spill in spills(request, model, sizes):
            yield _smallest_of(model, replace(sizes, spill=spill))


def smallest_sizes(request: Request) -> Sizes:
    """One sequence, row by row."""
    blocks = blocks_needed(request.workload, 1)
    if request.device is None:
        return Sizes(blocks, 1, 1, 1)
    attention, kind = attention_choices(request.device)[0], in_place_choices(request.device)[0]
    return Sizes(blocks, 1, 1, 1, attention=attention, in_place_rows=int(kind == "mlp"))


def _smallest_of(model: ModelSizes, sizes: Sizes) -> tuple[tuple[str, int], ...]:
    ring_bytes = model.least_ring_bytes
    rows = memory_table(model, sizes, table_resident=False)
    return (("staging ring", ring_bytes), *rows)


def _sum_of(rows: Iterable[tuple[str, int]]) -> int:
    return sum(size_bytes for _, size_bytes in rows)


def need_text(request: Request) -> str:
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
