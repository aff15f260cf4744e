"""How predictions are held against runs: paces, slices, and which plan is the best."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from benchmarks.bench_plan_choice import DUELS, losses
from benchmarks.bench_prediction import load_rows, read_bytes, save
from benchmarks.machine_pace import Pace, at_pace
from benchmarks.pace_meter import Slice, is_steady, typical_slice
from benchmarks.paced_runs import PacedPhase, PacedRun
from benchmarks.prediction_row import compared, slices_of
from benchmarks.prediction_summary import summary
from benchmarks.slicing_executor import SIDE, SlicingExecutor

from lm_offload.hardware.curve import Curve
from lm_offload.step_time import StepTime
from lm_offload.storage.gather_size import PIECE_BYTES
from tests.planner.machines import with_cpu


def row(key: str, error: float, others_frac: float = 0.0) -> dict:
    return {
        "key": key, "model": "m", "weight_format": "own", "others_frac": others_frac,
        "measured": {}, "errors": {"prefill": error, "decode": -error}, "paces": {},
    }  # fmt: skip


def test_few_rows_follow_the_memory_and_many_rows_the_cores() -> None:
    curve = Curve((1, 2, 64, 128), (10.0, 55.0, 100.0, 90.0))
    profile = with_cpu(
        product_flops={"bf16": curve},
        cached_product_flops={"bf16": curve},
        product_input_s={"bf16": 1.0},
        kernel_s=1.0,
        task_s=1.0,
        sampled_values_per_s=1.0,
    )
    found = at_pace(profile, Pace(memory=0.25, cores=4.0, cached=2.0, disk=0.5))
    rates = found.cpu.product_flops["bf16"].rates
    assert rates == pytest.approx((2.5, 55.0, 400.0, 90.0 * 4.0 ** (7 / 9)))
    assert found.cpu.cached_product_flops["bf16"].rates == (20.0, 110.0, 200.0, 180.0)
    assert found.cpu.product_input_s["bf16"] == 0.5
    assert found.cpu.kernel_s == 0.5
    assert found.cpu.task_s == 1.0  # the engine's own
    assert found.disk_read.bytes_per_s.at(1) == 0.5 * profile.disk_read.bytes_per_s.at(1)


def test_the_disk_is_asked_in_the_pieces_that_a_plan_reads() -> None:
    units = [SimpleNamespace(name=name) for name in ("layers.0.mlp", "layers.1.mlp", "head.0")]
    layouts = [SimpleNamespace(size_bytes=size) for size in (100, 200, 300)]
    llm = SimpleNamespace(files=SimpleNamespace(units=units, layouts=layouts))
    for streamed, wanted in ((("layers.0.mlp", "layers.1.mlp"), 200), ((), PIECE_BYTES)):
        plan = SimpleNamespace(streamed=streamed, unit_names=streamed)
        assert read_bytes(llm, plan) == wanted


def test_slices_are_taken_within_sweeps_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[bool] = []

    def take_slice(with_disk: bool) -> Slice:
        taken.append(with_disk)
        return Slice(1.0, 1.0, 1.0, 1.0 if with_disk else None)

    def run_sweep(micro_batches, compute, groups):
        for task in range(3):
            compute(task)

    monkeypatch.setattr("benchmarks.slicing_executor.INTERVAL_S", -1.0)
    executor = SlicingExecutor(SimpleNamespace(run_sweep=run_sweep), take_slice)
    computed: list[int] = []
    executor.run_sweep([1], computed.append)
    assert executor.take() == ([], 0.0)
    executor.enabled = True
    executor.run_sweep([1], computed.append)
    slices, seconds = executor.take()
    assert len(slices) == 3
    assert seconds > 0
    assert taken == [False] * 3
    assert computed == [0, 1, 2] * 2
    assert executor.take() == ([], 0.0)
    assert executor.take_between() == [Slice(1.0, 1.0, 1.0, 1.0)] * SIDE
    executor.enabled = False
    assert executor.take_between() == []


def test_a_slice_that_met_a_stall_does_not_count() -> None:
    usual, stalled = Slice(1.0, 2.0, 3.0, 4.0), Slice(30.0, 60.0, 90.0, 120.0)
    without_disk = usual._replace(disk_byte_s=None)
    assert typical_slice([usual, stalled, without_disk, usual]) == list(usual)
    assert is_steady([usual, stalled, usual], [usual, usual, stalled])
    for name in Slice._fields:
        slower = usual._replace(**{name: 1.6 * getattr(usual, name)})
        assert not is_steady([usual] * 3, [slower] * 3)


def run_at(tokens_per_s: float, pace: float, steady: bool) -> PacedRun:
    sweep = StepTime(total_s=1 / tokens_per_s, cpu_s=0.0, wait_s=0.0, disk_read_s=0.0, read_bytes=0)
    phase = PacedPhase(1, [sweep], [Slice(pace, pace, pace, pace)])
    return PacedRun({"prefill": phase, "decode": phase}, steady)


def test_runs_while_the_machine_changed_its_pace_count_only_alone() -> None:
    runs = [run_at(10.0, 1.0, True), run_at(12.0, 1.1, True), run_at(50.0, 5.0, False)]
    predicted = SimpleNamespace(prefill_tokens_per_s=22.0, decode_tokens_per_s=11.0)
    found = compared({"prefill": predicted, "decode": predicted}, runs)
    assert found["measured"] == pytest.approx(
        {"prefill_tokens_per_s": 11.0, "decode_tokens_per_s": 11.0}
    )
    assert found["errors"] == pytest.approx({"prefill": 1.0, "decode": 0.0})
    assert [one.few_rows_s for one in slices_of(runs, "decode")] == [1.0, 1.1]
    assert [one.few_rows_s for one in slices_of(runs[2:], "decode")] == [5.0]


def test_errors_are_summed_up_and_points_of_another_protocol_are_measured_anew(tmp_path) -> None:
    rows = [row("a", 0.1), row("b", -0.3, others_frac=0.5), {"key": "c", "skipped": "no plan"}]
    found = summary(rows)
    expected = {"points": 2, "median": 0.2, "p90": 0.3, "bias": -0.1}
    assert found["all, prefill"] == pytest.approx(expected)
    assert found["quiet, decode"]["bias"] == -0.1
    file = tmp_path / "results.json"
    assert load_rows(file) == {}
    save(file, rows)
    assert load_rows(file).keys() == {"a", "b", "c"}
    text = json.loads(file.read_text())
    del text["rows"][0]["paces"]
    file.write_text(json.dumps(text))
    assert load_rows(file).keys() == {"b", "c"}


def runs_of(seconds: dict[str, float]):
    asked: list[str] = []

    def run(plan: str) -> tuple[float, float]:
        asked.append(plan)
        return 0.0, seconds[plan]

    return run, asked


def test_a_chosen_plan_that_is_the_best_loses_nothing() -> None:
    run, asked = runs_of({"chosen": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    assert losses(run, ["chosen", "b", "c", "d"], [1.0, 2.0, 3.0, 4.0]) == [1.0]
    assert asked == ["chosen", "b", "c"]


def test_the_best_other_plan_takes_turns_with_the_chosen_one() -> None:
    run, asked = runs_of({"chosen": 1.2, "b": 2.0, "c": 1.0})
    assert losses(run, ["chosen", "b", "c"], [1.2, 2.0, 1.0]) == pytest.approx([1.2] * DUELS)
    assert asked[3:] == ["c", "chosen", "chosen", "c", "c", "chosen"]
