"""The published rows: what was run, how fast it was, and where that is written.

`policy_from` says whether the policy was published or is inferred from the batch size and the
system's description; `goal_frac` is the error that the model is held to, empty for none.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from lm_offload.planner.policies.policy import PhasePolicy, Policy, Share
from lm_offload.quant.format import parse_format

FILE = Path(__file__).parent / "throughput.csv"


@dataclass(frozen=True)
class Row:
    """One figure of a published table."""

    table: str
    model: str
    system: str
    machine: str
    prompt_len: int
    gen_len: int
    policy: Policy
    metric: str  # generation: tokens over all seconds; decode: over those of the decode sweeps
    published: float  # tokens/s
    goal_frac: float | None
    policy_from: str
    source: str


def read_rows(file: Path = FILE) -> list[Row]:
    """All rows in the order of the file."""
    with file.open(newline="") as lines:
        return [_row(cells) for cells in csv.DictReader(lines)]


def _row(cells: dict[str, str]) -> Row:
    texts = {name: cells[name] for name in ("table", "model", "system", "machine", "metric")}
    return Row(
        **texts,
        prompt_len=int(cells["prompt_len"]),
        gen_len=int(cells["gen_len"]),
        policy=_policy(cells),
        published=float(cells["published"]),
        goal_frac=float(cells["goal_frac"]) if cells["goal_frac"] else None,
        policy_from=cells["policy_from"],
        source=cells["source"],
    )


def _policy(cells: dict[str, str]) -> Policy:
    return Policy(
        weights=_share(cells["weights"]),
        kv=_share(cells["kv"]),
        activations=_share(cells["activations"]),
        micro_batch_size=int(cells["micro_batch"]),
        num_micro_batches=int(cells["num_micro_batches"]),
        prefill=PhasePolicy("gpu", "gpu"),
        decode=PhasePolicy("gpu", cells["attention"]),  # type: ignore[arg-type]
        schedule=cells["schedule"],  # type: ignore[arg-type]
        weight_format=parse_format(cells["weight_format"]),
        kv_format=parse_format(cells["kv_format"]),
        dequantize=cells["dequantize"],  # type: ignore[arg-type]
        pinned=cells["pinned"] == "yes",
        kv_pinned=cells["kv_pinned"] == "yes",
    )


def _share(percents: str) -> Share:
    """FlexGen's three per cents: GPU, CPU, disk."""
    gpu, cpu, disk = (float(part) / 100 for part in percents.split())
    return Share(gpu, cpu, disk)
