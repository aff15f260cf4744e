"""A ratio of a row in words, and its spread as a shape in a lane."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.report.lane_shapes import Shape, Spread
from benchmarks.report.result_files import Row

Change = Callable[[float], float]  # of a figure, before it is shown


def same(value: float) -> float:
    """A figure as it is."""
    return value


def inverse(value: float) -> float:
    """A time as a speed."""
    return 1 / value


def spread(row: Row, key: str, change: Change = same) -> tuple[Shape, ...]:
    """The interval of a figure; nothing where it was measured once."""
    ends = sorted(map(change, row.get(f"{key}_interval") or ()))
    return (Spread(ends[0], ends[-1]),) if ends else ()


def ratio_words(row: Row, key: str, change: Change = same) -> str:
    """Such as `1.34x (1.26 to 1.51), n 15`; no brackets where no spread was kept."""
    text = f"{change(row[key]):.2f}x"
    if ends := sorted(map(change, row.get(f"{key}_interval") or ())):
        text += f" ({ends[0]:.2f} to {ends[-1]:.2f})"
    return f"{text}, n {row['rounds']}" if row.get("rounds") else text
