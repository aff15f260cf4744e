"""How a plan differs from the one that was chosen, and what it loses by that, in a few words."""

from __future__ import annotations

from collections.abc import Iterator

from lm_offload.arch.halves import are_cut
from lm_offload.device_plan import AttentionOn
from lm_offload.plan import Figures, Plan
from lm_offload.planner.reasons.in_place_reason import in_place_text
from lm_offload.quant.format import parse_format
from lm_offload.units import format_bytes

SHOWN_REASONS = 2


def plan_name(plan: Plan, best: Plan) -> str:
    """What sets a plan apart: its formats where they differ, else its sizes."""
    if formats := list(_other_formats(plan, best)):
        return ", ".join(formats)
    sequences = f"{plan.max_sequences} sequence{'s' * (plan.max_sequences > 1)} in flight"
    ring = f", a ring of {format_bytes(plan.ring_bytes)}" if plan.streamed else ""
    cut = are_cut(plan.unit_names)
    if plan.streamed and cut != are_cut(best.unit_names):
        ring += " and MLPs of two units each" if cut else " and whole MLPs"
    if plan.device and best.device and plan.device.attention != best.device.attention:
        sequences += f" with attention on {_places(plan.device.attention)}"
    if plan.device and best.device:
        in_place = in_place_text(plan.device.in_place)
        if in_place != in_place_text(best.device.in_place):
            sequences += f" with {in_place or 'nothing'} in place"
    if plan.spill.layers:
        sequences += f" with KV of {len(plan.spill.layers)} layers on disk"
    return (
        f"{sequences}, {plan.sweep_tokens} tokens a sweep in micro-batches of "
        f"{plan.micro_batch_tokens}{ring}"
    )


def _places(attention: AttentionOn) -> str:
    return "both processors" if attention == "both" else f"the {attention}"


def reason_of(plan: Plan, best: Plan) -> str:
    """Why a plan that is allowed was not chosen."""
    if plan.predicted.run_s <= best.predicted.run_s:
        return "as fast by prediction"
    found = (*_different_sizes(plan, best), _slower_phase(plan.predicted, best.predicted))
    return ", ".join(found[:SHOWN_REASONS])


def _other_formats(plan: Plan, best: Plan) -> Iterator[str]:
    if plan.weight_format != best.weight_format:
        yield f"{plan.weight_format} weights"
    if plan.kv_format != best.kv_format:
        yield f"{plan.kv_format} KV cache"


def is_lossy(plan: Plan) -> bool:
    """Whether weights, keys or values are rounded."""
    return any(parse_format(name).is_packed for name in (plan.weight_format, plan.kv_format))


def _different_sizes(plan: Plan, best: Plan) -> Iterator[str]:
    more_bytes = _read_bytes(plan) - _read_bytes(best)
    if more_bytes > 0:
        yield f"reads {format_bytes(more_bytes)} more in each sweep"
    if plan.max_sequences < best.max_sequences:
        yield "shares each sweep between fewer sequences"
    elif plan.sweep_tokens < best.sweep_tokens:
        yield "needs more sweeps for the prompts"
    elif plan.micro_batch_tokens < best.micro_batch_tokens:
        yield "multiplies fewer rows at once"
    if plan.device and best.device:
        more_bytes = plan.device.uploaded_bytes - best.device.uploaded_bytes
        if more_bytes > 0:
            yield f"uploads {format_bytes(more_bytes)} more in each sweep"
    if 0 < plan.ring_bytes < best.ring_bytes:
        yield "reads less far ahead"


def _read_bytes(plan: Plan) -> int:
    """In a sweep: weights, and the KV cache of the phase that reads most of it."""
    kv_bytes = max(step.kv_read_bytes for step in plan.predicted.step_s.values())
    retained_bytes = plan.retention.size_bytes if plan.retention else 0.0
    return plan.streamed_bytes + round(kv_bytes - retained_bytes)


def _slower_phase(found: Figures, best: Figures) -> str:
    """The phase that loses more, and what it waits for."""
    slower = {"prefill": best.prefill_tokens_per_s / found.prefill_tokens_per_s}
    if found.decode_tokens_per_s:
        slower["decode"] = best.decode_tokens_per_s / found.decode_tokens_per_s
    phase = max(slower, key=slower.__getitem__)
    step = found.step_s[phase]
    seconds = {
        "the disk": step.disk_read_s,
        "the link": step.h2d_s,
        "the CPU": step.attend_s,
        "computing": max(step.cpu_s, step.gpu_s),
    }
    bound = max(reversed(seconds), key=seconds.__getitem__)
    return f"{phase} is {slower[phase]:.2f}x slower, bound by {bound}"
