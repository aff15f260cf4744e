"""Tables of the formats and of the performance model, as Markdown."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def quality(result: Row) -> str:
    """What each format costs in quality."""
    lines = [
        "**The demo model in each format, held-out text, against its own precision**",
        "",
        "| format | bytes per weight | perplexity | mean KL divergence | same top-1 |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        start = f"| {row['weight_format']} | {row['bytes_per_weight']:.4f} "
        if row["mean_kl"] is None:  # the reference
            lines.append(f"{start}| {row['perplexity']:.2f} | | |")
            continue
        change = f"{row['perplexity_over_reference'] - 1:+.2%}"
        lines.append(
            f"{start}| {row['perplexity']:.2f} ({change}) | {row['mean_kl']:.1e} "
            f"| {row['top1_agreement']:.1%} |"
        )
    return "\n".join(lines)


def products(result: Row) -> str:
    """The products of the kernels beside memory and torch."""
    lines = [
        "**Products of 5632 x 2048 weights that come from memory**",
        "",
        "| format | rows | packed bytes read | share of memory read | GFLOP/s | over torch bf16 "
        "| over torch int4 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["operation"] != "linear":
            continue
        int4 = f"{row['over_torch_int4']:.1f}x" if row["over_torch_int4"] else ""
        lines.append(
            f"| {row['format']} | {row['m']} | {row['gbytes_per_s']:.1f} GB/s "
            f"| {row['read_frac']:.0%} | {row['gflops_per_s']:.0f} "
            f"| {row['over_torch_bf16']:.1f}x | {int4} |"
        )
    return "\n".join(lines)


def prediction(result: Row) -> str:
    """How far predicted rates were from measured ones."""
    lines = [
        "**Predicted against measured rates, absolute error**",
        "",
        "| points, phase | number | median | 90th percentile | bias |",
        "|---|---|---|---|---|",
    ]
    for name, row in result["summary"].items():
        lines.append(
            f"| {name} | {row['points']} | {row['median']:.0%} | {row['p90']:.0%} "
            f"| {row['bias']:+.0%} |"
        )
    return "\n".join(lines)


def published(result: Row) -> str:
    """Rows of published tables beside what the simulator gives for the same policy."""
    lines = [
        "**Published throughput against this simulator (no constant is fitted to a row)**",
        "",
        "| table | model | system | published tok/s | predicted tok/s | error | policy |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['table']} | {row['model']} | {row['system']} "
            f"| {row['published_tokens_per_s']:g} | {row['predicted_tokens_per_s']:.2f} "
            f"| {row['error_frac']:+.0%} | {row['policy_from']} |"
        )
    return "\n".join(lines)
