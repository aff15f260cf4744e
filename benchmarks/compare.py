"""Two result files or folders by ratio: what got slower than the noise of both.

Rows are matched by what they measured. Ratios of figures that were taken in turns have an interval,
which is their noise; a row that has such ratios is compared by them alone, and a rate that has its
ceiling beside it by its share of the ceiling, so that a slower day is no regression::

    python -m benchmarks.compare BASE NEW      # exit status 1 where something got slower
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.entry import run
from benchmarks.part_file import read_result
from benchmarks.report.generic_table import flat
from benchmarks.report.result_files import Row

LEAST_NOISE_FRAC = 0.05  # two runs of the whole agree within this
ASSUMED_NOISE_FRAC = 0.15  # of a figure that was measured once, in either file
FASTER_IS_MORE = (
    "_tokens_per_s", "gbytes_per_s", "gflops_per_s", "_ceiling_frac", "speedup", "read_frac",
    "bound_frac", "times_sooner", "ours_over_this_decode", "ours_over_this_prefill",
    "over_own_bf16", "over_torch_bf16", "over_torch_int4", "over_bf16",
)  # fmt: skip
FASTER_IS_LESS = ("_s", "ratio_to_bound", "slowdown", "loss")
INTERVAL = "_interval"
NOT_COMPARED = (
    "_ceiling_tokens_per_s", "_bytes_per_s", "_flops_per_s", "wait_s", "predicted_s",
    "prefill_s", "decode_s", "load_s", "timeout_s",
)  # fmt: skip
NAMES = (
    "peer", "model", "batch", "batch_size", "prompt_len", "gen_len", "limit_bytes", "budget_frac",
    "weight_format", "kv_format", "format", "operation", "shape", "m", "phase", "key", "case",
    "context", "threads", "mode", "setting", "name",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One figure in both files; `ratio` above 1 is faster, `noise_frac` what does not count."""

    row: str
    metric: str
    ratio: float
    noise_frac: float

    @property
    def is_slower(self) -> bool:
        """Slower by more than the noise."""
        return self.ratio < 1 / (1 + self.noise_frac)


def compare(base: list[Row], new: list[Row]) -> list[Change]:
    """Every figure that both have, the slowest first."""
    old_rows = by_name(base)
    found = []
    for name, row in by_name(new).items():
        old = old_rows.get(name, {})
        found += [change(name[0], metric, old, row) for metric in metrics(old, row)]
    return sorted(found, key=lambda each: each.ratio)


def by_name(rows: list[Row]) -> dict[tuple[str, int], Row]:
    """Rows by what they measured; those that say the same of it by their order."""
    found: dict[tuple[str, int], Row] = {}
    seen: Counter[str] = Counter()
    for row in rows:
        name = name_of(row)
        found[name, seen[name]] = row
        seen[name] += 1
    return found


def name_of(row: Row) -> str:
    """What a row measured: its settings, without its figures."""
    settings = sorted((key, value) for key, value in row.items() if is_setting(key, value))
    return ", ".join(f"{key} {value}" for key, value in settings)


def is_setting(key: str, value: object) -> bool:
    """Words, but no messages and versions, and numbers that are known to be settings."""
    last = key.rpartition(".")[2]
    if isinstance(value, str):
        return last not in ("error", "version", "note", "limit_kind")
    return last in NAMES and value is not None


def metrics(old: Row, new: Row) -> Iterator[str]:
    """The figures of speed in both rows: ratios with an interval, or else whatever there is."""
    both = [key for key in new if is_positive(old.get(key)) and is_positive(new[key])]
    speeds = [key for key in both if is_speed(key)]
    ratios = [key for key in speeds if f"{key}{INTERVAL}" in old and f"{key}{INTERVAL}" in new]
    for key in ratios or speeds:
        share = key.replace("_tokens_per_s", "_ceiling_frac")
        if share == key or share not in both:
            yield key


def is_speed(key: str) -> bool:
    """Whether a figure says how fast something is, and no prediction."""
    speed = key.endswith((*FASTER_IS_MORE, *FASTER_IS_LESS))
    return speed and not key.endswith(NOT_COMPARED) and not key.startswith("predicted")


def is_positive(value: object) -> bool:
    """Whether it can be divided by."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def change(name: str, metric: str, old: Row, new: Row) -> Change:
    """How much faster `new` is, and the noise of the quotient."""
    ratio = new[metric] / old[metric]
    if not metric.endswith(FASTER_IS_MORE):
        ratio = 1 / ratio
    noise_frac = spread_frac(old, metric) + spread_frac(new, metric)
    return Change(name, metric, ratio, max(noise_frac, LEAST_NOISE_FRAC))


def spread_frac(row: Row, metric: str) -> float:
    """Half of the interval, or else of the range of the repetitions, over the figure."""
    if found := row.get(f"{metric}{INTERVAL}"):
        low, high = found
        return (high - low) / 2 / row[metric]
    runs = row.get(f"{metric}_runs")
    if not isinstance(runs, list) or len(runs) < 2:
        return ASSUMED_NOISE_FRAC
    return (max(runs) - min(runs)) / 2 / statistics.median(runs)


def lost(base: list[Row], new: list[Row]) -> list[str]:
    """Rows that worked in the base and have failed now."""
    worked = {name for name, row in by_name(base).items() if not row.get("error")}
    return [name[0] for name, row in by_name(new).items() if row.get("error") and name in worked]


def pairs(base: Path, new: Path) -> Iterator[tuple[str, list[Row], list[Row]]]:
    """The rows of both, file by file; two folders are matched by the names of their files."""
    if base.is_dir() and new.is_dir():
        names = sorted({path.name for path in base.glob("*.json")} & set(names_in(new)))
        files = [(base / name, new / name) for name in names]
    else:
        files = [(base, new)]
    for old_file, new_file in files:
        yield new_file.name, rows_in(old_file), rows_in(new_file)


def names_in(folder: Path) -> Iterator[str]:
    """Of its result files."""
    yield from (path.name for path in folder.glob("*.json"))


def rows_in(file: Path) -> list[Row]:
    """Measured rows of a result file, none of another one; nested records as `outer.inner`."""
    data = read_result(file)
    return [flat(row) for row in data.get("rows", [])] if "testbed" in data else []


def main() -> int:
    """The command line: a line for each figure that is slower; whether there is any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args()
    compared, slower = 0, 0
    for file, base, new in pairs(args.base, args.new):
        changes = compare(base, new)
        worse = [each for each in changes if each.is_slower]
        broken = lost(base, new)
        compared, slower = compared + len(changes), slower + len(worse) + len(broken)
        for each in worse:
            print(f"{file}: {each.row}: {each.metric} is {each.ratio:.2f}x (noise "
                  f"{each.noise_frac:.0%})")  # fmt: skip
        for name in broken:
            print(f"{file}: {name}: worked before, fails now")
    print(f"{compared} figures compared, {slower} slower than noise")
    if not compared:
        print("nothing in common: give two result files or folders of the same benchmarks")
    return 1 if slower or not compared else 0


if __name__ == "__main__":
    run(main)
