"""Other engines and ours on one checkpoint, each under the same memory for its model.

Every engine runs in its own process under a real cgroup limit of `--limit` plus its own fixed
overhead; ours takes `--limit` as its budget. Runs of one batch size follow one another, so that
all meet the disk in about the same state::

    python -m benchmarks.bench_peers --model .checkpoints/llama-1.1b --limit 1280MiB --json out.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import EXACT, PEERS
from benchmarks.peers.run import Case, measure
from benchmarks.testbed import collect, largest_weight_file
from lm_offload.units import parse_size

OURS = "lm_offload"
RATE_KEYS = ("decode_tokens_per_s", "prefill_tokens_per_s")


def main() -> None:
    """Measure, print a row as soon as it is there, keep the file up to date after each."""
    args = parse_args()
    names = args.peers or [spec.name for spec in EXACT]
    limit_bytes = parse_size(args.limit) if args.limit else None
    result: dict[str, Any] = {"benchmark": "peers", "rows": []}
    result["testbed"] = collect(largest_weight_file(args.model), args.threads)
    for batch in args.batches:
        case = Case(args.model, batch, args.prompt_len, args.gen_len, args.threads, 0, limit_bytes)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(args.rounds):
            for name in names:
                runs[name].append(measure(PEERS[name], case, args.timeout_s))
                print(summary(runs[name][-1]), flush=True)
        result["rows"] += with_ratios([median_row(rows) for rows in runs.values()])
        if args.json:
            args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--limit", help="memory for the model, such as 1280MiB; default: no limit")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--prompt-len", type=int, default=32)
    parser.add_argument("--gen-len", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--timeout-s", type=float, default=900.0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def median_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of all runs of an engine: medians of the rates, or the error of the last run."""
    good = [row for row in rows if not row.get("error")]
    if not good:
        return rows[-1]
    rates = {key: statistics.median(row[key] for row in good) for key in RATE_KEYS}
    runs = {f"{key}_runs": [row[key] for row in good] for key in RATE_KEYS}
    return {**good[-1], **rates, **runs, "failed_runs": len(rows) - len(good)}


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with our rate in the same format over its own, where both have one."""
    good = [row for row in rows if not row.get("error")]
    ours_by_format = {row["weight_format"]: row for row in good if row["peer"].startswith(OURS)}
    for row in good:
        ours = ours_by_format.get(row["weight_format"])
        if ours:
            for key in RATE_KEYS:
                row[f"ours_over_this_{key.split('_')[0]}"] = round(ours[key] / row[key], 3)
    return rows


def summary(row: dict[str, Any]) -> str:
    """One run on one line."""
    if row.get("error"):
        return f"batch {row['batch']:>3} {row['peer']:<14} failed: {row['error']}"
    peak_bytes = row.get("cgroup_peak_bytes", row["peak_rss_bytes"])
    return (
        f"batch {row['batch']:>3} {row['peer']:<14} decode "
        f"{row['decode_tokens_per_s']:8.2f} tok/s, prefill "
        f"{row['prefill_tokens_per_s']:8.1f} tok/s, peak {peak_bytes / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
