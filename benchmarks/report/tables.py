"""Tables of benchmarks that have a form of their own, as Markdown."""

from __future__ import annotations

from benchmarks.report.generic_table import value_with_spread
from benchmarks.report.result_files import Row


def streaming(result: Row) -> str:
    """Sweeps against their bound."""
    lines = [
        "**Half of the checkpoint as budget: a decode sweep against its physical bound**",
        "",
        "| batch | streamed sweep | resident sweep | disk | sweep / bound | read per sweep "
        "(not resident) | decode tok/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['batch']} | {row['streamed_sweep_s'] * 1e3:.0f} ms "
            f"| {row['resident_sweep_s'] * 1e3:.0f} ms | {row['disk_bytes_per_s'] / 1e9:.2f} GB/s "
            f"| {row['ratio_to_bound']:.2f} | {row['read_bytes_per_sweep'] / 1e6:.0f} MB "
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
            f"| engine per sweep | {row['sweep_overhead_s'] * 1e3:.2f} ms | 1 ms |",
            f"| engine per layer | {row['layer_overhead_s'] * 1e6:.0f} us | 100 us |",
        ]
    )


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
