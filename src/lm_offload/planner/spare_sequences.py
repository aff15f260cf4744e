"""Places for sequences beyond those whose longest outputs fit: for outputs that end early."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.plan import Plan
from lm_offload.planner.fixed_plan import sizes_of_choice
from lm_offload.planner.memory import Sizes, memory_table
from lm_offload.planner.plan_text import choice_of
from lm_offload.planner.request import Request

MOST_FACTOR = 8  # times the sequences that fit at their longest


def with_spare_sequences(request: Request, plan: Plan) -> Plan:
    """The plan with as many more sequences in flight as what it leaves of the budget pays for.

    They take a row of logits and index tensors each, and no block: whether there is one is seen
    while the run goes. Nothing is streamed for their sake, and the prediction stays that of
    outputs as long as they may become.
    """
    workload = request.workload
    if not workload.may_end_early or workload.objective == "latency":
        return plan
    in_flight = plan.max_sequences
    rows = plan.sweep_tokens - in_flight - plan.draft_rows
    most = min(len(workload.prompt_lens) - in_flight, (MOST_FACTOR - 1) * in_flight, rows)
    sizes = sizes_of_choice(choice_of(plan))
    for spare in range(most, 0, -1):
        memory = _memory(request, plan, replace(sizes, spare_sequences=spare))
        if sum(size_bytes for _, size_bytes in memory) <= plan.budget_bytes:
            return replace(plan, spare_sequences=spare, memory=memory)
    return plan


def _memory(request: Request, plan: Plan, sizes: Sizes) -> tuple[tuple[str, int], ...]:
    """The plan's table of bytes with other sizes."""
    model = request.model_in(plan.weight_format, plan.kv_format)
    changed = dict(memory_table(model, sizes, plan.table_resident))
    return tuple((name, changed.get(name, size_bytes)) for name, size_bytes in plan.memory)
