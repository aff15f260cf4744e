"""What a plan that somebody decided must hold: units, sizes, workload and budget fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lm_offload.errors import BudgetError, ConfigError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.spilled_size import spillable_layers
from lm_offload.plan import Workload
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.decided.plan_choice import PlanChoice
from lm_offload.planner.places.candidate import Candidate
from lm_offload.units import PAGE_BYTES, format_bytes

MOST_CONCURRENT_READS = 64
SHOWN_NAMES = 3
Limit = tuple[bool, str, str]  # whether it holds, what was given, what is allowed


def check_units(model: ModelSizes, choice: PlanChoice) -> None:
    """Every unit is named once, as resident or as streamed; raises ConfigError, as all of these."""
    on_device = choice.device.resident if choice.device else ()
    counts = Counter((*choice.resident, *choice.streamed, *on_device))
    names = model.bytes_by_name.keys()
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


def check_sizes(model: ModelSizes, choice: PlanChoice) -> None:
    """Rows, blocks and rings are large enough for one another."""
    experts = frozenset(model.experts.names if model.experts else ())
    largest_bytes = _largest_bytes(model, frozenset(choice.streamed) - experts)
    changing = experts if experts.intersection(choice.streamed) else frozenset[str]()
    largest_expert_bytes = _largest_bytes(model, changing)  # any of them may come to be streamed
    limits = (
        (choice.ring >= largest_bytes, f"ring is {format_bytes(choice.ring)}", "at least "
         f"{format_bytes(largest_bytes)} ({largest_bytes} bytes), the largest streamed unit"),
        (choice.expert_ring >= largest_expert_bytes,
         f"expert_ring is {format_bytes(choice.expert_ring)}", "at least "
         f"{format_bytes(largest_expert_bytes)} ({largest_expert_bytes} bytes), the largest "
         "streamed expert"),
        (choice.sweep_tokens >= choice.max_sequences, f"sweep_tokens is {choice.sweep_tokens}",
         f"at least max_sequences, {choice.max_sequences}"),
        (choice.spare_sequences <= choice.sweep_tokens - choice.max_sequences,
         f"spare_sequences is {choice.spare_sequences}", "at most sweep_tokens less max_sequences, "
         f"{choice.sweep_tokens - choice.max_sequences}"),
        (choice.draft_rows <= choice.sweep_tokens - choice.max_sequences,
         f"draft_rows is {choice.draft_rows}", "at most sweep_tokens less max_sequences, "
         f"{choice.sweep_tokens - choice.max_sequences}"),
        (choice.scored_rows <= choice.sweep_tokens, f"scored_rows is {choice.scored_rows}",
         f"at most sweep_tokens, {choice.sweep_tokens}"),
        (choice.micro_batch_tokens <= choice.sweep_tokens, "micro_batch_tokens is "
         f"{choice.micro_batch_tokens}", f"at most sweep_tokens, {choice.sweep_tokens}"),
        (choice.read_block % PAGE_BYTES == 0, f"read_block is {choice.read_block}",
         f"a multiple of {PAGE_BYTES}"),
        (choice.read_concurrency <= MOST_CONCURRENT_READS, "read_concurrency is "
         f"{choice.read_concurrency}", f"at most {MOST_CONCURRENT_READS}"),
        (model.table_bytes > 0 or not choice.table_resident, "table_resident is true",
         "false, as the embedding of this model is its head"),
        (not model.config.recurrent or not choice.draft_rows, f"draft_rows is {choice.draft_rows}",
         "0, as a recurrent state cannot take drafts back"),
        (model.config.recurrent is not None or not choice.kept_states,
         f"kept_states is {choice.kept_states}", "0, as no layer of this model is recurrent"),
    )  # fmt: skip
    _check_limits((*limits, *_spill_limits(model, choice)))


def _largest_bytes(model: ModelSizes, names: frozenset[str]) -> int:
    return max(map(model.bytes_by_name.__getitem__, names), default=0)


def _spill_limits(model: ModelSizes, choice: PlanChoice) -> Iterable[Limit]:
    """Of a KV cache that lies on disk."""
    layers, given = model.config.layers, choice.kv_on_disk
    if model.experts is not None:
        yield not given, f"kv_on_disk is {list(given)}", "no layer of a mixture of experts"
    group, ring = choice.kv_group_blocks, choice.kv_ring_blocks
    if not given:
        yield (group == ring == 0, f"kv_group_blocks is {group} and kv_ring_blocks is {ring}",
               "0 for both where kv_on_disk names no layer")  # fmt: skip
        return
    known = len(set(given)) == len(given) and max(given) < len(layers)
    yield known, f"kv_on_disk is {list(given)}", f"each layer below {len(layers)} once"
    attending = not any(layers[index].recurrent for index in given if index < len(layers))
    yield attending, f"kv_on_disk is {list(given)}", "no recurrent layer"
    able = spillable_layers(model.config)
    alike = not attending or {*given} <= {*able, *range(len(layers), max(given) + 1)}
    yield alike, f"kv_on_disk is {list(given)}", f"layers out of {able}, whose blocks are alike"
    yield group > 0, "kv_group_blocks is 0", "at least the blocks of the longest request"
    yield ring >= group, f"kv_ring_blocks is {ring}", f"at least kv_group_blocks, {group}"
    yield (choice.draft_rows == 0, f"draft_rows is {choice.draft_rows}",
           "0 where kv_on_disk names layers")  # fmt: skip


def _check_limits(limits: Iterable[Limit]) -> None:
    for holds, given, allowed in limits:
        if not holds:
            raise ConfigError(f"In the plan {given}, allowed is {allowed}; change it.")


def check_retention(candidate: Candidate, choice: PlanChoice) -> None:
    """Unused KV memory is lent only where that is possible."""
    if choice.retention and not candidate.can_lend:
        raise ConfigError(
            "In the plan retention is true, allowed is false with a device, with kv_on_disk, where "
            "spare_sequences are swapped and where no streamed unit fits the KV cache; change it."
        )


def check_workload(workload: Workload, choice: PlanChoice) -> None:
    """The longest request fits."""
    blocks = blocks_for(workload.most_tokens)
    if choice.kv_on_disk and choice.kv_group_blocks < blocks:
        raise ConfigError(
            f"The plan stages {choice.kv_group_blocks} KV blocks together, the longest request "
            f"needs {blocks}; raise kv_group_blocks and kv_ring_blocks or ask for less."
        )
    on_device = choice.device.kv_blocks if choice.device else 0
    most = max(choice.kv_blocks - on_device, on_device)
    if most < blocks:
        raise ConfigError(
            f"The plan has {most} KV blocks in one memory, the longest request needs {blocks}; "
            "raise kv_blocks or ask for less."
        )


def check_budget(candidate: Candidate, budget_bytes: int) -> None:
    """All memory of the CPU fits; raises BudgetError with the table of bytes."""
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
