"""What is paid whatever the model: import, first token of the demo, engine overhead per sweep.

::

    python -m benchmarks.bench_fixed_costs --json out.json
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.checkpoint_shapes import PRESETS
from benchmarks.entry import result_parser, run
from benchmarks.make_checkpoint import make_checkpoint
from benchmarks.result import report
from lm_offload import LLM, SamplingParams

RUNS = 5
OVERHEAD_LAYERS = (4, 36)  # two depths: their difference is the cost of a layer


def main() -> None:
    """Measure, print a line each, then one JSON line."""
    parser = result_parser(__doc__)
    args = parser.parse_args()
    row = {
        "import_s": median_of(lambda: run_s("import lm_offload") - run_s("pass")),
        "demo_first_token_s": median_of(demo_first_token_s),
        **overhead(),
    }
    print("goals: import 0.3 s, first token 4 s, sweep 1 ms + 100 us a layer")
    report("fixed_costs", [row], args.json, show=format_row)


def format_row(row: dict[str, float]) -> str:
    """A line for each cost."""
    return "\n".join(f"{name:<28}{value:.6f}" for name, value in row.items())


def median_of(measure: Callable[[], float]) -> float:
    """Median over `RUNS`."""
    return statistics.median(measure() for _ in range(RUNS))


def run_s(code: str) -> float:
    """Seconds of a fresh interpreter that runs `code`."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start_s


def demo_first_token_s() -> float:
    """From process start to the first generated text of `lm-offload demo` on its output."""
    command = [sys.executable, "-c", "from lm_offload.cli.main import main; main()", "demo", "-q"]
    start_s = time.perf_counter()
    with subprocess.Popen(
        [*command, "--prompt", "#", "--max-tokens", "8"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.read(2)  # the prompt itself and one character more
        first_s = time.perf_counter() - start_s
        process.stdout.read()
    return first_s


def overhead() -> dict[str, float]:
    """Seconds of a resident sweep on a model so small that kernels cost next to nothing."""
    seconds = [tiny_sweep_s(layers) for layers in OVERHEAD_LAYERS]
    per_layer_s = (seconds[1] - seconds[0]) / (OVERHEAD_LAYERS[1] - OVERHEAD_LAYERS[0])
    return {
        "sweep_overhead_s": seconds[0] - per_layer_s * OVERHEAD_LAYERS[0],
        "layer_overhead_s": per_layer_s,
    }


def tiny_sweep_s(layers: int) -> float:
    """Median decode sweep at batch 1, everything resident, kernels included."""
    with tempfile.TemporaryDirectory() as folder:
        shape = replace(PRESETS["tiny"], hidden=64, intermediate=128, vocab=128, layers=layers)
        make_checkpoint(shape, "bf16", shape.shard_bytes, 0, Path(folder))
        with LLM(folder, cpu_memory="256MiB", threads=1, speculation="off") as llm:
            params = SamplingParams(max_tokens=64, ignore_eos=True)
            llm.generate([[1, 2, 3]], params)
            llm.generate([[1, 2, 3]], params)
            return statistics.median(sweep.time.total_s for sweep in llm.stats.decode)


if __name__ == "__main__":
    run(main)
