"""What the disk and the processor did, when: a trace of some sweeps as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from benchmarks.report.axis import Axis
from benchmarks.report.result_files import Row

WIDTH, LANE, LEFT, TOP = 960, 34, 78, 62
KINDS = {"read": "reading a unit", "compute": "computing", "wait": "waiting for weights"}
ODD_OPACITY, EVEN_OPACITY = 1.0, 0.65  # one sweep and the next


def draw_timeline(result: Row) -> str:
    """A lane for each resource, a box for each task, a scale in milliseconds."""
    rows = result["rows"]
    lanes = list(dict.fromkeys(sorted(row["resource"] for row in rows)))
    span_us = max(row["start_us"] + row["duration_us"] for row in rows)
    scale = (WIDTH - LEFT - 30) / span_us
    bottom = TOP + LANE * len(lanes)
    parts = [
        '<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="timeline of reads and compute" viewBox="0 0 {WIDTH} {bottom + 40}">',
        f'<text x="4" y="18" class="title">{escape(title(result))}</text>',
        *legend(),
        *(box(row, lanes.index(row["resource"]), scale) for row in rows),
        *(
            f'<text x="4" y="{TOP + index * LANE + 19}">{escape(name.replace("_", " "))}</text>'
            for index, name in enumerate(lanes)
        ),
        *(
            mark(LEFT + 1e3 * time_ms * scale, bottom + 18, text)
            for time_ms, text in Axis(0.0, span_us / 1e3, False).ticks()
        ),
    ]
    return "\n".join([*parts, "</svg>"])


def title(result: Row) -> str:
    """What ran."""
    if "model" not in result:
        return "two decode sweeps"
    return (
        f"{result['model']} in {result['cpu_memory']}, batch {result['batch']}: two decode sweeps"
    )


def legend() -> Iterator[str]:
    """What the colours mean."""
    for index, text in enumerate(KINDS.values()):
        x = LEFT + index * 170
        yield f'<rect class="s{index}" fill="currentColor" x="{x}" y="34" width="12" height="12"/>'
        yield f'<text x="{x + 18}" y="45">{text}</text>'
    yield f'<text x="{LEFT + 530}" y="45">light and dark: one sweep and the next</text>'


def box(row: Row, lane: int, scale: float) -> str:
    """One task; its name and duration show when the pointer rests on it."""
    x, width = LEFT + row["start_us"] * scale, max(row["duration_us"] * scale, 0.4)
    kind = list(KINDS).index(row["kind"]) if row["kind"] in KINDS else len(KINDS)
    opacity = ODD_OPACITY if row["sweep"] % 2 else EVEN_OPACITY
    title = escape(f"{row['name']}, {row['duration_us'] / 1e3:.2f} ms, sweep {row['sweep']}")
    return (
        f'<rect class="s{kind}" fill="currentColor" x="{x:.1f}" y="{TOP + lane * LANE}" '
        f'width="{width:.1f}" height="{LANE - 8}" fill-opacity="{opacity}">'
        f"<title>{title}</title></rect>"
    )


def mark(x: float, y: float, time: str) -> str:
    """A time on the scale."""
    return f'<text class="middle" x="{x:.1f}" y="{y}">{time} ms</text>'
