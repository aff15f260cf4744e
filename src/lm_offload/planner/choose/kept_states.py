"""How many states behind prefixes the memory is worth to a model with recurrent layers.

Nobody can tell what the next prompts begin with. A few are planned for where they take little of
the budget, and more in what a plan leaves of it.
"""

from __future__ import annotations

from dataclasses import replace

from lm_offload.plan import Plan
from lm_offload.planner.choose.smallest import smallest_memory
from lm_offload.planner.costs.memory import kept_states_bytes
from lm_offload.planner.request import Request

PLANNED = 4  # a conversation has two: behind its last prompt and behind its last answer
PLANNED_FRAC = 1 / 64  # of the budget
MOST = 64  # in memory that nothing else wants


def with_kept_states(request: Request) -> Request:
    """The request with slots for states, one at least if prompts have a prefix in common.

    If none fits, each prompt is computed from its beginning.
    """
    if request.config.recurrent is None:
        return request
    room_bytes = request.budget_bytes - sum(
        size_bytes for _, size_bytes in smallest_memory(request)
    )
    shares = any(request.workload.shared_lens)
    count = max(_most(request, PLANNED, request.budget_bytes * PLANNED_FRAC), int(shares))
    count = min(count, _most(request, count, room_bytes))
    workload = request.workload if count else replace(request.workload, shared_lens=())
    return replace(request, kept_states=count, workload=workload)


def with_spare_states(request: Request, plan: Plan) -> Plan:
    """The plan with as many slots more as what it leaves of the budget holds."""
    if request.config.recurrent is None:
        return plan
    others = [(name, size_bytes) for name, size_bytes in plan.memory if name != "kept states"]
    room_bytes = plan.budget_bytes - sum(size_bytes for _, size_bytes in others)
    count = max(_most(request, MOST, room_bytes), plan.kept_states)
    rows = ("kept states", kept_states_bytes(request.config, count))
    at = [name for name, _ in others].index("recurrent states") + 1
    memory = (*others[:at], *([rows] if count else []), *others[at:])
    peak_bytes = {**plan.predicted.peak_bytes, "cpu": sum(size for _, size in memory)}
    predicted = replace(plan.predicted, peak_bytes=peak_bytes)
    return replace(plan, kept_states=count, memory=memory, predicted=predicted)


def _most(request: Request, most: int, room_bytes: float) -> int:
    """Up to `most` slots that this memory holds."""
    fits = (it for it in range(most, 0, -1) if kept_states_bytes(request.config, it) <= room_bytes)
    return next(fits, 0)
