"""Draw predicted against measured rates of `bench_prediction` as a picture.

::

    python -m benchmarks.draw_prediction benchmarks/results/prediction.json \\
        docs/pictures/prediction.svg
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

SIZE, LEFT, TOP, GAP = 400, 62, 44, 70  # of one panel and around it
BAND = 1.15  # the goal for nine points in ten
COLOURS = {"own": "#4878a8", "int8:64": "#d08a3c", "int4:64": "#5f9e6e"}
PHASES = ("prefill", "decode")
Row = dict[str, Any]


def main() -> None:
    """Read the result, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    rows = [row for row in json.loads(args.result.read_text())["rows"] if "measured" in row]
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    args.picture.write_text(draw(rows))


def draw(rows: list[Row]) -> str:
    """A panel for each phase: a point on the diagonal was predicted exactly."""
    width, height = 2 * (SIZE + GAP) + LEFT, SIZE + TOP + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *legend(),
    ]
    for index, phase in enumerate(PHASES):
        points = [(rate(row, "measured", phase), rate(row, "predicted", phase)) for row in rows]
        kept = [(row, *point) for row, point in zip(rows, points, strict=True) if min(point) > 0]
        parts += panel(phase, LEFT + index * (SIZE + GAP), kept)
    return "\n".join([*parts, "</svg>"]) + "\n"


def rate(row: Row, kind: str, phase: str) -> float:
    """Tokens per second."""
    return float(row[kind][f"{phase}_tokens_per_s"])


def panel(phase: str, x: int, points: list[tuple[Row, float, float]]) -> Iterator[str]:
    """Axes with powers of ten, the diagonal with its band, the points."""
    rates = [value for _, *pair in points for value in pair] or [1.0]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)) + 1e-9)
    scale = SIZE / max(high - low, 1)

    def at(value: float) -> float:
        return (math.log10(value) - low) * scale

    yield f'<text x="{x}" y="{TOP - 8}" font-weight="bold">{phase}, tokens/s</text>'
    yield f'<rect x="{x}" y="{TOP}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#999"/>'
    for power in range(low, high + 1):
        yield from tick(x, at(10.0**power), f"{10.0**power:g}")
    for factor, dashes in ((1.0, ""), (BAND, "4 3"), (1 / BAND, "4 3")):
        yield line(x, math.log10(factor) * scale, dashes)
    for row, measured, predicted in points:
        yield dot(row, x + at(measured), TOP + SIZE - at(predicted), predicted / measured)
    yield f'<text x="{x + SIZE / 2}" y="{TOP + SIZE + 36}" text-anchor="middle">measured</text>'
    middle = TOP + SIZE / 2
    yield (
        f'<text x="{x - 44}" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 {x - 44} {middle})">predicted</text>'
    )


def tick(x: int, offset: float, text: str) -> Iterator[str]:
    """A mark on both axes."""
    bottom = TOP + SIZE
    yield f'<text x="{x + offset:.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
    yield f'<text x="{x - 6}" y="{bottom - offset + 4:.1f}" text-anchor="end">{text}</text>'


def line(x: int, shift: float, dashes: str) -> str:
    """The diagonal, shifted up, cut at the frame."""
    first, last = max(-shift, 0.0), SIZE - max(shift, 0.0)
    bottom = TOP + SIZE
    return (
        f'<line x1="{x + first:.1f}" y1="{bottom - first - shift:.1f}" x2="{x + last:.1f}" '
        f'y2="{bottom - last - shift:.1f}" stroke="#999" stroke-dasharray="{dashes}"/>'
    )


def dot(row: Row, x: float, y: float, ratio: float) -> str:
    """One point; its name and error show when the pointer rests on it."""
    title = escape(f"{row['key']}: predicted {ratio - 1:+.1%}")
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[row["weight_format"]]}" '
        f'fill-opacity="0.75"><title>{title}</title></circle>'
    )


def legend() -> Iterator[str]:
    """What the colours and lines mean."""
    for index, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + index * 120
        yield f'<circle cx="{x}" cy="14" r="4" fill="{colour}"/>'
        words = "own precision" if name == "own" else name
        yield f'<text x="{x + 10}" y="18">{words}</text>'
    yield f'<text x="{LEFT + 380}" y="18" fill="#555">dashed: 15 % too fast or too slow</text>'


if __name__ == "__main__":
    main()
