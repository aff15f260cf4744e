"""Runs of engines: resumed, summed up, and reported when they fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.peer_rows import RunFile, rows_of
from benchmarks.peers.case import Case
from benchmarks.peers.environments import PEERS

CASE = Case(Path("folder/tiny"), batch=4, prompt_len=8, gen_len=6)
OURS, THEIRS = PEERS["lm_offload"], PEERS["llama_cpp"]
BED = {"cpu": "made up"}


def run(peer, rate, round_index=0, **other):
    return {
        "peer": peer, "model": "tiny", "batch": 4, "prompt_len": 8, "gen_len": 6, "threads": 2,
        "limit_bytes": None, "weight_format": None, "round": round_index, "error": None,
        "decode_tokens_per_s": rate, "prefill_tokens_per_s": 2 * rate,
        "decode_ceiling_frac": rate / 100, "prefill_ceiling_frac": rate / 200, **other,
    }  # fmt: skip


def failure(peer, round_index=0):
    kept = ("decode_tokens_per_s", "prefill_tokens_per_s", "decode_ceiling_frac")
    row = {key: value for key, value in run(peer, 1.0, round_index).items() if key not in kept}
    return {**row, "error": "oom-killed"}


def test_medians_spread_and_our_ratio():
    runs = [run("lm_offload", rate, i) for i, rate in enumerate((20.0, 30.0, 25.0))]
    runs += [run("llama_cpp", rate, i) for i, rate in enumerate((10.0, 12.5, 50.0))]
    ours, theirs = rows_of(runs)
    assert ours["decode_tokens_per_s"] == 25.0
    assert ours["decode_tokens_per_s_runs"] == [20.0, 30.0, 25.0]
    assert theirs["ours_over_this_decode"] == 2.0
    assert theirs["decode_ceiling_frac"] == 0.125


def test_a_peer_that_fails_is_a_row():
    ours, theirs = rows_of([run("lm_offload", 20.0), failure("llama_cpp")])
    assert theirs["error"] == "oom-killed"
    assert "ours_over_this_decode" not in theirs
    assert ours["failed_runs"] == 0


def test_an_interrupted_file_goes_on(tmp_path):
    path = tmp_path / "peers.json"
    first = RunFile(path, lambda: BED)
    first.add(run("lm_offload", 20.0))
    again = RunFile(path, lambda: pytest.fail("the test bed is in the file"))
    assert again.missing(0, CASE, [OURS, THEIRS]) == [THEIRS]
    assert again.missing(1, CASE, [OURS, THEIRS]) == [OURS, THEIRS]
    assert json.loads(path.read_text())["rows"][0]["decode_tokens_per_s"] == 20.0
    assert not list(tmp_path.glob("*.tmp"))


def test_a_peer_that_failed_in_a_cell_is_not_tried_again_there():
    file = RunFile(None, lambda: BED)
    file.add(failure("llama_cpp"))
    assert file.missing(1, CASE, [OURS, THEIRS]) == [OURS]
    other = Case(CASE.model, batch=1, prompt_len=8, gen_len=6)
    assert file.missing(1, other, [OURS, THEIRS]) == [OURS, THEIRS]
