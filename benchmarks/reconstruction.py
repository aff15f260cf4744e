"""A reconstruction of LM-Offload's comparison with FlexGen and ZeRO-Inference, by simulation.

::

    python -m benchmarks.reconstruction

LM-Offload's paper reports 2.34x the throughput of FlexGen and 1.57x that of ZeRO-Inference on
average (at most 2.95x and 2.88x); its figures by configuration and its constants are not public.
So this says what the same decision gains in *this* simulator on the test bed as recalled (A100
40 GB on PCIe, 240 GB, prompts of 64 tokens), and what this project's planner would gain beyond it;
it is no evidence about the paper's numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

from benchmarks.entry import run
from benchmarks.part_file import write_whole
from benchmarks.rivals import (
    System,
    flexgen,
    flexgen_compressed,
    lm_offload,
    searched,
    searched_exact,
    zero_inference,
)
from lm_offload.arch.shipped import find_config
from lm_offload.errors import BudgetError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.planner.policies.job import Job
from lm_offload.planner.policies.model_shape import model_shape
from lm_offload.planner.policies.rank import Ranked
from lm_offload.planner.policies.search import search
from lm_offload.planner.policies.text import policy_to_dict

RESULTS = Path(__file__).resolve().parent / "results" / "reconstruction.json"
MACHINE = "a100-40gb"
MODELS = ("opt-30b", "opt-66b", "llama-13b", "llama-30b", "llama-65b")
PROMPT_LEN, GEN_LENS = 64, (8, 16, 32, 64, 128)
BASELINES = ("FlexGen", "FlexGen(c)", "ZeRO-Inference")
PUBLISHED = {"FlexGen": {"mean": 2.34, "max": 2.95}, "ZeRO-Inference": {"mean": 1.57, "max": 2.88}}
OURS = ("LM-Offload", "searched, exact", "searched")

Summary = dict[str, dict[str, dict[str, float]]]  # by system, by baseline


@dataclass(frozen=True)
class Row:
    """One model and output length: what each system reaches."""

    model: str
    gen_len: int
    best: dict[str, Ranked]  # by system; those whose plans do not fit are left out

    def rate(self, system: str) -> float:
        """Generated tokens a second."""
        return self.best[system].time.generation_tokens_per_s

    def speedup(self, system: str, baseline: str) -> float | None:
        """How much faster a system is; None where the baseline does not run."""
        return self.rate(system) / self.rate(baseline) if baseline in self.best else None


def main() -> None:
    """Every row as it is found, then the ratios."""
    systems = (
        flexgen(), flexgen_compressed(), zero_inference(),
        lm_offload(), searched_exact(), searched(),
    )  # fmt: skip
    names = [system.name for system in systems]
    print(f"A reconstruction on {load_machine(MACHINE).name}, prompt {PROMPT_LEN}: tokens/s")
    print(_line("model", "tokens", names))
    rows = []
    for row in _rows(systems):
        rows.append(row)
        rates = [f"{row.rate(name):.1f}" if name in row.best else "-" for name in names]
        print(_line(row.model, str(row.gen_len), rates), flush=True)
    summary = {ours: {base: _summary(rows, ours, base) for base in BASELINES} for ours in OURS}
    _print_summary(summary)
    _write(rows, summary)


def _print_summary(summary: Summary) -> None:
    for ours, ratios in summary.items():
        for baseline, ratio in ratios.items():
            print(f"{ours} over {baseline}: {ratio['mean']:.2f}x, at most {ratio['max']:.2f}x")
    for baseline, ratio in PUBLISHED.items():
        print(f"published, LM-Offload over {baseline}: {ratio['mean']}x, at most {ratio['max']}x")


def _rows(systems: Sequence[System]) -> Iterator[Row]:
    for model in MODELS:
        for gen_len in GEN_LENS:
            found = {system.name: _best(system, model, gen_len) for system in systems}
            yield Row(model, gen_len, {name: best for name, best in found.items() if best})


def _best(system: System, model: str, gen_len: int) -> Ranked | None:
    """The best of a system's spaces; None where nothing fits."""
    shape, machine = model_shape(find_config(model)), system.machine(load_machine(MACHINE))
    found = []
    for choices in system.spaces:
        try:
            found.append(search(Job(shape, machine, PROMPT_LEN, gen_len), choices)[1])
        except BudgetError:
            continue
    return min(found, key=lambda ranked: ranked.sequence_s, default=None)


def _summary(rows: Sequence[Row], system: str, baseline: str) -> dict[str, float]:
    speedups = (row.speedup(system, baseline) for row in rows)
    ratios = [ratio for ratio in speedups if ratio is not None]
    return {
        "rows": len(ratios),
        "mean": round(mean(ratios), 3),
        "geometric_mean": round(geometric_mean(ratios), 3),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
    }


def _line(model: str, gen_len: str, cells: Sequence[str]) -> str:
    return f"{model:<10} {gen_len:>6} " + " ".join(f"{cell:>15}" for cell in cells)


def _write(rows: Sequence[Row], summary: Summary) -> None:
    result = {
        "what": "reconstruction by simulation; not a measurement",
        "machine": MACHINE,
        "prompt_len": PROMPT_LEN,
        "published": PUBLISHED,
        "speedups": summary,
        "rows": [_record(row) for row in rows],
    }
    write_whole(RESULTS, result)


def _record(row: Row) -> dict[str, Any]:
    systems = {
        name: {
            "tokens_per_s": round(best.time.generation_tokens_per_s, 3),
            "prefill_s": round(best.time.prefill.step_s, 3),
            "decode_step_s": round(best.time.decode.step_s, 4),
            "bound": f"{best.time.prefill.bottleneck}/{best.time.decode.bottleneck}",
            "policy": policy_to_dict(best.policy),
        }
        for name, best in row.best.items()
    }
    return {"model": row.model, "gen_len": row.gen_len, "systems": systems}


if __name__ == "__main__":
    run(main)
