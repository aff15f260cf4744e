"""The report's pictures: each with its name, the results that it needs, and what draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.report import model_figures, peer_figures, published_figures, sweep_figures
from benchmarks.report.chart import draw
from benchmarks.report.result_files import Results, command
from benchmarks.report.timeline import draw_timeline

Drawings = Callable[[Results], list[str]]
ANY_FILE = ("peers", "streaming")  # these take every file that has such rows


@dataclass(frozen=True)
class Picture:
    """One or more drawings; `source` names the result file that is needed first of all."""

    name: str
    title: str
    source: str
    drawings: Drawings

    def draw(self, results: Results) -> list[str]:
        """The drawings as `<svg>` elements; none where there are no results for them."""
        needs_file = self.source not in ANY_FILE
        return [] if needs_file and self.source not in results else self.drawings(results)

    def missing(self) -> str:
        """What to run where there is nothing to draw."""
        return command(self.source)


def _drawn(charts: Callable[[Results], list]) -> Drawings:
    return lambda results: [draw(chart) for chart in charts(results)]


PICTURES = (
    Picture("budget", "Throughput against memory", "peers", _drawn(peer_figures.budget_charts)),
    Picture("batch", "Throughput against batch", "peers", _drawn(peer_figures.batch_charts)),
    Picture(
        "prediction", "Predicted against measured", "prediction",
        _drawn(model_figures.prediction_charts),
    ),
    Picture(
        "published", "Published tables, simulated", "published",
        _drawn(published_figures.published_charts),
    ),
    Picture("sweeps", "Sweeps below the roofline", "streaming", _drawn(sweep_figures.sweep_charts)),
    Picture(
        "roofline", "Kernels below the roofline", "kernels", _drawn(model_figures.roofline_charts)
    ),
    Picture(
        "quality", "Quality against speed of the formats", "quality",
        _drawn(model_figures.quality_charts),
    ),
    Picture(
        "trace", "One sweep and the next", "trace",
        lambda results: [draw_timeline(results["trace"])],
    ),
)  # fmt: skip
