"""LM-Offload's comparison, reconstructed by simulation, beside what was published of it."""

from __future__ import annotations

from benchmarks.report.result_files import Row


def reconstruction(result: Row) -> str:
    """Ratios of simulated systems beside the published averages, then every configuration."""
    ratios, told = result["speedups"], result["published"]
    bases = list(next(iter(ratios.values())))
    lines = [
        f"**LM-Offload's comparison reconstructed by simulation on {result['machine']}: faster by, "
        "mean (largest); no measurement**",
        "",
        "| system | " + " | ".join(f"than {base}" for base in bases) + " |",
        "|---" * (len(bases) + 1) + "|",
        "| LM-Offload as published | "
        + " | ".join(mean_and_max(told[base]) if base in told else "" for base in bases)
        + " |",
    ]
    for system, by_base in ratios.items():
        cells = " | ".join(mean_and_max(by_base[base]) for base in bases)
        lines.append(f"| {system}, simulated | {cells} |")
    names = list(result["rows"][0]["systems"])
    lines += ["", f"Tokens/s by model and output, prompt {result['prompt_len']}:", ""]
    lines += ["| model | tokens | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for row in result["rows"]:
        rates = (row["systems"].get(name, {}).get("tokens_per_s") for name in names)
        cells = " | ".join("does not fit" if rate is None else f"{rate:.1f}" for rate in rates)
        lines.append(f"| {row['model']} | {row['gen_len']} | {cells} |")
    return "\n".join(lines)


def mean_and_max(ratio: Row) -> str:
    """A mean and the largest."""
    return f"{ratio['mean']:.2f} ({ratio['max']:.2f})"
