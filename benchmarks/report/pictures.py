"""The report's pictures: each with its name, the benchmarks that it needs, and what draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.report import (
    feature_figures,
    long_context_figures,
    model_figures,
    peer_figures,
    planning_figures,
    published_figures,
    sweep_figures,
    thread_figures,
)
from benchmarks.report.chart import Chart, draw
from benchmarks.report.lanes import LaneChart, draw_lanes
from benchmarks.report.result_files import Results, command, of_kind
from benchmarks.report.timeline import draw_timeline

Drawings = Callable[[Results], list[str]]


@dataclass(frozen=True)
class Picture:
    """One or more drawings; the first of `kinds` is the benchmark that makes it when it is missing.

    A picture is drawn from every file of its kinds.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    drawings: Drawings
    wide: bool = False

    def draw(self, results: Results) -> list[str]:
        """The drawings as `<svg>` elements; none where there are no results for them."""
        return self.drawings(results) if self.sources(results) else []

    def sources(self, results: Results) -> list[str]:
        """Names of the result files that it is drawn from."""
        return list(of_kind(results, *self.kinds))

    def missing(self) -> str:
        """What to run where there is nothing to draw."""
        return command(self.kinds[0])


def _charts(charts: Callable[[Results], list[Chart]]) -> Drawings:
    return lambda results: [draw(chart) for chart in charts(results)]


def _lanes(charts: Callable[[Results], list[LaneChart]]) -> Drawings:
    return lambda results: [draw_lanes(chart) for chart in charts(results)]


PICTURES = (
    Picture("budget", "Throughput against memory", ("peers",), _charts(peer_figures.budget_charts)),
    Picture("batch", "Throughput against batch", ("peers",), _charts(peer_figures.batch_charts)),
    Picture(
        "prediction", "Predicted against measured", ("prediction",),
        _charts(model_figures.prediction_charts),
    ),
    Picture(
        "published", "Published tables, simulated", ("published",),
        _charts(published_figures.published_charts),
    ),
    Picture(
        "planning", "How long planning takes", ("planning",),
        _lanes(planning_figures.planning_charts),
    ),
    Picture(
        "sweeps", "Sweeps below the roofline", ("streaming",), _charts(sweep_figures.sweep_charts)
    ),
    Picture(
        "roofline", "Kernels below the roofline", ("kernels", "attention"),
        _charts(model_figures.roofline_charts),
    ),
    Picture(
        "quality", "Quality against speed of the formats", ("quality", "attention", "peers"),
        _charts(model_figures.quality_charts),
    ),
    Picture(
        "threads", "Threads: every setting and the chosen one", ("threads",),
        _lanes(thread_figures.thread_charts),
    ),
    Picture(
        "long-context", "A KV cache beyond its memory", ("long-context",),
        _lanes(long_context_figures.long_context_charts),
    ),
    Picture(
        "speculation", "Drafts", ("speculation",), _lanes(feature_figures.speculation_charts)
    ),
    Picture(
        "prefix", "Prompts that begin alike", ("prefix",), _lanes(feature_figures.prefix_charts)
    ),
    Picture(
        "gains", "Replays, retention and swapping", ("replay", "retention", "swapping"),
        _lanes(feature_figures.gain_charts),
    ),
    Picture(
        "trace", "One sweep and the next", ("trace",),
        lambda results: [draw_timeline(one) for one in of_kind(results, "trace").values()],
        wide=True,
    ),
)  # fmt: skip
