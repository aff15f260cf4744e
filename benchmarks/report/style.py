"""Colours of charts and page, in light and dark."""

from __future__ import annotations

from benchmarks.report.chart import DARK, LIGHT

SHAPES = """
.chart{display:block;width:100%;height:auto;font:13px system-ui,sans-serif}
.chart text{fill:var(--ink);stroke:var(--paper);stroke-width:3px;paint-order:stroke}
.chart .title{font-weight:600}
.chart .middle{text-anchor:middle} .chart .end{text-anchor:end}
.chart .grid{stroke:var(--ink);stroke-opacity:.13}
.chart .guide{fill:none;stroke:var(--ink);stroke-opacity:.55;stroke-dasharray:5 4}
.chart .line{fill:none;stroke:currentColor;stroke-width:1.7}
.chart .mark{fill:currentColor;fill-opacity:.8}
.chart .ring{fill:none;stroke:currentColor;stroke-width:1.5}
.chart .stroke{stroke:currentColor;stroke-width:1.3;stroke-opacity:.7}
.chart .spread{fill:none;stroke:var(--ink);stroke-width:1.3}
.chart .goal{stroke:var(--ink);stroke-width:2;stroke-dasharray:3 2}
.chart .limit{stroke:var(--ink);stroke-width:2.6}
"""


def _colours(palette: tuple[str, ...], ink: str, paper: str) -> str:
    series = "".join(f".s{index}{{color:{colour}}}" for index, colour in enumerate(palette))
    return f":root{{--ink:{ink};--paper:{paper}}}{series}"


STYLE = (
    SHAPES
    + _colours(LIGHT, "#1f2328", "#ffffff")
    + "\n@media(prefers-color-scheme:dark){"
    + _colours(DARK, "#dde3ea", "#14181d")
    + "}\n"
)


def standalone(svg: str) -> str:
    """A chart as a file of its own, on its own paper."""
    head, rest = svg.split(">", 1)
    paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
    return f"{head}>\n<style>{STYLE}</style>\n{paper}{rest}\n"
