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
from dataclasses import asdict
from pathlib import Path

from benchmarks.cgroup import CgroupUnavailableError, LimitedRun, parse_limit, run_limited
from benchmarks.peers.case import Case, Row, work_dir
from benchmarks.peers.environments import PEERS, ROOT, PeerSpec, ensure_environment
from benchmarks.peers.obstacles import check_conversion, check_disk, check_memory


class Driver:
    """Runs peers on cases; what is the same in all runs of a peer is found out once.

    `install` says whether a missing environment is made or its peer reported as failed.
    """

    def __init__(self, timeout_s: float, *, install: bool = True) -> None:
        self._timeout_s = timeout_s
        self._install = install
        self._known: dict[tuple[str, Path], Row] = {}

    def measure(self, spec: PeerSpec, case: Case) -> Row:
        """The row of one run: the case, the runner's figures or its `error`, the memory used."""
        row: Row = {"peer": spec.name, **asdict(case), "model": case.model.name}
        row["weight_format"] = spec.weight_format
        try:
            check_memory(case)
            known = self._ready(spec, case)
        except RuntimeError as error:
            return {**row, "error": without_paths(str(error))}
        drop_page_cache(case.model, work_dir(spec, case))
        return row | known | run(spec, case, known["fixed_overhead_bytes"], self._timeout_s)

    def _ready(self, spec: PeerSpec, case: Case) -> Row:
        """Version and fixed overhead of a peer that is installed and has converted the weights."""
        key = spec.name, case.model
        if key not in self._known:
            ensure_environment(spec, install=self._install)
            check_disk(spec, case)
            check_conversion(spec, case)
            prepared = stage(spec, case, "--prepare-only")
            overhead_bytes = stage(spec, case, "--overhead-only")["rss_after_import_bytes"]
            self._known[key] = {
                "version": prepared["version"],
                "fixed_overhead_bytes": overhead_bytes,
            }
        return self._known[key]


def run(spec: PeerSpec, case: Case, overhead_bytes: int, timeout_s: float) -> Row:
    """The measured run, under a limit of the kernel or else a budget of the peer's own."""
    if case.limit_bytes is None:
        return {"limit_kind": None, **run_unlimited(spec, case, timeout_s)}
    try:
        limited = run_limited(
            command_of(spec, case),
            case.limit_bytes + overhead_bytes,
            timeout_s=timeout_s,
            env=environment(case),
        )
    except CgroupUnavailableError as error:
        if not spec.has_budget:
            return {"error": f"{error} This engine has no memory limit of its own."}
        return {"limit_kind": "in-process", **run_unlimited(spec, case, timeout_s)}
    return {"limit_kind": "cgroup", **limited_result(limited)}


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
    extra = ("--int8-activations", *extra) if spec.int8_activations else extra
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


def stage(spec: PeerSpec, case: Case, flag: str) -> Row:
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


def run_unlimited(spec: PeerSpec, case: Case, timeout_s: float) -> Row:
    """The runner's result without a memory limit."""
    try:
        done = subprocess.run(
            command_of(spec, case),
            capture_output=True, text=True, check=False, env=environment(case), timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"timeout after {timeout_s:.0f} s"}
    return result_or_error(done.stdout, done.stderr, f"exit {done.returncode}")


def limited_result(run: LimitedRun) -> Row:
    """The runner's result and what the kernel says about its memory."""
    timed_out = run.exit_reason == "timeout"
    reason = f"timeout after {run.wall_s:.0f} s" if timed_out else run.exit_reason
    return {
        "cgroup_limit_bytes": run.limit_bytes,
        "cgroup_peak_bytes": run.peak_bytes,
        **result_or_error(run.stdout, run.stderr_tail, reason),
    }


def result_or_error(stdout: str, stderr: str, exit_reason: str) -> Row:
    """The runner's own JSON, without what the row has already; else how it ended."""
    result = last_json_line(stdout)
    if result is None:
        told = f"{exit_reason}: {last_line(stderr)}".removesuffix(": ")
        return {"error": without_paths(exit_reason if exit_reason == "oom-killed" else told)}
    result["error"] = result["error"] and without_paths(result["error"])
    return {key: value for key, value in result.items() if key not in ("peer", "version")}


def last_json_line(text: str) -> Row | None:
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
    driver = Driver(args.timeout_s)
    for name in PEERS if args.peer == "all" else (args.peer,):
        line = json.dumps(driver.measure(PEERS[name], case))
        print(line, flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
