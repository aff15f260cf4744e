"""Runs of engines: resumed, summed up, and reported when they fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.peer_rows import RunFile, rows_of
from benchmarks.peers.case import Case
from benchmarks.peers.environments import PEERS
from benchmarks.round_ratio import middle

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


def turn(index, ours, theirs, beside="llama_cpp"):
    return [
        run("lm_offload", ours, index, beside=beside),
        run(beside, theirs, index, beside=beside),
    ]


def test_our_ratio_is_the_middle_of_rounds_taken_in_turns():
    rates = ((20.0, 10.0), (30.0, 12.0), (25.0, 50.0))
    runs = [each for index, pair in enumerate(rates) for each in turn(index, *pair)]
    runs += turn(3, 99.0, 11.0, beside="transformers")
    ours, theirs, _ = rows_of(runs)
    assert ours["decode_tokens_per_s_runs"] == [20.0, 30.0, 25.0, 99.0]
    assert theirs["decode_tokens_per_s"] == 12.0
    assert theirs["ours_over_this_decode"] == middle([2.0, 2.5, 0.5])
    assert theirs["ours_over_this_decode_interval"] == pytest.approx((0.5, 2.5))
    assert theirs["decode_ceiling_frac"] == middle([0.1, 0.12, 0.5])
    assert "ours_over_this_decode" not in ours
    assert "beside" not in ours


def test_a_peer_that_fails_is_a_row():
    ours, theirs = rows_of([run("lm_offload", 20.0), failure("llama_cpp")])
    assert theirs["error"] == "oom-killed"
    assert "ours_over_this_decode" not in theirs
    assert ours["failed_runs"] == 0


def test_an_interrupted_file_goes_on(tmp_path):
    path = tmp_path / "peers.json"
    RunFile(path, lambda: BED).add(*turn(0, 20.0, 10.0))
    again = RunFile(path, lambda: pytest.fail("the test bed is in the file"))
    assert again.rounds(CASE, THEIRS) == [2.0]
    assert again.next_round(CASE) == 1
    assert again.rounds(replace(CASE, batch=1), THEIRS) == []
    assert json.loads(path.read_text())["rows"][0]["decode_tokens_per_s"] == 20.0
    assert not list(tmp_path.glob("*.tmp"))


def test_an_engine_alone_has_rounds_without_a_ratio():
    file = RunFile(None, lambda: BED)
    file.add(run("lm_offload", 20.0))
    assert file.rounds(CASE, OURS) == [1.0]


def test_a_peer_that_failed_in_a_cell_is_known_there():
    file = RunFile(None, lambda: BED)
    file.add(failure("llama_cpp"))
    assert file.failed(CASE, THEIRS)
    assert not file.failed(CASE, OURS)
    assert not file.failed(replace(CASE, batch=1), THEIRS)
