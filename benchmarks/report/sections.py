"""A result file as a section of Markdown: its tables and the machine that they come from."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.report import goal_tables, tables
from benchmarks.report.generic_table import rows_table
from benchmarks.report.kv_formats_table import kv_formats
from benchmarks.report.peer_tables import peers
from benchmarks.report.planning_table import planning
from benchmarks.report.reconstruction_table import reconstruction
from benchmarks.report.result_files import Results, Row
from benchmarks.report.server_table import server

LONG = (
    "peers-1.1b", "streaming-1.1b", "resident-1.1b", "peers-moe-2.4b", "quantized-peers-8b",
    "quantized-peers-1.1b", "resident-peers-1.1b", "streaming-8b", "peers-8b",
    "fixed-costs", "kernels", "attention", "quality", "long-context", "kv-formats",
    "speculation-1.1b", "speculation-demo", "prefix-demo", "prefix-1.1b", "retention", "replay",
    "swapping", "threads", "plan-choice", "prediction", "planning", "server", "published",
    "reconstruction",
)  # fmt: skip
ORDER = {name: index for index, name in enumerate(LONG)}
HIDDEN = ("trace",)  # a picture
FOLDER = "benchmarks/results"  # as seen from the repository's root
MAKERS: dict[str, Callable[[Row], str]] = {
    "peers": peers,
    "streaming": tables.streaming,
    "resident": tables.resident,
    "fixed_costs": tables.fixed_costs,
    "kernels": tables.products,
    "quality": tables.quality,
    "prediction": tables.prediction,
    "published": tables.published,
    "reconstruction": reconstruction,
    "attention": goal_tables.attention,
    "long-context": goal_tables.long_context,
    "kv-formats": kv_formats,
    "plan-choice": goal_tables.plan_choice,
    "planning": planning,
    "prefix": goal_tables.prefix,
    "speculation": goal_tables.speculation,
    "threads": goal_tables.threads,
    "server": server,
}


def sections(results: Results) -> list[str]:
    """The main ones in their order, then all others by name."""
    others = sorted(name for name in results if name not in ORDER and name not in HIDDEN)
    return [section(name, results[name]) for name in (*LONG, *others) if name in results]


def section(name: str, result: Row, folder: str = FOLDER) -> str:
    """The tables of one file in `folder`; an unknown benchmark's rows are shown as they are."""
    maker = MAKERS.get(result.get("benchmark", name))
    text = maker(result) if maker and result["rows"] else rows_table(name, result)
    return f"{text}\n\n{source_line(file_link(name, folder), result.get('testbed'))}\n"


def file_link(name: str, folder: str = FOLDER) -> str:
    """A result file, as a link in Markdown."""
    return f"[{name}.json]({folder}/{name}.json)"


def source_line(file: str, bed: Row | None) -> str:
    """The machine in one line, unless nothing was measured, and where the figures are."""
    return f"Simulated; {file}." if bed is None else f"Test bed: {bed_in_words(bed)}; {file}."


def bed_in_words(bed: Row) -> str:
    """The machine that figures come from."""
    cores, memory = bed["cores"], bed["memory_bytes"] / 2**30
    isa = ", ".join(bed["isa"])
    return (
        f"{bed['cpu']} ({isa}), {cores:.0f} cores, {memory:.0f} GiB, Linux "
        f"{bed['kernel'].split('-')[0]}, torch {bed['torch']}"
    )
