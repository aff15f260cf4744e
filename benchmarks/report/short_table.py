"""The README's one table: other engines beside ours, a line each, batch sizes side by side."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.peer_rows import OURS, PHASES
from benchmarks.report.engine_names import engine_name, is_variant
from benchmarks.report.peer_figures import grouped, in_format, memory
from benchmarks.report.peer_tables import CELL_KEYS
from benchmarks.report.result_files import Results, Row
from benchmarks.report.sections import bed_in_words

FILES = ("peers-1.1b", "peers-moe-2.4b", "quantized-peers-8b", "quantized-peers-1.1b")
BATCHES = (1, 16, 64)
FEWEST_TOLD = 3  # significant figures of a rate


def short_table(results: Results) -> str:
    """Nothing where none of the files is there."""
    lines = [line for name in FILES if name in results for line in _lines(results[name]["rows"])]
    if not lines:
        return ""
    heads = [f"batch {batch}" for batch in BATCHES]
    head = ["model, format and memory", "engine", *heads]
    return "\n".join([_line(head), "|---" * len(head) + "|", *lines, "", *_beds(results)])


def _beds(results: Results) -> Iterable[str]:
    """What the lines were measured on, files of the same machine together."""
    files: dict[str, list[str]] = {}
    for name in FILES:
        if name in results:
            link = f"[{name}](benchmarks/results/{name}.json)"
            files.setdefault(bed_in_words(results[name]["testbed"]), []).append(link)
    for bed, names in files.items():
        yield f"Test bed of {', '.join(names)}: {bed}.\n"


def _lines(rows: list[Row]) -> Iterable[str]:
    """Ours first, in tokens/s, then the others by how many times faster ours is."""
    for members in grouped(rows, CELL_KEYS).values():
        peers = dict.fromkeys(row["peer"] for row in members)
        order = sorted(peers, key=lambda peer: (not peer.startswith(OURS), is_variant(peer)))
        for peer in order:
            own = {int(row["batch"]): row for row in members if row["peer"] == peer}
            cells = [_cell(own.get(batch)) for batch in BATCHES]
            yield _line([_what(members[0]) if peer == order[0] else "", engine_name(peer), *cells])


def _what(row: Row) -> str:
    return f"{row['model']}{in_format(row.get('weight_format'))}, {memory(row.get('limit_bytes'))}"


def _cell(row: Row | None) -> str:
    """Decode and prefill."""
    if row is None:
        return ""
    if row.get("error"):
        return "failed"
    if row["peer"].startswith(OURS):
        return ", ".join(_rate(row[f"{phase}_tokens_per_s"]) for phase in PHASES) + " tok/s"
    ratios = (row.get(f"ours_over_this_{phase}") for phase in PHASES)
    return ", ".join(f"{ratio:.2f}x" for ratio in ratios if ratio)


def _rate(tokens_per_s: float) -> str:
    digits = FEWEST_TOLD - len(str(int(tokens_per_s)))
    return f"{tokens_per_s:.{max(digits, 0)}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
