"""Pictures and charts from result files, committed and made up."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from benchmarks.report.__main__ import COMMITTED
from benchmarks.report.axis import axis_of
from benchmarks.report.chart import Chart, Frame, Guide, Point, Series, draw
from benchmarks.report.html_page import page
from benchmarks.report.markdown_pages import PICTURES_DIR, generated
from benchmarks.report.peer_figures import batch_charts
from benchmarks.report.pictures import PICTURES
from benchmarks.report.result_files import load
from benchmarks.report.style import standalone
from benchmarks.report.sweep_figures import sweep_charts

from tests.benchmarks.made_up_results import made_up


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_every_picture_is_drawn_from_made_up_results(picture):
    drawings = picture.draw(made_up())
    assert drawings
    for svg in drawings:
        ElementTree.fromstring(svg)
        ElementTree.fromstring(standalone(svg))
        assert "nan" not in svg
        assert not re.search(r"\binf\b", svg)


@pytest.mark.parametrize(
    ("values", "log", "texts"),
    [
        ([3.0, 97.0], False, ["0", "25", "50", "75", "100"]),
        ([1.0, 64.0], True, ["1", "2", "5", "10", "20", "50"]),
        ([0.01, 90.0], True, ["0.01", "0.1", "1", "10", "100"]),
        ([-2.0, 2.0], False, ["-2", "-1", "0", "1", "2"]),
    ],
)
def test_axes_carry_round_numbers_around_all_values(values, log, texts):
    axis = axis_of(values, log)
    assert [text for _, text in axis.ticks()] == texts
    assert all(0 <= axis.frac(value) <= 1 for value in values)


def test_one_point_and_equal_points_can_be_drawn():
    for log in (False, True):
        series = (Series("s & t", (Point(2.0, 2.0), Point(2.0, 2.0, "<note>", 1.0, 3.0))),)
        guide = (Guide(((1.0, 1.0), (9.0, 9.0)), "g"),)
        text = draw(Chart("a < b", "x", "y", series, guide, x_log=log, y_log=log))
        ElementTree.fromstring(text)
        assert "s &amp; t &lt;note&gt;" in text


def test_no_picture_is_left_that_nothing_draws():
    drawn = {path.name for path, _ in generated(load(COMMITTED)) if path.parent == PICTURES_DIR}
    kept = {path.name for path in PICTURES_DIR.glob("*.svg")}
    assert kept == drawn


def test_every_format_of_weights_and_of_the_cache_is_one_point_of_its_own_chart():
    weights, cache = (drawing.count(", perplexity ") for drawing in drawn("quality"))
    assert (weights, cache) == (1, 2)
    assert "int8:row 1.6, perplexity +1.00 %" in drawn("quality")[1]


def picture(name):
    return next(picture for picture in PICTURES if picture.name == name)


def drawn(name):
    return picture(name).draw(made_up())


def test_published_figures_are_shown_by_what_is_known_of_their_policy():
    (chart,) = drawn("published")
    for words in ("with a goal of", "policy published", "policy inferred", "T, m, s: -5%"):
        assert words in chart


def test_sweeps_lie_below_the_roofs_of_their_run():
    (chart,) = sweep_charts(made_up())
    streamed, resident = (series.points[0] for series in chart.series)
    assert (streamed.x, streamed.y) == pytest.approx((7.6, 15.2))  # 4 x 1.9 GFLOP over 1 GB, 0.5 s
    assert (resident.x, resident.y) == pytest.approx((3.8, 76.0))


def test_labels_that_would_overlap_are_left_out():
    series = (Series("s", (Point(1.0, 1.0), Point(64.0, 2.0))),)
    every = draw(Chart("t", "x", "y", series, x_log=True, x_ticks=(1.0, 16.0, 64.0)))
    assert all(f'class="middle">{value}</text>' in every for value in (1, 16, 64))
    crowded = draw(Chart("t", "x", "y", series, x_log=True, x_ticks=(10000.0, 10001.0)))
    assert "10000" in crowded
    assert "10001" not in crowded


def texts(svg):
    return ["".join(it.itertext()) for it in ElementTree.fromstring(svg).iter() if "text" in it.tag]


def test_the_sweep_of_threads_marks_the_choice_and_the_fastest():
    swept, default = drawn("threads")
    assert swept.count('class="stroke') == 2 + 1  # one in the legend
    assert swept.count('class="ring') == 1 + 1
    assert "of 2: 1.02x (0.98 to 1.10), n 5" in texts(swept)
    assert "1.30x, n 5" in texts(default)
    assert default.count('class="goal"') == 1 + 1


def test_a_choice_that_is_the_fastest_is_called_so():
    results = made_up()
    results["threads"]["rows"][0]["chosen"] = {"compute": 1}
    (chart, _) = picture("threads").draw(results)
    assert "of 2: the fastest" in texts(chart)


def test_long_contexts_stand_beside_disk_and_compute_alone():
    (chart,) = drawn("long-context")
    told = texts(chart)
    assert "1.00 GB at 2.00 GB/s: 500 ms" in told
    assert "the same, measured: 83% of the bound" in told
    assert "600 ms, n 3" in told
    assert (chart.count('class="goal"'), chart.count('class="limit"')) == (2, 2)


def test_drafts_are_shown_as_speeds_below_the_tokens_of_a_sweep():
    told = texts(drawn("speculation")[0])
    for words in ("1.50x (1.40 to 1.60), n 5", "0.80x, n 5", "m, code: draft model"):
        assert words in told


def test_shared_prefixes_have_the_goal_of_the_full_case_only():
    (chart,) = drawn("prefix")
    assert chart.count('class="goal"') == 1 + 1
    results = made_up()
    results["prefix"]["rows"][0]["prompts"] = 8
    (smaller,) = picture("prefix").draw(results)
    assert smaller.count('class="goal"') == 1


def test_features_in_turns_show_intervals_and_leave_out_what_was_not_measured():
    (chart,) = drawn("gains")
    assert "1.20x (1.10 to 1.30), n 8" in texts(chart)
    assert "retention: m, batch 16" not in texts(chart)


def test_planning_is_drawn_when_it_was_measured():
    (chart,) = drawn("planning")
    assert "plan m x 16, t4" in texts(chart)
    assert "plan m, t4" in texts(chart)
    assert "1.70 s, search 0.40 s, n 3" in texts(chart)
    assert picture("planning").draw({}) == []


def test_engines_with_two_figures_for_one_batch_are_drawn_file_by_file():
    results = made_up()
    (one,) = batch_charts({"peers": results["peers"]})[:1]
    assert one.x_label == "batch (sequences)"
    twice = {"peers": results["peers"], "again": {**results["peers"], "benchmark": "peers"}}
    labels = {chart.x_label for chart in batch_charts(twice)}
    assert labels == {"batch (sequences); peers.json", "batch (sequences); again.json"}


def test_the_ceiling_of_the_machine_is_a_line_within_the_axes():
    results = made_up()
    for found in results["peers"]["rows"]:
        found["decode_ceiling_tokens_per_s"] = 500.0 * found["batch"]
    chart = batch_charts(results)[0]
    assert chart.guides[0].points == ((1, 500.0), (16, 8000.0))
    assert chart.y_label.endswith("dashed: ceiling")
    assert Frame.of(chart).y.high > 8000


def test_every_picture_names_and_links_its_result_files():
    text = page(made_up(), "there")
    for found in PICTURES:
        for name in found.sources(made_up()):
            assert f'<a href="there/{name}.json">{name}.json</a>' in text
