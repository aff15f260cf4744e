"""Write the tables of the README and of docs/results.md from the committed result files.

::

    python -m benchmarks.report
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.report_tables import prediction, products, published, quality

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
Row = dict[str, Any]


def main() -> None:
    """Replace the marked part of both pages."""
    for page in (ROOT / "README.md", ROOT / "docs" / "results.md"):
        text = page.read_text()
        before, rest = text.split(BEGIN)
        _, after = rest.split(END)
        tables = "\n".join(sections(short=page.name == "README.md"))
        if page.parent != ROOT:
            tables = tables.replace("](benchmarks/", "](../benchmarks/")
        page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


def sections(short: bool) -> list[str]:
    """The tables of what was measured; a file that is missing leaves its table out."""
    makers = {"peers-1.1b": peers, "streaming-1.1b": streaming, "resident-1.1b": resident}
    makers |= {"quantized-peers-8b": peers, "quantized-peers-1.1b": peers}
    if not short:
        makers |= {"resident-peers-1.1b": peers, "streaming-8b": streaming, "peers-8b": peers}
        makers |= {"fixed-costs": fixed_costs, "kernels": products, "quality": quality}
        makers |= {"prediction": prediction, "published": published}
    parts = []
    for name, maker in makers.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            parts.append(maker(result) + "\n\n" + source_line(name, result.get("testbed")) + "\n")
    return parts


def peers(result: Row) -> str:
    """Other engines beside ours."""
    rows = result["rows"]
    limit = next((row["limit_bytes"] for row in rows if row.get("limit_bytes")), None)
    first = rows[0]
    where = f"{limit / 2**20:.0f} MiB for the model" if limit else "no memory limit"
    title = (
        f"**{first['model']}, {where}, prompt {first['prompt_len']}, "
        f"{first['gen_len']} tokens, {first['threads']} threads**"
    )
    lines = [
        title,
        "",
        "| batch | engine | decode tok/s | prefill tok/s | ours is faster in decode by |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(f"| {row['batch']} | {row['peer']} {row.get('version', '')} {peer_cells(row)}")
    return "\n".join(lines)


def peer_cells(row: Row) -> str:
    """Rates and ratio, or what went wrong."""
    if row.get("error"):
        return f"| failed: {row['error'].splitlines()[0][:80]} | | |"
    ratio = (
        ""
        if row["peer"].startswith("lm_offload")
        else f"{row.get('ours_over_this_decode', 0):.2f}x"
    )
    return f"| {row['decode_tokens_per_s']:.2f} | {row['prefill_tokens_per_s']:.1f} | {ratio} |"


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
        if row["phase"] == "decode":
            limit = f"{row['memory_read_bytes_per_s'] / 1e9:.1f} GB/s memory read"
            share = f"{row['share_of_memory_bound']:.0%}" if row["batch"] == 1 else "compute bound"
            name = f"decode, batch {row['batch']}"
        else:
            limit = (
                f"{row['best_torch_product_flops_per_s'] / 1e9:.0f} GFLOP/s, torch's best product"
            )
            share = f"{row['share_of_product_rate']:.0%}"
            name = f"prefill, {row['prompt_len']} tokens"
        lines.append(f"| {name} | {row['tokens_per_s']:.1f} | {limit} | {share} |")
    return "\n".join(lines)


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


def source_line(name: str, bed: Row | None) -> str:
    """The machine in one line, unless nothing was measured, and where the figures are."""
    file = f"[{name}.json](benchmarks/results/{name}.json)."
    if bed is None:
        return f"Simulated; {file}"
    cores, memory = bed["cores"], bed["memory_bytes"] / 2**30
    isa = ", ".join(bed["isa"])
    return (
        f"Test bed: {bed['cpu']} ({isa}), {cores:.0f} cores, {memory:.0f} GiB, Linux "
        f"{bed['kernel'].split('-')[0]}, torch {bed['torch']}; {file}"
    )


if __name__ == "__main__":
    main()
