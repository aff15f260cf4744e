"""One model under several GPU budgets, beside other engines: rates, busy device, link, memory.

::

    python -m benchmarks.gpu --json out.json                      # writes 13 GB of random weights
    python -m benchmarks.gpu --model .checkpoints/llama-1.1b --gpu-memory 1.5GiB 3GiB
    python -m benchmarks.gpu --preset tiny --device standin:2GB/s --gpu-memory 2MiB 8MiB

Weights are bf16, on GPUs before capability 8.0 fp16. Ends within `--seconds` (500), the checkpoint
included: every measurement is a process of its own
with a limit, the only one that opens the GPU, and the file is written anew after each. Without a
GPU only the stand-in runs, whose figures show that the command works and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.checkpoint_shapes import PRESETS
from benchmarks.entry import result_parser, run
from benchmarks.gpu.case import Case
from benchmarks.gpu.child import run_case
from benchmarks.gpu.fast_checkpoint import dtype_for, made
from benchmarks.result import Row, report
from lm_offload.device.registry import missing_gpu
from lm_offload.errors import ConfigError

ENGINE = "benchmarks.gpu.engine_case"
CALIBRATION = "benchmarks.gpu.calibrate_case"
PEERS = {
    "accelerate": "benchmarks.gpu.accelerate_case",
    "zero-inference": "benchmarks.gpu.zero_case",
    "flexllmgen": "benchmarks.gpu.flexllmgen_case",
}
PEER_FRAC = 0.4  # of the time that is left when the engine begins, kept for the others
WRITE_FRAC = 0.5  # of all the time, that writing the checkpoint may take
LEAST_S = 20.0  # of a measurement that is worth its start
END_S = 5.0  # kept to write the result


def main() -> None:
    """The GPU, the engine, then the others on the first budget; a row each, then one JSON line."""
    args = _arguments()
    if args.device.startswith("cuda") and (reason := missing_gpu()):
        raise ConfigError(f"There is no GPU to measure: {reason}")
    deadline_s = time.perf_counter() + args.seconds - END_S
    dtype = dtype_for(args.device)
    model = args.model or made(args.preset, dtype, args.folder, WRITE_FRAC * args.seconds)
    made_s = time.perf_counter() + args.seconds - END_S - deadline_s
    measured = _rows(args, model, deadline_s)
    report("gpu", measured, args.json, show=format_row, checkpoint_s=made_s)


def _rows(args: argparse.Namespace, model: Path, deadline_s: float) -> Iterator[Row]:
    """A row for each case, measured within its time."""
    left_s = deadline_s - time.perf_counter()
    for engine, module, case, until_s in _measurements(args, model, deadline_s, left_s):
        limit_s = min(until_s - time.perf_counter(), args.case_seconds)
        found = run_case(module, case, limit_s if limit_s >= min(LEAST_S, args.seconds) else 0.0)
        yield {"engine": engine, **asdict(case), "model": model.name, **found}


def _measurements(
    args: argparse.Namespace, model: Path, deadline_s: float, left_s: float
) -> list[tuple[str, str, Case, float]]:
    """Name, module, case, and the moment until which it may run."""

    def case(memory: str, batch: int) -> Case:
        sizes = args.prompt_len, args.gen_len
        return Case(str(model), args.device, memory, args.cpu_memory, batch, *sizes)

    peers = [name for name in PEERS if name in args.peers]
    engine_until_s = deadline_s - (PEER_FRAC * left_s if peers else 0.0)
    return [
        ("calibration", CALIBRATION, case(args.gpu_memory[0], args.batches[0]), engine_until_s),
        *(
            ("lm-offload", ENGINE, case(memory, batch), engine_until_s)
            for memory in args.gpu_memory
            for batch in args.batches
        ),
        *(
            (name, PEERS[name], case(args.gpu_memory[0], batch), deadline_s)
            for name in peers
            for batch in args.batches
        ),
    ]


def _arguments() -> argparse.Namespace:
    parser = result_parser(__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", type=Path)
    which.add_argument("--preset", choices=PRESETS, default="7b", help="random weights")
    parser.add_argument("--folder", type=Path, default=Path(".checkpoints"), help="for them")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--gpu-memory", nargs="+", default=["4GiB", "8GiB", "16GiB"])
    parser.add_argument("--cpu-memory", default="", help="of the engine; default: what there is")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--prompt-len", type=int, default=128)
    parser.add_argument("--gen-len", type=int, default=16)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[*PEERS])
    parser.add_argument("--seconds", type=float, default=500.0, help="of everything")
    parser.add_argument("--case-seconds", type=float, default=100.0, help="of one measurement")
    return parser.parse_args()


def format_row(row: Row) -> str:
    """One line for people."""
    head = f"{row['engine']:<15}{row['gpu_memory']:>8} batch {row['batch']:>3}"
    if "error" in row:
        return f"{head}  {row['error']}"
    if "calibration_s" in row:
        best = max(row["links_bytes_per_s"]["h2d"]["alone"].values())
        return f"{head}  {row['calibration_s']:.1f} s, uploads at {best / 1e9:.2f} GB/s"
    rates = f"{head}  decode {row['decode_tokens_per_s']:8.2f} tok/s"
    if "gpu_busy_frac" not in row:
        return rates
    return (
        f"{rates} (predicted {row['predicted_decode_tokens_per_s']:8.2f}), device busy "
        f"{row['gpu_busy_frac']:4.0%}, link {row['h2d_bytes_per_s'] / 1e9:5.2f} GB/s, "
        f"{row['h2d_of_peak_frac']:4.0%} of its peak{_memory(row)}"
    )


def _memory(row: Row) -> str:
    peak_bytes = row.get("driver_peak_bytes")
    if peak_bytes is None:
        return ""
    budget_bytes = row["device_budget_bytes"]
    return f", {peak_bytes / 1e9:.2f} of {budget_bytes / 1e9:.2f} GB by the driver"


if __name__ == "__main__":
    run(main)
