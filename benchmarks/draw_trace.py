"""Draw a Chrome trace of the engine as an SVG: what the disk and the CPU did, when.

::

    lm-offload generate MODEL --prompt ... --cpu-memory 1280MiB --trace trace.json
    python -m benchmarks.draw_trace trace.json docs/pictures/trace.svg --sweeps 4 5
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, ROW, LEFT, TOP = 1120, 34, 92, 40
COLOURS = {"read": "#3b7dd8", "compute": "#3fa45b", "wait": "#e3b341"}
TRACKS = {2: "disk read", 1: "CPU"}
Event = dict[str, Any]


def main() -> None:
    """Read the trace, keep some sweeps, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--sweeps", type=int, nargs=2, default=[4, 5], help="first and last")
    args = parser.parse_args()
    events = [event for event in json.loads(args.trace.read_text())["traceEvents"] if "ts" in event]
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    args.picture.write_text(draw(select(events, *args.sweeps)))


def select(events: list[Event], first: int, last: int) -> list[Event]:
    """The events that overlap the time in which the CPU works on these sweeps."""
    inside = [
        event
        for event in events
        if event["cat"] == "compute" and first <= event["args"]["sweep"] <= last
    ]
    start = min(event["ts"] for event in inside)
    stop = max(event["ts"] + event["dur"] for event in inside)
    return [event for event in events if event["ts"] + event["dur"] > start and event["ts"] < stop]


def draw(events: list[Event]) -> str:
    """The picture: a row per resource, a box per task, a scale in milliseconds."""
    start = min(event["ts"] for event in events)
    span = max(event["ts"] + event["dur"] for event in events) - start
    scale = (WIDTH - LEFT - 16) / span
    height = TOP + ROW * len(TRACKS) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *legend(),
        *(box(event, start, scale) for event in events),
        *(
            f'<text x="8" y="{TOP + row * ROW + 20}">{name}</text>'
            for row, name in enumerate(TRACKS.values())
        ),
        *axis(span, scale, TOP + ROW * len(TRACKS) + 16),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def box(event: Event, start: float, scale: float) -> str:
    """One task; its name and duration show when the pointer rests on it."""
    row = list(TRACKS).index(event["tid"])
    x = LEFT + (event["ts"] - start) * scale
    width = max(event["dur"] * scale, 0.4)
    title = escape(f"{event['name']}, {event['dur'] / 1e3:.2f} ms, sweep {event['args']['sweep']}")
    shade = 1.0 if event["args"]["sweep"] % 2 else 0.72
    return (
        f'<rect x="{max(x, LEFT):.2f}" y="{TOP + row * ROW}" width="{width:.2f}" '
        f'height="{ROW - 8}" fill="{COLOURS[event["cat"]]}" fill-opacity="{shade}" stroke="white" '
        f'stroke-width="0.3"><title>{title}</title></rect>'
    )


def legend() -> list[str]:
    """What the colours mean."""
    words = {"read": "reading a unit", "compute": "computing a unit", "wait": "waiting for weights"}
    parts = []
    for index, (kind, text) in enumerate(words.items()):
        x = LEFT + index * 190
        parts.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{COLOURS[kind]}"/>')
        parts.append(f'<text x="{x + 18}" y="22">{text}</text>')
    parts.append(f'<text x="{LEFT + 590}" y="22">light and dark: one sweep and the next</text>')
    return parts


def axis(span: float, scale: float, y: float) -> list[str]:
    """Ten marks with their time in milliseconds."""
    marks = [span * index / 10 for index in range(11)]
    return [
        f'<text x="{LEFT + mark * scale:.1f}" y="{y + 14}" text-anchor="middle" fill="#555">'
        f"{mark / 1e3:.0f} ms</text>"
        for mark in marks
    ]


if __name__ == "__main__":
    main()
