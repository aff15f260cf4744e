"""Horizontal lanes as inline SVG: a name and a figure in words, and below them what was measured.

For figures with a goal: bars, their spread, and beside them the goal and what physics allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from benchmarks.report.axis import Axis, axis_of
from benchmarks.report.chart import WIDTH
from benchmarks.report.lane_shapes import BAR, LEFT, Bar, Scale, Shape, Spread
from benchmarks.report.legend import LEGEND_ROW, entry_width, legend_rows

RIGHT, TOP, BOTTOM = 16, 40, 44
LANE, TEXT_HEIGHT = 38, 15  # of a lane: its words, below them the band


@dataclass(frozen=True)
class Lane:
    """A name, its figure in words, and its shapes, the first ones below the others."""

    name: str
    text: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class LaneChart:
    """Lanes over one axis; `line` is dashed through all of them, `keys` explain shapes."""

    title: str
    x_label: str
    lanes: tuple[Lane, ...]
    keys: tuple[tuple[Shape, str], ...] = ()
    start: float = 0.0
    line: float | None = None

    @property
    def axis(self) -> Axis:
        """Around everything that is drawn."""
        values = [it for lane in self.lanes for shape in lane.shapes for it in shape.values()]
        return Axis(self.start, axis_of([*values, self.line or 0.0], False).high, False)


def draw_lanes(chart: LaneChart) -> str:
    """The chart as one `<svg>` element."""
    rows = legend_rows([text for _, text in chart.keys], WIDTH - LEFT)
    top = TOP + LEGEND_ROW * len(rows)
    bottom = top + LANE * len(chart.lanes)
    axis, room = chart.axis, WIDTH - LEFT - RIGHT

    def at(value: float) -> float:
        return LEFT + room * axis.frac(value)

    parts = [
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
        f'{bottom + BOTTOM:g}" role="img" aria-label="{escape(chart.title)}">',
        f'<text x="{LEFT}" y="18" class="title">{escape(chart.title)}</text>',
        *_legend(chart.keys, rows),
        *_scale(axis, at, top, bottom),
        f'<text x="{LEFT + room / 2:g}" y="{bottom + 36:g}" class="middle">'
        f"{escape(chart.x_label)}</text>",
    ]
    if chart.line is not None:
        parts.append(f'<path class="guide" d="M{at(chart.line):.1f},{top - 4:g}V{bottom:g}"/>')
    for index, lane in enumerate(chart.lanes):
        parts += _lane(lane, at, top + LANE * index)
    return "\n".join([*parts, "</svg>"])


def _lane(lane: Lane, at: Scale, y: float) -> Iterator[str]:
    yield f'<text x="{LEFT}" y="{y + 11:g}">{escape(lane.name)}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{y + 11:g}" class="end">{escape(lane.text)}</text>'
    yield from (shape.svg(at, y + TEXT_HEIGHT) for shape in lane.shapes)


def _legend(keys: tuple[tuple[Shape, str], ...], rows: list[list[int]]) -> Iterator[str]:
    for row, members in enumerate(rows):
        x, y = float(LEFT), TOP + LEGEND_ROW * row
        for index in members:
            shape, text = keys[index]
            yield f'<g transform="translate({x:.1f},{y - BAR + 1})">{_sample(shape)}</g>'
            yield f'<text x="{x + 18:.1f}" y="{y}">{escape(text)}</text>'
            x += entry_width(text)


def _sample(shape: Shape) -> str:
    """The shape on some 14 px, whatever its values."""
    if isinstance(shape, Bar):
        return f'<rect class="mark s{shape.colour}" width="13" height="{BAR}"/>'
    ends = iter((1.0, 13.0) if isinstance(shape, Spread) else (7.0,))
    return shape.svg(lambda value: next(ends), 0)


def _scale(axis: Axis, at: Scale, top: float, bottom: float) -> Iterator[str]:
    for value, text in axis.ticks():
        yield f'<path class="grid" d="M{at(value):.1f},{top - 4:g}V{bottom:g}"/>'
        yield f'<text x="{at(value):.1f}" y="{bottom + 17:g}" class="middle">{text}</text>'
