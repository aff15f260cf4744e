"""A plan that somebody decided: checked against model and budget, and predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lm_offload.errors import BudgetError, ConfigError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Plan, Workload
from lm_offload.planner.candidate import Candidate
from lm_offload.planner.fixed_device import fixed_on_device
from lm_offload.planner.memory import Sizes, memory_table
from lm_offload.planner.plan_text import PlanChoice
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.request import ModelSizes, Request
from lm_offload.planner.residency import Residency
from lm_offload.units import PAGE_BYTES, format_bytes

MOST_CONCURRENT_READS = 64
SHOWN_NAMES = 3


def fixed_plan(request: Request, choice: PlanChoice) -> Plan:
    """The plan for the request's workload; raises ConfigError for one that cannot hold."""
    model = _model(request, choice)
    _check_units(model, choice)
    _check_sizes(model, choice)
    _check_workload(request.workload, choice)
    candidate = _candidate(model, choice)
    if (choice.device is None) != (request.device is None):
        raise ConfigError(
            "The plan and the options differ in whether a GPU computes; give GPU memory with a "
            "plan that has a device, and only then."
        )
    if choice.device is not None:
        candidate = fixed_on_device(request, candidate, choice.device)
    _check_budget(candidate, min(choice.budget, request.budget_bytes))
    return Predictor(request).timed(candidate).plan


def _candidate(model: ModelSizes, choice: PlanChoice) -> Candidate:
    resident = frozenset(
        index
        for index, sized in enumerate(model.units)
        if sized.unit.name in choice.resident or sized.size_bytes == 0  # there is nothing to read
    )
    sizes = Sizes(
        choice.kv_blocks,
        choice.max_sequences,
        choice.sweep_tokens,
        choice.micro_batch_tokens,
        choice.scored_rows,
    )
    return Candidate(
        model=model,
        sizes=sizes,
        ring_depth=0,
        residency=Residency(resident, choice.ring),
        table_resident=choice.table_resident,
        other_memory=memory_table(model, sizes, choice.table_resident),
        read_block_bytes=choice.read_block,
        read_concurrency=choice.read_concurrency,
    )


def _model(request: Request, choice: PlanChoice) -> ModelSizes:
    for model in request.models:
        if str(model.weight_format) == choice.weight_format:
            if str(model.kv_format) != choice.kv_format:
                raise ConfigError(
                    f"The plan keeps the KV cache in {choice.kv_format}, allowed for this model "
                    f"is {model.kv_format}; change kv_format."
                )
            return model
    allowed = ", ".join(str(model.weight_format) for model in request.models)
    raise ConfigError(
        f"The plan has weights in {choice.weight_format}, allowed here is {allowed}; change "
        "weight_format in the plan or give --weight-format."
    )


def _check_units(model: ModelSizes, choice: PlanChoice) -> None:
    """Every unit once: resident or streamed."""
    on_device = choice.device.resident if choice.device else ()
    counts = Counter((*choice.resident, *choice.streamed, *on_device))
    names = {sized.unit.name for sized in model.units}
    problems = (
        ("names units that the model does not have", counts.keys() - names),
        ("names units more than once", {name for name, count in counts.items() if count > 1}),
        ("leaves units out", names - counts.keys()),
    )
    for problem, found in problems:
        if found:
            raise ConfigError(
                f"The plan {problem} ({_some(found)}); name each unit of the model once, as "
                "resident or as streamed."
            )


def _check_sizes(model: ModelSizes, choice: PlanChoice) -> None:
    largest_bytes = max((model.bytes_by_name[name] for name in choice.streamed), default=0)
    limits = (
        (choice.ring >= largest_bytes, f"ring is {format_bytes(choice.ring)}", "at least "
         f"{format_bytes(largest_bytes)} ({largest_bytes} bytes), the largest streamed unit"),
        (choice.sweep_tokens >= choice.max_sequences, f"sweep_tokens is {choice.sweep_tokens}",
         f"at least max_sequences, {choice.max_sequences}"),
        (choice.micro_batch_tokens <= choice.sweep_tokens, "micro_batch_tokens is "
         f"{choice.micro_batch_tokens}", f"at most sweep_tokens, {choice.sweep_tokens}"),
        (choice.read_block % PAGE_BYTES == 0, f"read_block is {choice.read_block}",
         f"a multiple of {PAGE_BYTES}"),
        (choice.read_concurrency <= MOST_CONCURRENT_READS, "read_concurrency is "
         f"{choice.read_concurrency}", f"at most {MOST_CONCURRENT_READS}"),
        (model.table_bytes > 0 or not choice.table_resident, "table_resident is true",
         "false, as the embedding of this model is its head"),
    )  # fmt: skip
    for holds, given, allowed in limits:
        if not holds:
            raise ConfigError(f"In the plan {given}, allowed is {allowed}; change it.")


def _check_workload(workload: Workload, choice: PlanChoice) -> None:
    blocks = max(map(blocks_for, workload.total_lens))
    if choice.kv_blocks < blocks:
        raise ConfigError(
            f"The plan has {choice.kv_blocks} KV blocks, the longest request needs {blocks}; raise "
            "kv_blocks or ask for less."
        )


def _check_budget(candidate: Candidate, budget_bytes: int) -> None:
    used_bytes = candidate.peak_bytes["cpu"]
    if used_bytes > budget_bytes:
        rows = "".join(f"\n  {name:<22}{format_bytes(size)}" for name, size in candidate.memory)
        raise BudgetError(
            f"The plan takes {format_bytes(used_bytes)}, the budget is "
            f"{format_bytes(budget_bytes)}; stream more units or raise the budget:{rows}"
        )


def _some(names: Iterable[str]) -> str:
    """A few names for a message."""
    shown = sorted(names)
    more = f" and {len(shown) - SHOWN_NAMES} more" if len(shown) > SHOWN_NAMES else ""
    return ", ".join(shown[:SHOWN_NAMES]) + more
