"""Measure this engine and others on a checkpoint, each under the same memory for its model.

::

    python -m benchmarks.peers.run --peer all --model .checkpoints/llama-1.1b \\
        --limit-bytes 1280MiB --batch 1 --prompt-len 32 --gen-len 8

A peer's limit is `--limit-bytes` plus its own fixed overhead: the resident set after importing its
libraries, measured first. One JSON line is printed per peer; one that fails, is killed or takes
too long is reported with its `error`, never dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cgroup import CgroupUnavailableError, LimitedRun, parse_limit, run_limited
from benchmarks.peers.environments import PEERS, PEERS_DIR, ROOT, PeerSpec, ensure_environment


@dataclass(frozen=True)
class Case:
    """One measurement: what is generated from which checkpoint, under which limit for the model."""

    model: Path
    batch: int
    prompt_len: int
    gen_len: int
    threads: int = 2
    seed: int = 0
    limit_bytes: int | None = None


def measure(spec: PeerSpec, case: Case, timeout_s: float) -> dict[str, Any]:
    """The row of one peer: the case, the runner's figures or its `error`, and the memory used."""
    row: dict[str, Any] = {"peer": spec.name, **asdict(case), "model": case.model.name}
    row["weight_format"] = spec.weight_format
    try:
        ensure_environment(spec)
        prepared = stage(spec, case, "--prepare-only")
        overhead_bytes = stage(spec, case, "--overhead-only")["rss_after_import_bytes"]
    except RuntimeError as error:
        return {**row, "error": without_paths(str(error))}
    row |= {"version": prepared["version"], "fixed_overhead_bytes": overhead_bytes}
    drop_page_cache(case.model, work_dir(spec, case))
    if case.limit_bytes is None:
        return row | run_unlimited(spec, case, timeout_s)
    try:
        limit_bytes = case.limit_bytes + overhead_bytes
        run = run_limited(
            command_of(spec, case), limit_bytes, timeout_s=timeout_s, env=environment(case)
        )
    except CgroupUnavailableError as error:
        return {**row, "error": str(error)}
    return row | limited_result(run)


def work_dir(spec: PeerSpec, case: Case) -> Path:
    """Where the peer's converted weights of this checkpoint lie."""
    return PEERS_DIR / "work" / spec.engine / case.model.name


def command_of(spec: PeerSpec, case: Case, *extra: str) -> list[str]:
    """The runner's command line."""
    options = {
        "--model": case.model.resolve(),
        "--work-dir": work_dir(spec, case),
        "--batch": case.batch,
        "--prompt-len": case.prompt_len,
        "--gen-len": case.gen_len,
        "--threads": case.threads,
        "--seed": case.seed,
    }
    if case.limit_bytes is not None:
        options["--limit-bytes"] = case.limit_bytes
    if spec.weight_format is not None:
        options["--weight-format"] = spec.weight_format
    arguments = [str(part) for option in options.items() for part in option]
    return [str(spec.python), "-m", spec.module, *arguments, *extra]


def environment(case: Case) -> dict[str, str]:
    """The runner's environment: no network, as many OpenMP threads as asked for."""
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": str(case.threads),
    }


def stage(spec: PeerSpec, case: Case, flag: str) -> dict[str, Any]:
    """Run an unmeasured stage of the runner; RuntimeError with its message if it fails."""
    done = subprocess.run(
        command_of(spec, case, flag),
        capture_output=True, text=True, check=False, env=environment(case),
    )  # fmt: skip
    result = last_json_line(done.stdout)
    if result is None or result["error"]:
        message = result["error"] if result else last_line(done.stderr)
        raise RuntimeError(f"{flag.removeprefix('--')}: {message}")
    return result


def run_unlimited(spec: PeerSpec, case: Case, timeout_s: float) -> dict[str, Any]:
    """The runner's result without a memory limit."""
    try:
        done = subprocess.run(
            command_of(spec, case),
            capture_output=True, text=True, check=False, env=environment(case), timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"timeout after {timeout_s:.0f} s"}
    return result_or_error(done.stdout, done.stderr, f"exit {done.returncode}")


def limited_result(run: LimitedRun) -> dict[str, Any]:
    """The runner's result and what the kernel says about its memory."""
    timed_out = run.exit_reason == "timeout"
    reason = f"timeout after {run.wall_s:.0f} s" if timed_out else run.exit_reason
    return {
        "cgroup_limit_bytes": run.limit_bytes,
        "cgroup_peak_bytes": run.peak_bytes,
        **result_or_error(run.stdout, run.stderr_tail, reason),
    }


def result_or_error(stdout: str, stderr: str, exit_reason: str) -> dict[str, Any]:
    """The runner's own JSON, without what the row has already; else how it ended."""
    result = last_json_line(stdout)
    if result is None:
        told = f"{exit_reason}: {last_line(stderr)}".removesuffix(": ")
        return {"error": without_paths(exit_reason if exit_reason == "oom-killed" else told)}
    result["error"] = result["error"] and without_paths(result["error"])
    return {key: value for key, value in result.items() if key not in ("peer", "version")}


def last_json_line(text: str) -> dict[str, Any] | None:
    """The object on the last line, or None if the runner did not get so far."""
    try:
        result = json.loads(last_line(text))
    except ValueError:
        return None
    return result if isinstance(result, dict) else None


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def without_paths(message: str) -> str:
    """A message that may be published: nothing of where this repository or its owner lives."""
    return message.replace(f"{ROOT}/", "").replace(str(Path.home()), "~")


def drop_page_cache(*folders: Path) -> None:
    """Let every file under the folders start cold: pages cached by others are not charged."""
    for folder in folders:
        for path in folder.rglob("*") if folder.is_dir() else ():
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.fdatasync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=[*PEERS, "all"], default="all")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--limit-bytes", type=parse_limit, help="memory for the model, for example 1280MiB"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prompt-len", type=int, default=32)
    parser.add_argument("--gen-len", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=1800.0)
    parser.add_argument("--out", type=Path, help="append the rows to this JSON-lines file")
    return parser.parse_args()


def main() -> int:
    """Measure the peers that were asked for, one after the other."""
    args = parse_args()
    case = Case(
        model=args.model, batch=args.batch, prompt_len=args.prompt_len, gen_len=args.gen_len,
        threads=args.threads, seed=args.seed, limit_bytes=args.limit_bytes,
    )  # fmt: skip
    for name in PEERS if args.peer == "all" else (args.peer,):
        line = json.dumps(measure(PEERS[name], case, args.timeout_s))
        print(line, flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
