"""Run every benchmark of the committed results, one after the other, and write the tables.

::

    make bench            # half an hour or more; other engines install themselves on first use

Each part writes its own file in benchmarks/results; one that fails is named and the rest goes on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKPOINT = Path(".checkpoints/llama-1.1b")
RESULTS = Path("benchmarks/results")
PARTS = {
    "fixed-costs": ["benchmarks.bench_fixed_costs"],
    "resident-1.1b": ["benchmarks.bench_resident", "--model", str(CHECKPOINT)],
    "streaming-1.1b": ["benchmarks.bench_streaming", "--model", str(CHECKPOINT)],
    "peers-1.1b": [
        *("benchmarks.bench_peers", "--model", str(CHECKPOINT), "--limit", "1280MiB"),
        *("--prompt-len", "8", "--gen-len", "6", "--rounds", "1", "--timeout-s", "300"),
    ],
    "resident-peers-1.1b": [
        *("benchmarks.bench_peers", "--model", str(CHECKPOINT), "--batches", "16", "64"),
        *("--peers", "transformers", "lm_offload", "--prompt-len", "8", "--gen-len", "6"),
        *("--rounds", "1"),
    ],
    "quantized-peers-1.1b": [
        *("benchmarks.bench_peers", "--model", str(CHECKPOINT), "--prompt-len", "32"),
        *("--peers", "llama_cpp_int8", "lm_offload_int8", "llama_cpp_int4", "lm_offload_int4"),
        *("--gen-len", "8", "--rounds", "1"),
    ],
    "kernels": ["benchmarks.bench_kernels"],
    "quality": ["benchmarks.bench_quality"],
    "prediction": ["benchmarks.bench_prediction"],
    "prefix-demo": ["benchmarks.bench_prefix"],
    "prefix-1.1b": [
        *("benchmarks.bench_prefix", "--model", str(CHECKPOINT), "--weight-format", "int4"),
        *("--prompts", "8", "--prefix-len", "256", "--rounds", "1"),
    ],
}


def main() -> int:
    """Make the checkpoint, run the parts, write the tables; the number of parts that failed."""
    run(["benchmarks.make_checkpoint", "1.1b", "--out", str(CHECKPOINT)])
    failed = []
    for name, command in PARTS.items():
        print(f"== {name}", flush=True)
        if not run([*command, "--json", str(RESULTS / f"{name}.json")]):
            failed.append(name)
    run(["benchmarks.report"])
    if failed:
        print(f"failed: {', '.join(failed)}; the other results are written.")
    return len(failed)


def run(command: list[str]) -> bool:
    """Run a module of this repository; whether it ended well."""
    return subprocess.run([sys.executable, "-m", *command], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
