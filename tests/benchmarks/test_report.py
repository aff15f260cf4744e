"""Tables, charts and the HTML page from result files, committed and made up."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from benchmarks.report.__main__ import COMMITTED
from benchmarks.report.axis import axis_of
from benchmarks.report.chart import Chart, Frame, Guide, Point, Series, draw
from benchmarks.report.generic_table import rows_table
from benchmarks.report.html_page import page
from benchmarks.report.markdown_pages import PICTURES_DIR, generated
from benchmarks.report.peer_figures import batch_charts
from benchmarks.report.pictures import PICTURES
from benchmarks.report.result_files import load
from benchmarks.report.sections import FOLDER, section
from benchmarks.report.style import standalone
from benchmarks.report.sweep_figures import sweep_charts

BED = {
    "cpu": "C", "cores": 2.0, "isa": ["avx2"], "memory_bytes": 2**34,
    "kernel": "6.1-x", "torch": "2",
}  # fmt: skip


def peer_row(peer, batch, limit_bytes, rate, **other):
    return {
        "peer": peer, "model": "m", "batch": batch, "prompt_len": 8, "gen_len": 6, "threads": 2,
        "limit_bytes": limit_bytes, "weight_format": None, "weight_bytes": 2**31,
        "decode_tokens_per_s": rate, "decode_tokens_per_s_runs": [rate * 0.9, rate * 1.1],
        "prefill_tokens_per_s": rate, "decode_ceiling_frac": 0.5, "prefill_ceiling_frac": 0.25,
        **other,
    }  # fmt: skip


def made_up():
    peers = [
        peer_row(peer, batch, limit, batch + 1.0)
        for peer in ("lm_offload", "<other>")
        for batch in (1, 16)
        for limit in (2**30, None)
    ]
    peers.append({**peer_row("broken", 1, None, 0.0), "error": "killed | by\nmemory"})
    rates = {"prefill_tokens_per_s": 10.0, "decode_tokens_per_s": 2.0}
    points = [
        {"key": "p", "weight_format": "own", "measured": rates, "predicted": rates},
        {"key": "q", "weight_format": "own", "skipped": "no plan fits the budget"},
    ]
    product = {
        "operation": "linear",
        "gbytes_per_s": 20.0,
        "read_frac": 0.6,
        "over_torch_int4": None,
    }
    quality = {"bytes_per_weight": 2.0, "perplexity": 30.0, "mean_kl": None}
    both = dict.fromkeys(("apart", "shared", "computed", "read"), 1.0)
    task = {"kind": "read", "name": "read u", "sweep": 4, "start_us": 0.0, "duration_us": 5.0}
    files = {
        "peers": {"rows": peers},
        "prediction": {"rows": points, "summary": {}},
        "kernels": {
            "ceilings": {"read_bytes_per_s": 3e10, "sgemm_flops_per_s": 1.5e11},
            "rows": [
                {**product, "format": name, "m": m, "gflops_per_s": m * 20.0, "over_own_bf16": 1.0,
                 "over_torch_bf16": 2.0}
                for name in ("bf16", "int4:64") for m in (1, 16)
            ],
        },
        "quality": {"rows": [
            {**quality, "weight_format": "bf16", "kv_format": kv, "perplexity_over_reference": loss}
            for kv, loss in (("bf16", 1.0), ("int8:row", 1.01))
        ]},
        "attention": {
            "ceilings": {"read_bytes_per_s": 3e10, "sgemm_flops_per_s": 1.5e11},
            "rows": [
                {"format": name, "case": {"heads": 4, "kv_heads": 2, "head_dim": 8, "rows": 1,
                 "sequences": 2, "context": 64}, "gbytes_per_s": 9.0, "gflops_per_s": 20.0,
                 "over_bf16": speed, "time_s": 1e-3, "read_frac": 0.5}
                for name, speed in (("bf16", 1.0), ("int8", 1.6))
            ],
        },
        "published": {"rows": [
            {"table": "T", "model": "m", "system": "s", "published_tokens_per_s": 2.0,
             "predicted_tokens_per_s": 1.9, "error_frac": -0.05, "goal_frac": goal,
             "policy_from": kind}
            for goal, kind in ((0.2, "published"), (None, "published"), (None, "inferred"))
        ]},
        "streaming": {"rows": [
            {"batch": 4, "weight_bytes": 2e9, "row_gathered_bytes": 1e8, "decode_tokens_per_s": 8.0,
             "read_bytes_per_sweep": 1e9, "expected_read_bytes": 1e9, "resident_sweep_s": 0.1,
             "streamed_sweep_s": 0.5, "disk_bytes_per_s": 2e9, "memory_read_bytes_per_s": 2e10,
             "product_flops_per_s": 1e11, "ratio_to_bound": 1.0},
        ]},
        "threads": {"rows": [{
            "case": "int4-streamed-long", "batch": 4, "context": 64, "loss": 1.02,
            "loss_interval": [0.98, 1.1], "speedup_over_default": 1.3, "rounds": 5,
            "chosen": {"compute": 2, "readers": 1},
            "settings": [
                {"compute": compute, "readers": 1, "attention": 1, "sampling": 1, "sweep_s": 0.1}
                for compute in (1, 2)
            ],
        }]},
        "long-context": {"rows": [{
            "model": "m", "batch": 2, "context": 64, "kv_format": "bf16", "kv_bytes": 200,
            "kv_memory_bytes": 100, "kv_read_bytes": 1e9, "disk_bytes_per_s": 2e9,
            "resident_sweep_s": 0.4, "spilled_sweep_s": 0.6, "predicted_sweep_s": 0.55,
            "spilled_sweep_s_runs": [0.58, 0.6, 0.7], "bound_frac": 0.83, "same_tokens": True,
        }]},
        "speculation": {"rows": [{
            "model": "m", "prompts": "code", "budget_bytes": 1, "streamed_bytes": 1, "speedup": 1.5,
            "speedup_interval": [1.4, 1.6], "never_accepted_slowdown": 1.25, "draft_speedup": 1.1,
            "draft_never_right_slowdown": 1.0, "rounds": 5,
            "auto": {"tokens": 30, "sweeps": 15, "drafted": 20, "accepted": 15},
        }]},
        "prefix": {"rows": [
            {"model": "m", "weight_format": "own", "prompts": 64, "prefix_len": 1024,
             "tail_len": 16, "times_sooner": 20.0, "read_times_sooner": 8.0, "same_tokens": True,
             "last_first_token_s": both, "one_prompt_first_token_s": both, "kv_blocks": both},
        ]},
        "retention": {"rows": [
            {"model": "m", "batch": 1, "speedup": 1.2, "speedup_interval": [1.1, 1.3],
             "rounds": 8, "read_bytes": 100, "read_without_bytes": 130},
            {"model": "m", "batch": 16, "note": "this plan lends no KV memory"},
        ]},
        "planning": {"rows": [
            {"command": "plan", "model": "m", "machine": "t4", "batch": batch, "gpu_memory": "a",
             "cpu_memory": "b", "formats": "own", "search_s": 0.4, "command_s": 1.7,
             "command_s_runs": [1.6, 1.7, 1.9], "start_s": 0.5}
            for batch in (16, "any")
        ]},
        "trace": {"rows": [{**task, "resource": "disk_read"}, {**task, "resource": "cpu"}]},
    }  # fmt: skip
    return {name: {"benchmark": name, "testbed": BED, **data} for name, data in files.items()}


def test_what_is_generated_from_the_committed_results_is_up_to_date():
    files = dict(generated(load(COMMITTED)))
    stale = [path.name for path, text in files.items() if path.read_text() != text]
    assert stale == [], "run: python -m benchmarks.report"


@pytest.mark.parametrize("results", [{}, made_up(), load(COMMITTED)], ids=["none", "some", "ours"])
def test_the_page_is_light_complete_and_alone(results):
    text = page(results, FOLDER)
    assert len(text) < 1_000_000
    assert "<script" not in text
    assert "src=" not in text
    assert "url(" not in text
    for picture in PICTURES:
        assert picture.title in text
        if not picture.draw(results):
            assert picture.missing() in text


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_every_picture_is_drawn_from_made_up_results(picture):
    drawings = picture.draw(made_up())
    assert drawings
    for svg in drawings:
        ElementTree.fromstring(svg)
        ElementTree.fromstring(standalone(svg))
        assert "nan" not in svg
        assert not re.search(r"\binf\b", svg)


def test_a_failed_peer_is_shown_with_its_message_in_every_table():
    table = section("peers", made_up()["peers"])
    assert "| 1 | broken | failed: killed / by |" in table
    assert "50%" in table
    widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
    assert widths == {9}
    assert "<td>failed: killed / by</td>" in page(made_up(), FOLDER)


def test_rows_of_any_benchmark_make_a_table():
    rows = [
        {"model": "m", "shape": {"batch": b}, "wait_s": 0.25, "hit_frac": 0.5, "plans": [1, 2],
         "decode_tokens_per_s": 3.0, "decode_tokens_per_s_runs": [2.0, 4.0], "note": None}
        for b in (1, 2)
    ]  # fmt: skip
    table = rows_table("long-context", {"rows": rows})
    assert table.startswith("**long context**\n\nIn every row: model m, wait ms 250.00")
    assert "| shape batch |" in table
    assert "(2.00 to 4.00)" in table
    assert rows_table("empty", {"rows": []}).startswith("**empty**")


def first_cells(name, row):
    """Headings and the first row of a benchmark's table."""
    lines = section(name, {"benchmark": name, "testbed": BED, "rows": [row]}).splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return dict(zip(table[0], table[2], strict=False))


def test_the_decisive_figure_and_its_goal_stand_first():
    counts = {"tokens": 30, "sweeps": 10, "drafted": 24, "accepted": 20}
    row = {
        "model": "m", "prompts": "loop", "auto": counts, "budget_bytes": 2**20, "draft_rows": 1,
        "streamed_bytes": 2**21, "speedup": 2.0, "speedup_interval": [1.9, 2.1],
        "never_accepted_slowdown": 1.01,
    }  # fmt: skip
    found = first_cells("speculation", row)
    assert next(iter(found.items())) == ("speed-up (goal 1.8x)", "2.00x ± 5%")
    assert found["tokens a sweep"] == "3.00"
    assert "with a draft model" not in found


def test_the_chosen_setting_of_threads_is_marked():
    settings = [
        {"compute": 2, "attention": count, "sampling": 1, "readers": 2, "sweep_s": count / 100}
        for count in (1, 2, 3, 4, 5, 6)
    ]
    names = ("compute", "attention", "sampling", "readers")
    chosen, default = ({name: settings[i][name] for name in names} for i in (4, 1))
    row = {
        "case": "c", "batch": 1, "context": 64, "settings": settings, "chosen": chosen,
        "default": default, "loss": 5.0, "speedup_over_default": 0.4,
    }  # fmt: skip
    table = section("threads", {"benchmark": "threads", "testbed": BED, "rows": [row]})
    assert "| **chosen**: 5.000x the fastest (goal 1.03x) | 50.00 ms | 2 | 5 |" in table
    assert "| torch's default: chosen 0.40x as fast | 20.00 ms |" in table
    assert table.count(" ms |") == 5


def test_the_format_of_the_kv_cache_is_shown():
    row = {
        "weight_format": "bf16", "kv_format": "int8:row", "bytes_per_weight": 2.0, "mean_kl": 1e-5,
        "perplexity": 30.0, "perplexity_over_reference": 1.001, "top1_agreement": 0.99,
    }  # fmt: skip
    assert first_cells("quality", row)["KV cache"] == "int8:row"


def test_the_chosen_kv_format_is_marked():
    plan = {"in_flight": 4, "layers_on_disk": 2, "streamed_bytes": 0, "predicted_tokens_per_s": 9.0}
    row = {
        "model": "m", "batch": 8, "context": 64, "weights_frac": 0.2, "cache_frac": 0.5,
        "formats": [{"kv_format": name, "tokens_per_s": 10.0, **plan} for name in ("bf16", "int4")],
        "chosen": "int4", "fastest": "int4", "speedup_over_bf16": 1.5, "loss": 1.0,
    }  # fmt: skip
    table = section("kv-formats", {"benchmark": "kv-formats", "testbed": BED, "rows": [row]})
    assert "| bf16 | | 10.0 tok/s" in " ".join(table.split())
    assert "| int4 | **yes**: 1.50x bf16, 1.00x the time of the fastest | 10.0 tok/s" in table


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


def test_a_reconstruction_stands_beside_what_was_published():
    ratio = {"mean": 2.0, "max": 3.0}
    result = {
        "machine": "a100", "prompt_len": 64, "published": {"FlexGen": {"mean": 2.34, "max": 2.95}},
        "speedups": {"ours": {"FlexGen": ratio, "ZeRO": ratio}},
        "rows": [{"model": "m", "gen_len": 8, "systems": {"ours": {"tokens_per_s": 4.0}}}],
    }  # fmt: skip
    table = section("reconstruction", result)
    assert "| LM-Offload as published | 2.34 (2.95) |  |" in table
    assert "| ours, simulated | 2.00 (3.00) | 2.00 (3.00) |" in table
    assert "| m | 8 | 4.0 |" in table


def test_the_page_names_its_test_beds_and_links_to_its_sections():
    text = page(made_up(), FOLDER)
    assert "Test bed: C (avx2), 2 cores, 16 GiB, Linux 6.1, torch 2 (14 of 14 files)." in text
    for picture in PICTURES:
        assert f'href="#{picture.name}"' in text
        assert f'id="{picture.name}"' in text


def test_planning_shows_whole_commands_first():
    row = {"command": "plan", "model": "m", "machine": "t4", "batch": 16, "gpu_memory": "14GiB"}
    row |= {"cpu_memory": "all", "formats": "own"}
    row |= {"search_s": 0.4, "command_s": 1.7, "start_s": 0.5}
    text = section("planning", {"benchmark": "planning", "testbed": BED, "rows": [row]})
    assert "| 1.70 s | 0.40 s | 0.50 s | plan | m |" in text


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
