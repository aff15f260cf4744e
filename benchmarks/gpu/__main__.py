"""One model under several GPU budgets: rates, busy device, link used, predicted against measured.

::

    python -m benchmarks.gpu --preset 8b --json out.json          # writes 16 GB of random weights
    python -m benchmarks.gpu --model .checkpoints/llama-1.1b --gpu-memory 1.5GiB 3GiB
    python -m benchmarks.gpu --preset tiny --device standin:2GB/s --gpu-memory 2MiB 8MiB

No case is begun after `--seconds` (480); without a GPU only the stand-in runs, whose figures show
that the command works and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.entry import run
from benchmarks.make_checkpoint import PRESETS, make_checkpoint
from benchmarks.peers.protocol import make_prompts
from benchmarks.testbed import describe
from lm_offload import LLM, LMOffloadError, SamplingParams, Workload
from lm_offload.device.registry import missing_gpu
from lm_offload.engine.outputs import SweepRecord
from lm_offload.errors import ConfigError

SEED = 0


@dataclass(frozen=True)
class Case:
    """One budget and batch."""

    gpu_memory: str
    batch: int
    prompt_len: int
    gen_len: int


def main() -> None:
    """Run the cases that the time allows; a row for each, then one JSON line."""
    args = _arguments()
    if args.device.startswith("cuda") and (reason := missing_gpu()):
        raise ConfigError(f"There is no GPU to measure: {reason}")
    deadline_s = time.perf_counter() + args.seconds
    model = args.model or _made(args.preset)
    cases = [
        Case(memory, batch, args.prompt_len, args.gen_len)
        for memory in args.gpu_memory
        for batch in args.batches
    ]
    rows: list[dict[str, Any]] = []
    for case in cases:
        if time.perf_counter() < deadline_s:
            rows.append(measure(model, case, args.device, args.cpu_memory))
            print(format_row(rows[-1]), flush=True)
    skipped = len(cases) - len(rows)
    bed = {**describe(), "device": _device_name(args.device)}
    result = {"benchmark": "gpu", "testbed": bed, "rows": rows, "skipped_for_time": skipped}
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path)
    which.add_argument("--preset", choices=PRESETS, help="random weights, in .checkpoints")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--gpu-memory", nargs="+", default=["4GiB", "8GiB", "16GiB"])
    parser.add_argument("--cpu-memory")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--prompt-len", type=int, default=128)
    parser.add_argument("--gen-len", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure(model: Path, case: Case, device: str, cpu_memory: str | None) -> dict[str, Any]:
    """The case's figures, or the error that it ended with."""
    try:
        return {**asdict(case), **_measured(model, case, device, cpu_memory)}
    except LMOffloadError as error:
        return {**asdict(case), "error": str(error).splitlines()[0]}


def _measured(model: Path, case: Case, device: str, cpu_memory: str | None) -> dict[str, Any]:
    workload = Workload((case.prompt_len,) * case.batch, (case.gen_len,) * case.batch)
    free_bytes = _free_bytes(device)
    with LLM(model, cpu_memory=cpu_memory, gpu_memory=case.gpu_memory, device=device) as llm:
        plan, link = llm.plan_for(workload), llm.profile.h2d
        assert plan.device is not None
        assert link is not None
        prompts = make_prompts(model, case.batch, case.prompt_len, SEED)
        llm.load(workload)
        llm.generate(prompts, SamplingParams(max_tokens=2, ignore_eos=True))  # touches everything
        llm.generate(prompts, SamplingParams(max_tokens=case.gen_len, ignore_eos=True))
        stats = llm.stats
        return {
            "units_on_device": len(plan.device.resident),
            "units_on_host": len(plan.resident),
            "units_on_disk": len(plan.streamed),
            "prefill_tokens_per_s": stats.prefill_tokens_per_s,
            "decode_tokens_per_s": stats.decode_tokens_per_s,
            "predicted_prefill_tokens_per_s": plan.predicted.prefill_tokens_per_s,
            "predicted_decode_tokens_per_s": plan.predicted.decode_tokens_per_s,
            "device_planned_bytes": plan.device.used_bytes,
            "device_taken_bytes": free_bytes - _free_bytes(device) if free_bytes else None,
            **_shares(stats.decode, max(link.bytes_per_s.rates)),
        }


def _shares(sweeps: list[SweepRecord], peak_bytes_per_s: float) -> dict[str, float]:
    """Of decode sweeps: the device computing, and the link's rate over its measured peak."""
    times = [sweep.time for sweep in sweeps]
    total_s = sum(time.total_s for time in times)
    h2d_bytes_per_s = sum(time.h2d_bytes for time in times) / total_s
    return {
        "gpu_busy_frac": sum(time.gpu_s for time in times) / total_s,
        "h2d_bytes_per_s": h2d_bytes_per_s,
        "h2d_peak_bytes_per_s": peak_bytes_per_s,
        "h2d_of_peak_frac": h2d_bytes_per_s / peak_bytes_per_s,
        "disk_bytes_per_s": sum(time.read_bytes for time in times) / total_s,
    }


def format_row(row: dict[str, Any]) -> str:
    """One line for people."""
    head = f"{row['gpu_memory']:>8} batch {row['batch']:>3}"
    if "error" in row:
        return f"{head}  {row['error']}"
    return (
        f"{head}  decode {row['decode_tokens_per_s']:8.2f} tok/s (predicted "
        f"{row['predicted_decode_tokens_per_s']:8.2f}), device busy {row['gpu_busy_frac']:4.0%}, "
        f"link {row['h2d_bytes_per_s'] / 1e9:5.2f} GB/s, {row['h2d_of_peak_frac']:4.0%} of its peak"
    )


def _made(preset: str) -> Path:
    out, shape = Path(".checkpoints") / f"llama-{preset}", PRESETS[preset]
    make_checkpoint(shape, "bf16", shape.shard_bytes, SEED, out)
    return out


def _free_bytes(device: str) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


if __name__ == "__main__":
    run(main)
