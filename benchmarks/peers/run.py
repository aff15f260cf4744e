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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.cgroup import parse_limit
from benchmarks.cgroup_version import CgroupUnavailableError
from benchmarks.entry import parser_of, run
from benchmarks.peers.case import Case, Row, work_dir
from benchmarks.peers.environments import PEERS, ROOT, PeerSpec, ensure_environment
from benchmarks.peers.obstacles import check_conversion, check_disk, check_memory
from benchmarks.peers.protocol import add_workload
from benchmarks.peers.session import Session, SessionError, last_line, result_in

PREPARE_S = 3600.0  # for a conversion, which is not measured
Generate = Callable[[int], Row]  # the row of one run with so many tokens


class Driver:
    """Opens peers on cases; what is the same for all sessions of a peer is found out once.

    `install` says whether a missing environment is made or its peer reported as failed.
    """

    def __init__(self, timeout_s: float, *, install: bool = True) -> None:
        self._timeout_s = timeout_s
        self._install = install
        self._known: dict[tuple[str, Path], Row] = {}

    @contextmanager
    def opened(self, spec: PeerSpec, case: Case) -> Iterator[Generate]:
        """What generates with a peer's loaded model; SessionError where it cannot be had."""
        try:
            check_memory(case)
            known = self._ready(spec, case)
        except RuntimeError as error:
            raise SessionError(without_paths(str(error))) from error
        drop_page_cache(case.model, work_dir(spec, case))
        with ExitStack() as stack:
            limit_kind, session = self._session(spec, case, known, stack)
            base = {**base_row(spec, case), **known, "limit_kind": limit_kind}
            yield lambda gen_len: base | figures(session.generate(gen_len))

    def measure(self, spec: PeerSpec, case: Case) -> Row:
        """The row of one run: the case, the runner's figures or its `error`, the memory used."""
        try:
            with self.opened(spec, case) as generate:
                return generate(case.gen_len)
        except SessionError as error:
            return failure(spec, case, error)

    def _session(
        self, spec: PeerSpec, case: Case, known: Row, stack: ExitStack
    ) -> tuple[str | None, Session]:
        """A runner under a limit of the kernel, or else under a budget of its own."""
        how = command_of(spec, case), environment(case)
        if case.limit_bytes is None:
            return None, stack.enter_context(Session(*how, None, self._timeout_s))
        limit_bytes = case.limit_bytes + known["fixed_overhead_bytes"]
        try:
            return "cgroup", stack.enter_context(Session(*how, limit_bytes, self._timeout_s))
        except CgroupUnavailableError as error:
            if not spec.has_budget:
                raise SessionError(
                    f"{error} This engine has no memory limit of its own."
                ) from error
        return "in-process", stack.enter_context(Session(*how, None, self._timeout_s))

    def _ready(self, spec: PeerSpec, case: Case) -> Row:
        """Version and fixed overhead of a peer that is installed and has converted the weights."""
        key = spec.name, case.model
        if key not in self._known:
            ensure_environment(spec, install=self._install)
            check_disk(spec, case)
            check_conversion(spec, case)
            prepared = prepare(spec, case)
            self._known[key] = {
                "version": prepared["version"],
                "fixed_overhead_bytes": prepared["rss_after_import_bytes"],
            }
        return self._known[key]


def base_row(spec: PeerSpec, case: Case) -> Row:
    """What is known of a run beforehand."""
    named = {"model": case.model.name, "weight_format": spec.weight_format}
    return {"peer": spec.name, **asdict(case), **named}


def failure(spec: PeerSpec, case: Case, error: SessionError) -> Row:
    """The row of a peer that gave no result."""
    return {**base_row(spec, case), "error": without_paths(str(error))}


def figures(result: Row) -> Row:
    """The runner's own, without what the row has already."""
    return {key: value for key, value in result.items() if key not in ("peer", "version")}


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


def prepare(spec: PeerSpec, case: Case) -> Row:
    """Let the runner import its libraries and convert; RuntimeError with its message."""
    try:
        done = subprocess.run(
            command_of(spec, case, "--prepare-only"), capture_output=True, text=True, check=False,
            env=environment(case), timeout=PREPARE_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"prepare: timeout after {PREPARE_S:.0f} s") from None
    result = result_in(last_line(done.stdout).encode())
    if result is None or result["error"]:
        raise RuntimeError(f"prepare: {result['error'] if result else last_line(done.stderr)}")
    return result


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
    parser = parser_of(__doc__)
    parser.add_argument("--peer", choices=[*PEERS, "all"], default="all")
    parser.add_argument(
        "--limit-bytes", type=parse_limit, help="memory for the model, for example 1280MiB"
    )
    add_workload(parser)
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
    run(main)
