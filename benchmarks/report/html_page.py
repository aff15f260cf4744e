"""One self-contained HTML page: pictures, then every table; no script and nothing to load."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import escape

from benchmarks.report.pictures import PICTURES, Picture
from benchmarks.report.result_files import Results
from benchmarks.report.sections import HIDDEN, ORDER, bed_in_words, file_link, section
from benchmarks.report.style import STYLE

PAGE_STYLE = """
body{margin:0 auto;max-width:1080px;padding:12px;background:var(--paper);color:var(--ink);
font:16px/1.45 system-ui,sans-serif}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:12px}
.wide{overflow-x:auto} .wide .chart{min-width:640px}
table{border-collapse:collapse;font-size:14px} .table{overflow-x:auto;margin-bottom:8px}
th,td{padding:3px 9px;border-bottom:1px solid color-mix(in srgb,var(--ink) 18%,transparent)}
td{font-variant-numeric:tabular-nums} th{text-align:left}
a{color:inherit} .source{font-size:13px;opacity:.75} summary{cursor:pointer}
"""
OPEN_ROWS = 40  # longer tables are folded


def page(results: Results, folder: str) -> str:
    """The whole page; `folder` is where the result files lie, as seen from it."""
    body = [
        "<h1>LM-Offload: benchmark report</h1>",
        "<p>Rates are medians; a bar on a point spans its repetitions. Shared machines drift: "
        "compare within one file. Rest the pointer on a point for its figures.</p>",
    ]
    body += [*test_beds(results), contents()]
    for picture in PICTURES:
        body.append(f'<h2 id="{picture.name}">{escape(picture.title)}</h2>')
        body += drawings(picture, results, folder)
    body.append('<h2 id="tables">Tables</h2>')
    shown = (name for name in results if name not in HIDDEN)
    for name in sorted(shown, key=lambda name: (ORDER.get(name, len(ORDER)), name)):
        body += markdown_as_html(section(name, results[name], folder))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>LM-Offload: benchmarks</title>'
        f"<style>{STYLE}{PAGE_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def test_beds(results: Results) -> Iterator[str]:
    """Each machine that figures were measured on, with how many files come from it."""
    beds = Counter(
        bed_in_words(bed) for result in results.values() if (bed := result.get("testbed"))
    )
    for bed, count in beds.items():
        yield f"<p>Test bed: {escape(bed)} ({count} of {len(results)} files).</p>"


def contents() -> str:
    """Links to the sections."""
    names = [(picture.name, picture.title) for picture in PICTURES]
    links = (
        f'<a href="#{name}">{escape(title)}</a>' for name, title in [*names, ("tables", "Tables")]
    )
    return f"<nav>{' | '.join(links)}</nav>"


def drawings(picture: Picture, results: Results, folder: str) -> Iterator[str]:
    """The charts of a section with their sources, or how to measure what it shows."""
    drawn = picture.draw(results)
    if not drawn:
        yield f"<p>Not measured yet; this does it: <code>{escape(picture.missing())}</code></p>"
        return
    yield f'<div class="{"wide" if picture.wide else "charts"}">'
    yield from drawn
    yield "</div>"
    links = ", ".join(file_link(name, folder) for name in picture.sources(results))
    yield f'<p class="source">{inline(f"From {links}.")}</p>'


def markdown_as_html(text: str) -> Iterator[str]:
    """The Markdown of a section: bold titles, tables, paragraphs."""
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            yield from table(lines)
        elif lines[0].startswith("**"):
            yield f"<h3>{inline(block.strip('*'))}</h3>"
        else:
            yield f'<p class="source">{inline(block)}</p>'


def table(lines: list[str]) -> Iterator[str]:
    """A Markdown table, scrolling on its own, folded if it is long."""
    head, _, *rows = lines
    long = len(rows) > OPEN_ROWS
    if long:
        yield f"<details><summary>{len(rows)} rows</summary>"
    yield f'<div class="table"><table><thead>{row_of(head, "th")}</thead><tbody>'
    yield from (row_of(row, "td") for row in rows)
    yield "</tbody></table></div>" + ("</details>" if long else "")


def row_of(line: str, tag: str) -> str:
    """One row of cells."""
    cells = line.strip()[1:-1].split("|")
    return "<tr>" + "".join(f"<{tag}>{inline(cell.strip())}</{tag}>" for cell in cells) + "</tr>"


def inline(text: str) -> str:
    """Escaped text with its code and links."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\[([^\]]+)\]\(([^)]*)\)", r'<a href="\2">\1</a>', text)
