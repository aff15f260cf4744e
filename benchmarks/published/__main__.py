"""Print published tables beside predictions, errors and misses included; write them as JSON.

::

    python -m benchmarks.published
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.entry import parser_of, run
from benchmarks.part_file import write_whole
from benchmarks.published.one_layer import (
    HRM_STEP_S,
    LayerRow,
    predicted_hrm_step_s,
    predicted_layer,
    published_layers,
)
from benchmarks.published.predictions import Order, Prediction, orders, predict_row
from benchmarks.published.rows import read_rows

RESULTS = Path(__file__).resolve().parent.parent / "results" / "published.json"
LINE = "{:<12} {:<42} {:>9} {:>9} {:>7}  {:<16} {:>4}  {}"
HEADER = LINE.format(
    "model", "system", "published", "predicted", "error", "bound p/d", "GPU", "policy, goal"
)


def main() -> None:
    """All tables, then the orders, then the microbenchmark."""
    parser = parser_of(__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS, help="result file (default: ours)")
    file = parser.parse_args().json
    predictions = [predict_row(row) for row in read_rows()]
    checked = list(orders(predictions))
    layers = [(row, predicted_layer(row.micro_batch, row.context)) for row in published_layers()]
    hrm_step_s = predicted_hrm_step_s()
    for table, group in groupby(predictions, lambda prediction: prediction.row.table):
        _print_table(table, list(group), [order for order in checked if order.table == table])
    _print_layers(layers, hrm_step_s)
    _print_summary(predictions, checked)
    _write(file, predictions, checked, layers, hrm_step_s)


def _print_table(table: str, predictions: list[Prediction], checked: list[Order]) -> None:
    print(f"\n{table} (tokens/s)\n{HEADER}")
    for prediction in predictions:
        print(_line(prediction))
    wrong = [order for order in checked if not order.holds]
    print(f"order: {len(checked) - len(wrong)} of {len(checked)} pairs as published")
    for order in wrong:
        faster, slower = order.faster.row.system, order.slower.row.system
        print(f"  not reproduced: {order.model}: {faster} faster than {slower}")


def _line(prediction: Prediction) -> str:
    row, time = prediction.row, prediction.time
    goal = "" if row.goal_frac is None else f", {row.goal_frac:.0%}"
    missed = "" if prediction.meets_goal else " MISSED"
    return LINE.format(
        row.model,
        row.system,
        f"{row.published:.2f}",
        f"{prediction.tokens_per_s:.2f}",
        f"{prediction.error_frac:+.0%}",
        f"{time.prefill.bottleneck}/{time.decode.bottleneck}",
        f"{prediction.peaks.of('gpu') / prediction.gpu_bytes:.0%}",
        f"{row.policy_from}{goal}{missed}",
    )


def _print_layers(layers: list[tuple[LayerRow, LayerRow]], hrm_step_s: float) -> None:
    print("\nMoE-Lightning's microbenchmark, one layer of Mixtral 8x7B on an L4")
    for name in ("kv_upload_s", "cpu_attention_s", "experts_s", "ratio"):
        errors = [getattr(mine, name) / getattr(theirs, name) - 1 for theirs, mine in layers]
        worst = max(errors, key=abs)
        print(f"  {name:<16} median error {median(errors):+.0%}, largest {worst:+.0%}")
    published = [theirs.ratio for theirs, _ in layers]
    ratio = mean(mine.ratio for _, mine in layers)
    spread = f"{median(published):.1f}x ({min(published):.1f} to {max(published):.1f})"
    print(f"  attention on the CPU over moving the KV: {ratio:.1f}x, published {spread}")
    error = f"{hrm_step_s / HRM_STEP_S - 1:+.0%}"
    print(f"  decode step by its own planner {HRM_STEP_S} s, here {hrm_step_s:.3f} s ({error})")


def _print_summary(predictions: list[Prediction], checked: list[Order]) -> None:
    held = [prediction for prediction in predictions if prediction.row.goal_frac is not None]
    met = sum(prediction.meets_goal for prediction in held)
    holds = sum(order.holds for order in checked)
    print(f"\n{met} of {len(held)} rows within their goal; {holds} of {len(checked)} orders hold")
    for kind in ("published", "inferred"):
        group = [prediction for prediction in predictions if prediction.row.policy_from == kind]
        errors = [abs(prediction.error_frac) for prediction in group]
        typical, worst = median(errors), max(errors)
        print(f"policy {kind}: {len(group)} rows, median error {typical:.0%}, largest {worst:.0%}")


def _write(
    file: Path,
    predictions: list[Prediction],
    checked: list[Order],
    layers: list[tuple[LayerRow, LayerRow]],
    hrm_step_s: float,
) -> None:
    result = {
        "rows": [_record(prediction) for prediction in predictions],
        "orders": [
            {
                "table": order.table,
                "model": order.model,
                "faster": order.faster.row.system,
                "slower": order.slower.row.system,
                "holds": order.holds,
            }
            for order in checked
        ],
        "one_layer": [{"published": asdict(a), "predicted": asdict(b)} for a, b in layers],
        "hrm_decode_step_s": {"published": HRM_STEP_S, "predicted": hrm_step_s},
    }
    write_whole(file, result)


def _record(prediction: Prediction) -> dict[str, Any]:
    row, time = prediction.row, prediction.time
    return {
        "table": row.table,
        "model": row.model,
        "system": row.system,
        "metric": row.metric,
        "published_tokens_per_s": row.published,
        "predicted_tokens_per_s": round(prediction.tokens_per_s, 4),
        "error_frac": round(prediction.error_frac, 4),
        "goal_frac": row.goal_frac,
        "policy_from": row.policy_from,
        "source": row.source,
        "prefill_s": round(time.prefill.step_s, 3),
        "decode_step_s": round(time.decode.step_s, 4),
        "gpu_busy_frac": {
            "prefill": round(time.prefill.busy_frac("gpu"), 3),
            "decode": round(time.decode.busy_frac("gpu"), 3),
        },
        "peak_bytes": {tier: round(prediction.peaks.of(tier)) for tier in ("gpu", "cpu", "disk")},
    }


if __name__ == "__main__":
    run(main)
