"""How many entries of a legend fit in a row."""

from __future__ import annotations

from collections.abc import Sequence

LEGEND_ROW, LETTER = 18, 7.2  # heights and widths of a text of 13 px
MARK_WIDTH = 32  # of a mark and the gaps around it


def entry_width(name: str) -> float:
    """Of a mark and its name."""
    return MARK_WIDTH + LETTER * len(name)


def legend_rows(names: Sequence[str], room: float) -> list[list[int]]:
    """Indices of names, as many in a row as fit; none where no entry has a name."""
    rows: list[list[int]] = []
    used = 0.0
    for index, width in enumerate(map(entry_width, names)):
        if not rows or used + width > room:
            rows.append([])
            used = 0.0
        rows[-1].append(index)
        used += width
    return rows if any(names) else []
