"""Describe and measure the machine a benchmark ran on; no host name and no path is recorded.

::

    python -m benchmarks.testbed --model .checkpoints/llama-1.1b
"""

from __future__ import annotations

import ctypes
import json
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.disk_meter import DiskMeter
from benchmarks.entry import parser_of, run
from benchmarks.weight_files import largest_weight_file
from lm_offload.hardware.machine import describe_machine
from lm_offload.units import GIB, MIB

MATMUL_SHAPE = (2048, 5632)  # (in, out) features of the 1.1 B model's gate projection


def median_rate(work: float, run: Callable[[], object], budget_s: float = 1.0) -> float:
    """`work` per second of `run`: one warm-up, then the median of 3 to 30 runs in `budget_s`."""
    run()
    times_s: list[float] = []
    deadline_s = time.perf_counter() + budget_s
    while len(times_s) < 3 or (time.perf_counter() < deadline_s and len(times_s) < 30):
        start_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - start_s)
    return work / statistics.median(times_s)


def memory_read_bytes_per_s(threads: int = 2, total_bytes: int = GIB) -> float:
    """Rate at which `threads` threads together read a buffer far larger than the caches.

    Searches zeros for a byte that is not there: libc's memchr uses the widest vector loads and
    computes next to nothing.
    """
    memchr = ctypes.CDLL(None).memchr  # calls through ctypes release the interpreter lock
    memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    memchr.restype = ctypes.c_void_p
    share_bytes = total_bytes // threads
    buffer = torch.zeros(share_bytes * threads, dtype=torch.uint8)
    buffer.fill_(1)  # untouched pages would all be the one zero page
    starts = [buffer.data_ptr() + i * share_bytes for i in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def read_all() -> None:
            list(pool.map(lambda start: memchr(start, 0, share_bytes), starts))

        return median_rate(share_bytes * threads, read_all)


def matmul_flops_per_s(
    dtype: torch.dtype, rows: int, *, prepacked: bool, threads: int = 2
) -> float:
    """Rate of (rows, 2048) x (2048, 5632) with plain or with oneDNN's prepacked weights."""
    torch.set_num_threads(threads)
    in_features, out_features = MATMUL_SHAPE
    inputs = torch.randn(rows, in_features).to(dtype)
    weight = torch.randn(out_features, in_features).to(dtype)

    def plain() -> torch.Tensor:
        return torch.nn.functional.linear(inputs, weight)

    def packed() -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, packed_weight, None, "none", [], ""
        )
        return product

    if prepacked:
        packed_weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    flops = 2.0 * rows * in_features * out_features
    with torch.inference_mode():
        return median_rate(flops, packed if prepacked else plain)


def matmul_table(rows: tuple[int, ...] = (512, 2048), threads: int = 2) -> dict[str, int | None]:
    """Matrix-product rates in FLOP/s by `dtype_plain|prepacked_mROWS`; None where not supported."""
    table: dict[str, int | None] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for prepacked in (False, True):
            for count in rows:
                key = f"{name}_{'prepacked' if prepacked else 'plain'}_m{count}"
                if prepacked and not _can_prepack(dtype):
                    table[key] = None
                else:
                    rate = matmul_flops_per_s(dtype, count, prepacked=prepacked, threads=threads)
                    table[key] = round(rate)
    return table


def _can_prepack(dtype: torch.dtype) -> bool:
    if not torch._C._has_mkldnn:
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def direct_read_table(path: Path) -> dict[str, int]:
    """Direct reads of bytes that were read before, in bytes/s, by blocks and reads in flight."""
    rates = DiskMeter(path).read()
    table = {f"{way.depth}x{way.block_bytes // MIB}MiB": round(rates[way]) for way in rates}
    return {**table, "best": max(table.values())}


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds `path`, for example `ext4`."""
    target, best = path.resolve(), (0, "unknown")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        mount = Path(fields.split()[4])
        if target.is_relative_to(mount):
            best = max(best, (len(mount.parts), tail.split()[0]))
    return best[1]


def describe() -> dict[str, Any]:
    """What can be read without measuring: processor, cores, memory, kernel, versions."""
    machine = describe_machine()
    return {
        "cpu": machine.cpu,
        "cores": machine.cores,
        "isa": list(machine.isa),
        "memory_bytes": machine.memory_bytes,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def collect(checkpoint_file: Path | None = None, threads: int = 2) -> dict[str, Any]:
    """The whole test bed: `describe()`, and the rates measured now (about half a minute)."""
    measured: dict[str, Any] = {
        "threads": threads,
        "memory_read_bytes_per_s": round(memory_read_bytes_per_s(threads)),
        "matmul_flops_per_s": matmul_table(threads=threads),
    }
    bed = describe()
    if checkpoint_file is not None:
        bed["filesystem"] = filesystem_of(checkpoint_file)
        measured["direct_read_bytes_per_s"] = direct_read_table(checkpoint_file)
    return {**bed, "measured": measured}


def main() -> None:
    """Command line: prints the test bed as JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint folder whose disk is measured")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    file = largest_weight_file(args.model) if args.model else None
    print(json.dumps(collect(file, args.threads), indent=2))


if __name__ == "__main__":
    run(main)
