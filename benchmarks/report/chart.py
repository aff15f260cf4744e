"""Line and scatter charts as inline SVG: readable on a phone, in light and dark, without a script.

Colours come from classes, so a page holds `STYLE` once for all its charts; `standalone` puts it
into a picture of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from benchmarks.report.axis import Axis, axis_of
from benchmarks.report.legend import LEGEND_ROW, LETTER, entry_width, legend_rows

WIDTH, HEIGHT = 480, 340
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 46
MARKS = (
    "M-4,0A4,4 0 1,0 4,0A4,4 0 1,0 -4,0",
    "M-4,-4H4V4H-4Z",
    "M0,-5L5,4H-5Z",
    "M0,-5L5,0L0,5L-5,0Z",
)
LIGHT = ("#2f6fc4", "#c4661f", "#2e8b57", "#8a4fbf", "#b8433f", "#5b6b7a", "#a0791a", "#1f8a99")
DARK = ("#6aa5f0", "#e8955a", "#66c08c", "#bd8ee8", "#e8827e", "#a3b1bf", "#d6b257", "#5cc4d2")


@dataclass(frozen=True)
class Point:
    """A measured value, with the least and the most of its repetitions where there were some.

    A `label` is written beside it, a `note` shows when the pointer rests on it.
    """

    x: float
    y: float
    note: str = ""
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one colour and mark."""

    name: str
    points: tuple[Point, ...]
    joined: bool = True


@dataclass(frozen=True)
class Guide:
    """A thin line that is no measurement: a ceiling, a diagonal; `held` within the axes or cut."""

    points: tuple[tuple[float, float], ...]
    name: str = ""
    held: bool = False


@dataclass(frozen=True)
class Chart:
    """What is drawn; both axes hold every point."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    guides: tuple[Guide, ...] = ()
    x_log: bool = False
    y_log: bool = False
    square: bool = False  # one scale for both axes
    x_ticks: tuple[float, ...] = ()  # where values lie at few places: those


def draw(chart: Chart) -> str:
    """The chart as one `<svg>` element."""
    frame = Frame.of(chart)
    parts = [
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
        f'{frame.bottom + BOTTOM:g}" role="img" aria-label="{escape(chart.title)}">',
        f'<text x="{LEFT}" y="18" class="title">{escape(chart.title)}</text>',
        *legend(chart.series),
        *scales(chart, frame),
        *guides(chart.guides, frame),
    ]
    for index, series in enumerate(chart.series):
        parts += draw_series(series, index, frame)
    return "\n".join([*parts, "</svg>"])


@dataclass(frozen=True)
class Frame:
    """Where values lie in the picture."""

    x: Axis
    y: Axis
    top: float

    @property
    def bottom(self) -> float:
        """Of the plot."""
        return self.top + HEIGHT - TOP - BOTTOM

    @staticmethod
    def of(chart: Chart) -> Frame:
        """Axes around all points and their spread, below the legend."""
        points = [point for series in chart.series for point in series.points]
        held = [place for guide in chart.guides if guide.held for place in guide.points]
        xs = [point.x for point in points]
        ys = [y for point in points for y in (point.low, point.y, point.high) if y is not None]
        ys += [y for _, y in held]
        if chart.square:
            xs = ys = xs + ys
        top = TOP + LEGEND_ROW * len(rows_of(chart.series))
        return Frame(axis_of(xs, chart.x_log), axis_of(ys, chart.y_log), top)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a pair of values."""
        width = WIDTH - LEFT - RIGHT
        across, up = self.x.frac(x), self.y.frac(y)
        return LEFT + width * across, self.bottom - (self.bottom - self.top) * up


def rows_of(series: tuple[Series, ...]) -> list[list[int]]:
    """Indices of the named series, as many in a row as fit."""
    return legend_rows([one.name for one in series], WIDTH - LEFT)


def legend(series: tuple[Series, ...]) -> Iterator[str]:
    """A mark and a name for each series."""
    for row, members in enumerate(rows_of(series)):
        x, y = LEFT + 4.0, TOP + LEGEND_ROW * row
        for index in members:
            yield f'<g class="s{index % len(LIGHT)}">{mark(index, x, y - 4)}</g>'
            yield f'<text x="{x + 9:.1f}" y="{y}">{escape(series[index].name)}</text>'
            x += entry_width(series[index].name)


def mark(index: int, x: float, y: float, note: str = "") -> str:
    """The sign of a series; `note` shows when the pointer rests on it."""
    path = MARKS[index % len(MARKS)]
    title = f"<title>{escape(note)}</title>" if note else ""
    return f'<path class="mark" d="{path}" transform="translate({x:.1f},{y:.1f})">{title}</path>'


def scales(chart: Chart, frame: Frame) -> Iterator[str]:
    """Grid, ticks and the names of the axes."""
    width, middle = WIDTH - LEFT - RIGHT, (frame.top + frame.bottom) / 2
    free_x = 0.0  # where the label before ends
    for value, text in [(x, f"{x:g}") for x in chart.x_ticks] or frame.x.ticks():
        x, _ = frame.at(value, frame.y.low)
        yield f'<path class="grid" d="M{x:.1f},{frame.top:g}V{frame.bottom:g}"/>'
        if x - LETTER * len(text) / 2 > free_x:
            yield f'<text x="{x:.1f}" y="{frame.bottom + 17:g}" class="middle">{text}</text>'
            free_x = x + LETTER * (len(text) / 2 + 1)
    for value, text in frame.y.ticks():
        _, y = frame.at(frame.x.low, value)
        yield f'<path class="grid" d="M{LEFT},{y:.1f}h{width}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="end">{text}</text>'
    place = f'x="{LEFT + width / 2:g}" y="{frame.bottom + 36:g}"'
    yield f'<text {place} class="middle">{escape(chart.x_label)}</text>'
    yield (
        f'<text transform="translate(13,{middle:g}) rotate(-90)" class="middle">'
        f"{escape(chart.y_label)}</text>"
    )


def guides(lines: tuple[Guide, ...], frame: Frame) -> Iterator[str]:
    """Dashed lines, cut at the frame by a nested `<svg>`."""
    width, height = WIDTH - LEFT - RIGHT, frame.bottom - frame.top
    yield f'<svg x="{LEFT}" y="{frame.top:g}" width="{width}" height="{height:g}">'
    for line in lines:
        places = [frame.at(x, y) for x, y in line.points]
        path = "L".join(f"{x - LEFT:.1f},{y - frame.top:.1f}" for x, y in places)
        yield f'<path class="guide" d="M{path}"><title>{escape(line.name)}</title></path>'
    yield "</svg>"


def draw_series(series: Series, index: int, frame: Frame) -> Iterator[str]:
    """The line, the spreads and the marks."""
    yield f'<g class="s{index % len(LIGHT)}">'
    places = [frame.at(point.x, point.y) for point in series.points]
    if series.joined and len(places) > 1:
        yield f'<path class="line" d="M{"L".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
    for point, (x, y) in zip(series.points, places, strict=True):
        if point.low is not None and point.high is not None:
            ends = (frame.at(point.x, point.low)[1], frame.at(point.x, point.high)[1])
            yield f'<path class="line" d="M{x:.1f},{ends[0]:.1f}V{ends[1]:.1f}"/>'
        yield mark(index, x, y, f"{series.name} {point.note}".strip())
        if point.label:
            yield label(point.label, x, y)
    yield "</g>"


def label(text: str, x: float, y: float) -> str:
    """Words beside a point, on the side where there is room."""
    if x > WIDTH / 2:
        return f'<text x="{x - 10:.1f}" y="{y + 4:.1f}" class="end">{escape(text)}</text>'
    return f'<text x="{x + 10:.1f}" y="{y + 4:.1f}">{escape(text)}</text>'
