"""Two made-up result files held against each other."""

from __future__ import annotations

import json
import sys

import pytest
from benchmarks.changes import compare, lost
from benchmarks.report.__main__ import COMMITTED

from benchmarks import compare as module
from lm_offload.errors import ConfigError


def row(rate, runs=None, **other):
    runs = runs or [rate * 0.99, rate, rate * 1.01]
    return {
        "peer": "a", "batch": 1, **other,
        "decode_tokens_per_s": rate, "decode_tokens_per_s_runs": runs,
    }  # fmt: skip


def slower(base, new):
    return [(each.row, each.metric) for each in compare(base, new) if each.is_slower]


def test_a_rate_that_fell_by_more_than_the_noise_is_named():
    assert slower([row(10.0)], [row(8.0)]) == [("batch 1, peer a", "decode_tokens_per_s")]


@pytest.mark.parametrize("rate", [9.8, 10.0, 30.0])
def test_within_the_noise_or_faster_is_nothing(rate):
    assert slower([row(10.0)], [row(rate)]) == []


def test_the_spread_of_both_files_is_the_noise():
    shaky = row(8.0, [6.0, 8.0, 10.0])
    assert slower([row(10.0)], [shaky]) == []
    (change,) = compare([row(10.0)], [shaky])
    assert change.noise_frac == pytest.approx(0.01 + 2.0 / 8.0)


def test_a_figure_that_was_measured_once_has_the_assumed_noise():
    base, new = {"m": 1, "time_s": 1.0}, {"m": 1, "time_s": 1.25}
    assert slower([base], [new]) == []
    assert slower([base], [{**new, "time_s": 1.4}]) == [("m 1", "time_s")]


def test_a_share_of_the_ceiling_stands_for_its_rate():
    def with_share(rate, share):
        runs = [share, share]
        return row(rate, decode_ceiling_frac=share, decode_ceiling_frac_runs=runs)

    assert slower([with_share(10.0, 0.8)], [with_share(5.0, 0.8)]) == []  # a slower machine
    assert slower([with_share(10.0, 0.8)], [with_share(10.0, 0.6)]) == [
        ("batch 1, peer a", "decode_ceiling_frac")
    ]


def test_the_interval_of_a_ratio_is_its_noise_and_rates_beside_it_do_not_count():
    def product(share, low, high, rate=10.0):
        return {"format": "int4:64", "m": 1, "gflops_per_s": rate, "read_frac": share,
                "read_frac_interval": [low, high]}  # fmt: skip

    base, slow_day = product(0.8, 0.79, 0.81), product(0.8, 0.78, 0.82, rate=4.0)
    (change,) = compare([base], [slow_day])
    assert (change.metric, change.ratio) == ("read_frac", 1.0)
    assert change.noise_frac == pytest.approx(max(0.05, 0.01 / 0.8 + 0.02 / 0.8))
    found = [("format int4:64, m 1", "read_frac")]
    assert slower([base], [product(0.7, 0.69, 0.71)]) == found
    assert slower([base], [product(0.7, 0.6, 0.8)]) == []


def test_rows_of_other_settings_are_not_compared():
    assert compare([row(10.0)], [row(1.0, limit_bytes=5)]) == []


def test_ceilings_and_predictions_are_no_figures_of_speed():
    base = {"key": "x", "disk_bytes_per_s": 2.0, "predicted.decode_tokens_per_s": 2.0}
    assert compare([base], [{key: base[key] if key == "key" else 1.0 for key in base}]) == []


def test_what_worked_and_fails_now_is_lost():
    failed = {"peer": "a", "batch": 1, "error": "killed"}
    assert lost([row(10.0)], [failed]) == ["batch 1, peer a"]
    assert lost([failed], [failed]) == []


@pytest.mark.parametrize(("rate", "status"), [(10.0, 0), (5.0, 1)])
def test_the_exit_status_of_two_folders(tmp_path, monkeypatch, capsys, rate, status):
    for name, value in (("base", 10.0), ("new", rate)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "peers.json").write_text(
            json.dumps({"testbed": {}, "rows": [row(value)]})
        )
    (tmp_path / "new" / "other.json").write_text("[]")
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "base"), str(tmp_path / "new")])
    assert module.main() == status
    assert f"1 figures compared, {status} slower than noise" in capsys.readouterr().out


def test_rows_that_say_the_same_of_themselves_are_matched_by_their_order():
    base = [row(10.0), row(1.0)]
    assert [change.ratio for change in compare(base, base)] == [1.0, 1.0]


def test_the_committed_results_are_no_slower_than_themselves(monkeypatch, capsys):
    folder = str(COMMITTED)
    monkeypatch.setattr(sys, "argv", ["compare", folder, folder])
    assert module.main() == 0
    assert ", 0 slower" in capsys.readouterr().out


def test_nothing_in_common_is_said(tmp_path, monkeypatch, capsys):
    file = tmp_path / "empty.json"
    file.write_text('{"rows": []}')
    monkeypatch.setattr(sys, "argv", ["compare", str(file), str(file)])
    assert module.main() == 1
    assert "nothing in common" in capsys.readouterr().out


def test_agreement_of_ratios_stands_apart_from_that_of_rates(tmp_path, monkeypatch, capsys):
    for name, ratio, rate in (("base", 2.0, 10.0), ("new", 1.9, 5.0)):
        rows = [
            row(9.0, ours_over_this_decode=ratio, ours_over_this_decode_interval=[1.8, 2.1]),
            {"key": "k", "time_s": rate},
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps({"testbed": {}, "rows": rows}))
    files = [str(tmp_path / f"{name}.json") for name in ("base", "new")]
    monkeypatch.setattr(sys, "argv", ["compare", *files])
    assert module.main() == 0
    told = capsys.readouterr().out
    assert "agreement of ratios taken in turns: 0 of 1 within 5%" in told
    assert "  5% apart: new.json: batch 1, peer a: ours_over_this_decode is 0.95x" in told
    assert "agreement of single rates and times: 0 of 1 within 5%" in told
    assert "largest 100.0%" in told


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare", str(COMMITTED), str(tmp_path / "quick")])
    with pytest.raises(ConfigError, match="quick does not exist; give a result file or a folder"):
        module.main()


def test_one_file_is_compared_with_that_of_its_name_in_a_folder(monkeypatch, capsys):
    files = [str(COMMITTED), str(COMMITTED / "replay.json")]
    monkeypatch.setattr(sys, "argv", ["compare", *files])
    assert module.main() == 0
    assert "4 figures compared, 0 slower" in capsys.readouterr().out


def test_two_rounds_that_agree_by_chance_are_no_noise_floor():
    row = {"peer": "p", "speedup": 2.0, "speedup_interval": [2.0, 2.0]}
    slower = {**row, "speedup": 1.7, "speedup_interval": [1.7, 1.7]}
    for rounds, is_slower in ((2, False), (8, True)):
        (found,) = compare([{**row, "rounds": rounds}], [{**slower, "rounds": rounds}])
        assert found.is_slower == is_slower
