"""Preempted sequences that are swapped to disk against ones that are computed again.

Blocks are given out for outputs that are expected to be short, so that sequences have to make room;
whole runs of one engine take turns, with everything in memory and with everything streamed. What
the engine itself would do is counted in `swaps_predicted_frac`::

    python -m benchmarks.bench_swapping --model .checkpoints/llama-0.25b --json out.json
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.engine_turns import Row, compared, engine_of, sequences_of
from benchmarks.entry import result_parser, run
from benchmarks.result import report
from lm_offload import LLM, Workload
from lm_offload.engine.engine import Engine
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.kvcache.swap_choice import Preemption, SwapChoice
from lm_offload.kvcache.swap_file import swap_slot_bytes
from lm_offload.plan import Plan
from lm_offload.planner.choose.swap_cost import swap_choice
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.scheduler.output_lengths import OutputLengths
from lm_offload.sequence import Sequence
from lm_offload.units import GIB, align_up

BUDGET_BYTES = 3 * GIB
RING_BYTES = 140 << 20  # where all is streamed


@dataclass(frozen=True)
class Case:
    """Sequences whose outputs become four times as long as is expected of them."""

    model: Path
    streamed: bool
    prompt_len: int = 160
    gen_len: int = 48
    count: int = 4
    blocks: int = 36  # of 16 tokens: two sequences fit as a whole, three as long as is expected

    @property
    def workload(self) -> Workload:
        """All of them at once."""
        lens = (self.prompt_len,) * self.count, (self.gen_len,) * self.count
        return Workload(*lens, may_end_early=True)


class ShortOutputs(OutputLengths):
    """Expects a quarter of what the outputs may be."""

    def expected_tokens(self, sequence: Sequence) -> int:
        """Of a sequence, those that it has among them."""
        more = sequence.params.most_tokens // 4
        return min(sequence.num_tokens + more, sequence.max_tokens)


class SwitchedSwapping:
    """Swaps always or never, and counts how often the model would."""

    def __init__(self, model: SwapChoice) -> None:
        self._model = model
        self.allowed = True
        self.asked = self.paid = 0

    def __call__(self, preemption: Preemption) -> bool:
        """Whether to swap."""
        self.asked += 1
        self.paid += self._model(preemption)
        return self.allowed


def main() -> None:
    """Measure both cases and print a row each."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cases = (Case(args.model, streamed) for streamed in (False, True))
    report("swapping", (measure(case, args.rounds) for case in cases), args.json)


def measure(case: Case, rounds: int) -> Row:
    """Both ways in turns."""
    with LLM(case.model, cpu_memory=BUDGET_BYTES, speculation="off") as llm:
        plan = plan_of(llm, case)
        pays = SwitchedSwapping(swap_choice(llm._request(case.workload), plan))
        with engine_of(llm, plan, swap_pays=pays) as engine:
            redone: dict[bool, int] = {}

            def turn(swapped: bool) -> float:
                pays.allowed = swapped
                seconds = run_s(llm, engine, case)
                redone[swapped] = sum(record.redone_tokens for record in engine.records)
                return seconds

            found = compared(turn, rounds)
            preemptions = engine.machinery.scheduler.preemptions
    return {
        "model": case.model.name,
        "weights": "streamed" if case.streamed else "resident",
        "kv_format": plan.kv_format,
        **found,
        "swaps_predicted_frac": pays.paid / max(pays.asked, 1),
        "preemptions": preemptions,
        "redone_tokens": redone[True],
        "redone_tokens_without": redone[False],
    }


def plan_of(llm: LLM, case: Case) -> Plan:
    """Few blocks, places for all sequences, and memory for a block on its way to the disk."""
    choice = replace(
        choice_of(llm.plan_for(case.workload)),
        kv_blocks=case.blocks,
        max_sequences=1,
        spare_sequences=case.count - 1,
        sweep_tokens=256,
        micro_batch_tokens=256,
    )
    if case.streamed:
        names = (*choice.resident, *choice.streamed)
        choice = replace(choice, resident=(), streamed=names, ring=RING_BYTES)
    plan = fixed_plan(llm._request(case.workload), choice)
    slot_bytes = swap_slot_bytes(kv_block_bytes(llm.files.config, llm.files.kv_format))
    others = [(name, size_bytes) for name, size_bytes in plan.memory if name != "KV swap"]
    return replace(plan, memory=(*others, ("KV swap", align_up(slot_bytes))))


def run_s(llm: LLM, engine: Engine, case: Case) -> float:
    """Seconds until all sequences are finished."""
    scheduler = engine.machinery.scheduler
    engine.records.clear()
    start_s = time.perf_counter()
    engine.add(sequences_of(llm, case.count, case.prompt_len, case.gen_len))
    scheduler._lengths = ShortOutputs()
    while engine.has_work:
        engine.step()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    run(main)
