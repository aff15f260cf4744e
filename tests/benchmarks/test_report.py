"""Tables and the HTML page from result files, committed and made up."""

from __future__ import annotations

import pytest
from benchmarks.report.__main__ import COMMITTED
from benchmarks.report.generic_table import rows_table
from benchmarks.report.goal_tables import ratio
from benchmarks.report.html_page import page
from benchmarks.report.markdown_pages import generated
from benchmarks.report.peer_tables import cell_table
from benchmarks.report.pictures import PICTURES
from benchmarks.report.result_files import load
from benchmarks.report.sections import FOLDER, section
from benchmarks.report.short_table import short_table

from tests.benchmarks.made_up_results import BED, made_up, peer_row


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


def test_a_failed_peer_is_shown_with_its_message_in_every_table():
    table = section("peers", made_up()["peers"])
    assert "| 1 | broken | failed: killed / by |" in table
    assert "50%" in table
    widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
    assert widths == {9}
    assert "<td>failed: killed / by</td>" in page(made_up(), FOLDER)


def test_the_readme_has_a_line_for_each_engine():
    rows = [
        {**peer_row(peer, batch, 2**30, 12.345), "ours_over_this_decode": 2.0}
        for peer in ("llama_cpp", "lm_offload")
        for batch in (1, 16)
    ]
    rows.append({**peer_row("airllm", 64, 2**30, 0.0), "error": "killed"})
    results = {name: {"rows": rows, "testbed": BED} for name in ("peers-1.1b", "peers-moe-2.4b")}
    results["peers-moe-2.4b"]["rows"] = []
    lines = short_table(results).splitlines()
    links = "[{0}](benchmarks/results/{0}.json)"
    both = f"{links.format('peers-1.1b')}, {links.format('peers-moe-2.4b')}"
    assert lines[-1].startswith(f"Test bed of {both}: ")
    assert lines[2:5] == [
        "| m, 1024 MiB for the model | LM-Offload | 12.3, 12.3 tok/s | 12.3, 12.3 tok/s |  |",
        "|  | llama.cpp | 2.00x | 2.00x |  |",
        "|  | AirLLM |  |  | failed |",
    ]
    assert short_table({}) == ""


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
    assert "| **chosen**: 5.000x the fastest's time (goal 1.03x) | 50.00 ms | 2 | 5 |" in table
    assert "| torch's default: the chosen one is 0.40x as fast | 20.00 ms |" in table
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


def test_a_variant_of_ours_is_held_against_ours_below_the_table():
    rows = [
        {**peer_row("lm_offload_int4", 1, None, 5.0), "weight_format": "int4", "version": "0.1.0"},
        {**peer_row("llama_cpp_int4", 1, None, 5.0), "weight_format": "int4", "version": "0.3.36"},
        {
            **peer_row("lm_offload_int4_a8", 1, None, 5.0),
            "weight_format": "int4",
            "version": "0.1.0",
        },
    ]
    for row, ours in zip(rows[1:], (2.0, 0.8), strict=True):
        row |= {f"ours_over_this_{phase}": ours for phase in ("decode", "prefill")}
        row |= {"ours_over_this_decode_interval": [ours * 0.9, ours * 1.1]}
    table = cell_table(rows)
    assert "| llama.cpp (llama-cpp-python 0.3.36) |" in table
    assert "| 2.00x ± 10% | 2.00x |" in table
    assert "| LM-Offload, 8-bit activations 0.1.0 |" in table
    assert "0.80x" not in table
    told = "over LM-Offload without: 1.25x ± 10% in decode and 1.25x in prefill at batch 1."
    assert table.endswith(told)


def test_a_ratio_of_two_rounds_has_no_interval():
    row = {"x": 2.0, "x_interval": [1.99, 2.01]}
    assert ratio({**row, "rounds": 2}, "x") == "2.00x (2 rounds)"
    assert ratio({**row, "rounds": 5}, "x") == "2.00x ± 0%"
