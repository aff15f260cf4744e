"""What can lie in a lane of a chart: bars, their spread, ticks, strokes and diamonds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Protocol

LEFT = 8  # where bars begin
BAR = 12  # height of a lane's band
GOAL, LIMIT = "goal", "limit"  # kinds of ticks
Scale = Callable[[float], float]  # from a value to its place


class Shape(Protocol):
    """Something in a lane."""

    def values(self) -> tuple[float, ...]:
        """What the axis has to hold."""
        ...

    def svg(self, at: Scale, y: float) -> str:
        """The shape in a band of height BAR below `y`."""
        ...


@dataclass(frozen=True)
class Bar:
    """From the left end to a value; colours are those of the series of a chart."""

    value: float
    colour: int = 0
    note: str = ""

    def values(self) -> tuple[float, ...]:
        """Its end."""
        return (self.value,)

    def svg(self, at: Scale, y: float) -> str:
        """A box."""
        width = max(at(self.value) - LEFT, 0.5)
        return (
            f'<rect class="mark s{self.colour}" x="{LEFT}" y="{y:g}" width="{width:.1f}" '
            f'height="{BAR}"><title>{escape(self.note)}</title></rect>'
        )


@dataclass(frozen=True)
class Spread:
    """Between the least and the most of the repetitions, or the ends of an interval."""

    low: float
    high: float

    def values(self) -> tuple[float, ...]:
        """Both ends."""
        return (self.low, self.high)

    def svg(self, at: Scale, y: float) -> str:
        """A thin line with an end on each side."""
        low, high, middle = at(self.low), at(self.high), y + BAR / 2
        return (
            f'<path class="spread" d="M{low:.1f},{middle:g}H{high:.1f}M{low:.1f},{middle - 3:g}v6'
            f'M{high:.1f},{middle - 3:g}v6"/>'
        )


@dataclass(frozen=True)
class Tick:
    """A value that is no measurement: a goal, or a limit that nothing can pass."""

    value: float
    kind: str

    def values(self) -> tuple[float, ...]:
        """Its place."""
        return (self.value,)

    def svg(self, at: Scale, y: float) -> str:
        """A line across the lane."""
        return f'<path class="{self.kind}" d="M{at(self.value):.1f},{y - 1:g}v{BAR + 5}"/>'


@dataclass(frozen=True)
class Stroke:
    """One of many measurements in a lane."""

    value: float
    note: str

    def values(self) -> tuple[float, ...]:
        """Its place."""
        return (self.value,)

    def svg(self, at: Scale, y: float) -> str:
        """A thin line as high as the lane's band."""
        return (
            f'<path class="stroke s5" d="M{at(self.value):.1f},{y:g}v{BAR}">'
            f"<title>{escape(self.note)}</title></path>"
        )


@dataclass(frozen=True)
class Diamond:
    """A measurement that stands out; `hollow` where it is a mere repetition of another one."""

    value: float
    note: str
    colour: int = 1
    hollow: bool = False

    def values(self) -> tuple[float, ...]:
        """Its place."""
        return (self.value,)

    def svg(self, at: Scale, y: float) -> str:
        """A diamond in the middle of the band."""
        style = "ring" if self.hollow else "mark"
        return (
            f'<path class="{style} s{self.colour}" d="M0,-6.5L6.5,0L0,6.5L-6.5,0Z" '
            f'transform="translate({at(self.value):.1f},{y + BAR / 2:g})">'
            f"<title>{escape(self.note)}</title></path>"
        )
