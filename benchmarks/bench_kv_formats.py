"""Keys and values in bf16, int8 and int4 where they are larger than memory: is the choice right?

The plan for each format and the one that `--kv-format auto` chooses, all within the same memory:
a part of the weights, a part of the cache in bf16, and what everything else takes. Their decode
sweeps take turns at the mean context of the run, over a cache that is filled with made-up keys and
values, and are compared with what was predicted::

    python -m benchmarks.bench_kv_formats --model .checkpoints/llama-0.25b --json out.json
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine_turns import engine_of, sequences_of
from benchmarks.entry import result_parser, run
from benchmarks.result import report
from benchmarks.round_ratio import quotients, with_bounds, with_interval
from benchmarks.synthetic_cache import fill
from lm_offload import LLM, Workload
from lm_offload.engine.engine import Engine
from lm_offload.engine.machinery import Machinery
from lm_offload.plan import Plan
from lm_offload.quant.kv_format import BLOCK_TOKENS

OWN = "bf16"
FORMATS = (OWN, "int8", "int4")
# Sequences, their context, the parts of weights and of a cache in bf16 that there is memory for.
# Where most weights are read in every sweep more sequences at once are worth reading a cache.
GRID = (
    (32, 4096, 1.0, 2.0),
    (32, 4096, 1.0, 0.5),
    (32, 1024, 0.2, 0.5),
    (64, 512, 0.2, 0.25),
    (64, 512, 0.2, 0.1),
)
PROMPT_LEN = 16  # short: prompts take the same time in every format
SWEEPS, WARM_UP = 4, 1  # of a turn; the first one finds caches as another engine left them
ENOUGH = "95%"
TIE = 0.02  # choices closer than this are as good
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Sequences that grow to `context`, and what is in memory of weights and of a cache in bf16."""

    model: Path
    batch: int
    context: int
    weights_frac: float
    cache_frac: float
    threads: int

    @property
    def workload(self) -> Workload:
        """Decode but for the shortest of prompts."""
        return Workload((PROMPT_LEN,) * self.batch, (self.context - PROMPT_LEN,) * self.batch)


@dataclass(frozen=True)
class Ready:
    """An engine in the middle of a run."""

    llm: LLM
    plan: Plan
    engine: Engine


def main() -> None:
    """Measure every case; a table for each, then one JSON line."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    cases = (Case(args.model, *sizes, args.threads) for sizes in GRID)
    rows = (measure(case, args.rounds) for case in cases)
    report("kv-formats", rows, args.json, show=format_row)


def measure(case: Case, rounds: int) -> Row:
    """All formats in turns, beside what was predicted and chosen."""
    budget_bytes = _budget_bytes(case)
    chosen = _chosen(case, budget_bytes)
    with ExitStack() as stack:
        ready = [_ready(stack, case, budget_bytes, name) for name in FORMATS]
        seconds: dict[str, list[float]] = {one.plan.kv_format: [] for one in ready}
        for index in range(rounds):
            for one in ready if index % 2 else ready[::-1]:
                seconds[one.plan.kv_format].append(_token_s(one, case))
    return row_of(case, budget_bytes, chosen, [one.plan for one in ready], seconds)


def _budget_bytes(case: Case) -> int:
    """A part of the weights, a part of the cache, and everything else."""
    with _open(case, ENOUGH, OWN) as llm:
        table = dict(llm.plan_for(case.workload).memory)
    parts = (("resident weights", case.weights_frac), ("KV cache", case.cache_frac))
    return sum(int(table.pop(name) * frac) for name, frac in parts) + sum(table.values())


def _chosen(case: Case, budget_bytes: int) -> str:
    with _open(case, budget_bytes, "auto") as llm:
        return llm.plan_for(case.workload).kv_format


def _open(case: Case, cpu_memory: int | str, kv_format: str) -> LLM:
    return LLM(
        case.model,
        cpu_memory=cpu_memory,
        kv_format=kv_format,
        threads=case.threads,
        speculation="off",
    )


def _ready(stack: ExitStack, case: Case, budget_bytes: int, name: str) -> Ready:
    llm = stack.enter_context(_open(case, budget_bytes, name))
    plan = llm.plan_for(case.workload)
    engine = stack.enter_context(engine_of(llm, plan))
    _fill(engine.machinery, llm)
    return Ready(llm, plan, engine)


def _fill(machinery: Machinery, llm: LLM) -> None:
    """Pages of their own for all of the cache; what is never written is read from one page."""
    if machinery.plan.spill.layers:
        fill(machinery, llm.files.config, llm.files.kv_format, llm.kernels)
        return
    memory = machinery.cache.memory
    memory.view(0, torch.uint8, (memory.size_bytes,)).fill_(1)


def _token_s(ready: Ready, case: Case) -> float:
    """Seconds for a token of one sequence, of a few sweeps with as many as the plan has at once."""
    engine, in_flight = ready.engine, ready.plan.max_sequences
    computed = case.context // 2 // BLOCK_TOKENS * BLOCK_TOKENS
    sequences = sequences_of(ready.llm, in_flight, computed + 1, SWEEPS, computed=computed)
    engine.records.clear()
    engine.add(sequences)
    while engine.has_work:
        engine.step()
    times = [record.time.total_s for record in engine.records[WARM_UP:]]
    return statistics.median(times) / in_flight


def row_of(
    case: Case,
    budget_bytes: int,
    chosen: str,
    plans: Sequence[Plan],
    seconds: dict[str, list[float]],
) -> Row:
    """What was chosen, what each format reached, and what the choice gains and loses."""
    fastest = min(seconds, key=lambda name: statistics.median(seconds[name]))
    return {
        "model": case.model.name,
        "batch": case.batch,
        "context": case.context,
        "weights_frac": case.weights_frac,
        "cache_frac": case.cache_frac,
        "budget_bytes": budget_bytes,
        "formats": [_format_row(plan, seconds[plan.kv_format]) for plan in plans],
        "chosen": chosen,
        "fastest": fastest,
        **with_interval("speedup_over_bf16", quotients(seconds[OWN], seconds[chosen])),
        **with_interval("loss", quotients(seconds[chosen], seconds[fastest])),
    }


def _format_row(plan: Plan, seconds: list[float]) -> Row:
    return {
        "kv_format": plan.kv_format,
        "in_flight": plan.max_sequences,
        "layers_on_disk": len(plan.spill.layers),
        "streamed_bytes": plan.streamed_bytes,
        "kv_memory_bytes": sum(size for name, size in plan.memory if name.startswith("KV")),
        "predicted_tokens_per_s": plan.predicted.decode_tokens_per_s,
        "tokens_per_s": 1 / statistics.median(seconds),
    }


def format_row(row: Row) -> str:
    """One line for each format and one for the choice."""
    lines = [
        f"{row['model']}, {row['batch']} x {row['context']} tokens, "
        f"memory for {row['weights_frac']:.0%} of the weights and {row['cache_frac']:.0%} of a "
        "cache in bf16"
    ]
    for found in row["formats"]:
        predicted, measured = found["predicted_tokens_per_s"], found["tokens_per_s"]
        lines.append(
            f"  {found['kv_format']:8} {predicted:8.1f} tok/s predicted {measured:8.1f} measured  "
            f"{found['in_flight']} in flight, {found['layers_on_disk']} layers on disk, "
            f"{found['streamed_bytes'] / 2**20:.0f} MiB of weights streamed"
        )
    verdict = "as good as" if row["loss"] < 1 + TIE else "slower than"
    lines.append(
        f"  chosen: {row['chosen']}, {with_bounds(row, 'speedup_over_bf16', '.2f')}x bf16, "
        f"{verdict} the fastest, {row['fastest']} ({with_bounds(row, 'loss', '.3f')}x its time)"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
