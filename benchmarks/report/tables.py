"""Tables of benchmarks that have a form of their own, as Markdown."""

from __future__ import annotations

from benchmarks.report.generic_table import value_with_spread
from benchmarks.report.goal_tables import ratio, share
from benchmarks.report.result_files import Row

POINTS = {
    "quiet": "machine quiet", "weight_format own": "weights as stored",
    "weight_format": "weights in",
}  # fmt: skip


def streaming(result: Row) -> str:
    """Sweeps against their bound."""
    lines = [
        "**Half of the checkpoint as budget: a decode sweep against its physical bound**",
        "",
        "| batch | sweep / bound (goal 1.15) | streamed sweep | resident sweep | disk "
        "| read per sweep (not resident) | decode tok/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['batch']} | {ratio(row, 'ratio_to_bound')} "
            f"| {row['streamed_sweep_s'] * 1e3:.0f} ms | {row['resident_sweep_s'] * 1e3:.0f} ms "
            f"| {row['disk_bytes_per_s'] / 1e9:.2f} GB/s "
            f"| {row['read_bytes_per_sweep'] / 1e6:.0f} MB "
            f"({row['expected_read_bytes'] / 1e6:.0f} MB) | {row['decode_tokens_per_s']:.2f} |"
        )
    return "\n".join(lines)


def resident(result: Row) -> str:
    """Decode and prefill against the machine's limits."""
    lines = [
        "**Everything resident: share of the physical limit**",
        "",
        "| phase | tok/s | limit | share of the limit |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        cells = with_ceiling(row) if "product_flops_per_s" in row else with_one_limit(row)
        lines.append("| " + " | ".join((resident_name(row), *cells)) + " |")
    return "\n".join(lines)


def resident_name(row: Row) -> str:
    """What a row of `resident` measured."""
    if row["phase"] == "decode":
        return f"decode, batch {row['batch']}"
    return f"prefill, {row['prompt_len']} tokens"


def with_ceiling(row: Row) -> tuple[str, str, str]:
    """Rate with spread, both of the machine's rates, share of the lower ceiling."""
    phase = row["phase"]
    return (
        value_with_spread(row, f"{phase}_tokens_per_s"),
        f"{row['memory_read_bytes_per_s'] / 1e9:.1f} GB/s memory read, "
        f"{row['product_flops_per_s'] / 1e9:.0f} GFLOP/s product",
        value_with_spread(row, f"{phase}_ceiling_frac"),
    )


def with_one_limit(row: Row) -> tuple[str, str, str]:
    """The same of a row that was held against one rate only."""
    if row["phase"] == "decode":
        limit = f"{row['memory_read_bytes_per_s'] / 1e9:.1f} GB/s memory read"
        share = f"{row['share_of_memory_bound']:.0%}" if row["batch"] == 1 else "compute bound"
    else:
        limit = f"{row['best_torch_product_flops_per_s'] / 1e9:.0f} GFLOP/s, torch's best product"
        share = f"{row['share_of_product_rate']:.0%}"
    return f"{row['tokens_per_s']:.1f}", limit, share


def fixed_costs(result: Row) -> str:
    """What is paid whatever the model."""
    (row,) = result["rows"]
    return "\n".join(
        [
            "**Fixed costs**",
            "",
            "| what | measured | goal |",
            "|---|---|---|",
            f"| `import lm_offload` | {row['import_s'] * 1e3:.0f} ms | 300 ms |",
            f"| first token of `lm-offload demo` | {row['demo_first_token_s']:.2f} s | 4 s |",
            f"| engine per decode sweep | {row['sweep_overhead_s'] * 1e3:.2f} ms | 1 ms |",
            f"| engine per layer | {row['layer_overhead_s'] * 1e6:.0f} us | 100 us |",
        ]
    )


def quality(result: Row) -> str:
    """What each format costs in quality."""
    lines = [
        "**The demo model in each format, held-out text, against its own precision**",
        "",
        "Goals: mean KL divergence of int8 below 1e-3; perplexity within 3 % with weights in "
        "int4:64, within 2 % with the KV cache in int4.",
        "",
        "| weights | KV cache | perplexity | mean KL divergence | same top-1 | bytes per weight |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        start = f"| {row['weight_format']} | {row.get('kv_format', '')} | {row['perplexity']:.2f}"
        end = f"| {row['bytes_per_weight']:.4f} |"
        if row["mean_kl"] is None:  # the reference
            lines.append(f"{start} | | {end}")
            continue
        change = f"{row['perplexity_over_reference'] - 1:+.2%}"
        lines.append(
            f"{start} ({change}) | {row['mean_kl']:.1e} | {row['top1_agreement']:.1%} {end}"
        )
    return "\n".join(lines)


def products(result: Row) -> str:
    """The products of the kernels beside memory and torch."""
    lines = [
        "**Products of 5632 x 2048 weights that come from memory**",
        "",
        "Goals for int8 and int4: 80 % of memory read with 1 and 4 rows; with 16 rows 2x torch's "
        "bf16 and 4x torch's int4.",
        "",
        "| format | rows | share of memory read | over torch bf16 | over torch int4 "
        "| packed bytes read | GFLOP/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["operation"] != "linear":
            continue
        others = [ratio(row, f"over_torch_{name}", ".1f") for name in ("bf16", "int4")]
        lines.append(
            f"| {row['format']} | {row['m']} | {share(row, 'read_frac')} | {' | '.join(others)} "
            f"| {row['gbytes_per_s']:.1f} GB/s | {row['gflops_per_s']:.0f} |"
        )
    return "\n".join(lines)


def prediction(result: Row) -> str:
    """How far predicted rates were from measured ones."""
    lines = [
        "**Predicted against measured rates, absolute error (goal: median 7 %, nine in ten 15 %)**",
        "",
        "| points, phase | number | median | 90th percentile | bias |",
        "|---|---|---|---|---|",
    ]
    for name, row in result["summary"].items():
        lines.append(
            f"| {points_in_words(name)} | {row['points']} | {row['median']:.0%} | {row['p90']:.0%} "
            f"| {row['bias']:+.0%} |"
        )
    return "\n".join(lines)


def points_in_words(name: str) -> str:
    """A group of points, which the summary names by a setting and its value."""
    for setting, words in POINTS.items():
        name = name.replace(setting, words)
    return name


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
