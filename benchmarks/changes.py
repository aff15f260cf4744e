"""Which figures of a result changed, by ratio, and the noise of each.

Rows are matched by what they measured. Ratios of figures that were taken in turns have an interval,
which is their noise; a row that has such ratios is compared by them alone, and a rate that has its
ceiling beside it by its share of the ceiling, so that a slower day is no regression.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.report.result_files import Row
from benchmarks.round_ratio import LEAST_ROUNDS

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
    in_turns: bool = False  # a ratio that has an interval in both files

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
    in_turns = all(f"{metric}{INTERVAL}" in row for row in (old, new))
    return Change(name, metric, ratio, max(noise_frac, LEAST_NOISE_FRAC), in_turns)


def spread_frac(row: Row, metric: str) -> float:
    """Half of the interval, or else of the range of the repetitions, over the figure.

    A few rounds may agree by chance, so that they count as no better than a single one.
    """
    if found := row.get(f"{metric}{INTERVAL}"):
        low, high = found
        few = row.get("rounds", LEAST_ROUNDS) < LEAST_ROUNDS
        least = ASSUMED_NOISE_FRAC if few else 0.0
        return max(least, float((high - low) / 2 / row[metric]))
    runs = row.get(f"{metric}_runs")
    if not isinstance(runs, list) or len(runs) < 2:
        return ASSUMED_NOISE_FRAC
    return float((max(runs) - min(runs)) / 2 / statistics.median(runs))


def lost(base: list[Row], new: list[Row]) -> list[str]:
    """Rows that worked in the base and have failed now."""
    worked = {name for name, row in by_name(base).items() if not row.get("error")}
    return [name[0] for name, row in by_name(new).items() if row.get("error") and name in worked]
