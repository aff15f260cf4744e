"""Progress: rates and times left, and when lines are printed."""

from __future__ import annotations

import io
import logging

from rich.console import Console

from lm_offload.cli.main import CurrentStderr
from lm_offload.cli.progress import Meter, RunProgress
from lm_offload.engine.outputs import SweepRecord
from lm_offload.step_time import StepTime


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def sweep(prefill: int, decode: int, total_s: float = 1.0) -> SweepRecord:
    return SweepRecord(prefill, decode, StepTime(total_s, total_s, 0.0, 0.0, 0))


def console(terminal: bool, quiet: bool = False) -> Console:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, quiet=quiet, width=120)


def text_of(made: Console) -> str:
    assert isinstance(made.file, io.StringIO)
    return made.file.getvalue()


def test_a_meter_gives_rate_and_time_left() -> None:
    meter = Meter("prefill", "tokens", 1000, start_s=10.0, done=250)
    assert meter.describe(15.0) == "prefill 250 of 1000 tokens, 50.0 tok/s, 0:15 left"
    load = Meter("loading", "bytes", 4 << 30, start_s=0.0, done=1 << 30)
    assert load.describe(1.0) == "loading 1.00 GiB of 4.00 GiB, 1.07 GB/s, 0:03 left"


def run_of_ten_seconds(made: Console) -> None:
    clock = Clock()
    with RunProgress(made, clock) as progress:
        progress.on_load(1 << 20, 2 << 20)
        progress.expect(400, 100)
        for second in range(1, 5):
            clock.now_s = float(second)
            progress.on_sweep(sweep(100, 0))
        for second in range(5, 11):
            clock.now_s = float(second)
            progress.on_sweep(sweep(0, 10))


def test_lines_start_after_two_seconds_and_come_every_five() -> None:
    made = console(terminal=False)
    run_of_ten_seconds(made)
    assert text_of(made).splitlines() == [
        "prefill 200 of 400 tokens, 100.0 tok/s, 0:02 left",
        "decode 30 of 100 tokens, 10.0 tok/s, 0:07 left",
    ]


def test_a_measurement_of_the_machine_has_a_bar_until_weights_are_loaded() -> None:
    made, clock = console(terminal=False), Clock()
    with RunProgress(made, clock) as progress:
        clock.now_s = 2.5
        progress.on_measure("disk reads", 1.0, 3.4)
        clock.now_s = 8.0
        progress.on_load(1, 2)
    assert text_of(made).splitlines()[0] == "measuring disk reads, 0:02 left"
    assert text_of(made).splitlines()[1].startswith("loading 1 B of 2 B")
    made = console(terminal=True)
    with RunProgress(made, clock) as progress:
        progress.on_measure("products", 1.0, 3.4)
    assert "measuring products" in text_of(made)


def test_a_warning_stands_above_a_bar() -> None:
    handler, made = CurrentStderr(), console(terminal=True)
    with RunProgress(made, Clock()) as progress:
        progress.on_measure("products", 1.0, 3.4)
        handler.emit(logging.makeLogRecord({"msg": "disturbed", "levelno": logging.WARNING}))
    assert "disturbed\n" in text_of(made)


def test_a_short_run_prints_nothing() -> None:
    made = console(terminal=False)
    with RunProgress(made, Clock()) as progress:
        progress.on_load(1, 2)
        progress.expect(10, 10)
        progress.on_sweep(sweep(5, 0))
    assert text_of(made) == ""


def test_quiet_silences_lines_and_bars() -> None:
    for terminal in (True, False):
        made = console(terminal, quiet=True)
        run_of_ten_seconds(made)
        assert text_of(made) == ""


def test_a_terminal_shows_bars() -> None:
    made = console(terminal=True)
    run_of_ten_seconds(made)
    assert "prefill" in text_of(made)
    assert "decode 60 of 100 tokens" in text_of(made)


def test_nothing_is_shown_while_text_appears() -> None:
    made, clock = console(terminal=False), Clock()
    with RunProgress(made, clock) as progress:
        progress.expect(10, 10)
        progress.mute()
        clock.now_s = 3.0
        progress.on_sweep(sweep(5, 0))
        assert text_of(made) == ""
        progress.expect(10, 10)
        clock.now_s = 4.0
        progress.on_sweep(sweep(5, 0))
    assert text_of(made).startswith("prefill 5 of 10")


def test_an_early_end_shortens_what_is_left() -> None:
    made, clock = console(terminal=False), Clock()
    with RunProgress(made, clock) as progress:
        progress.expect(2, 100)
        progress.on_early_end(60)
        clock.now_s = 5.0
        progress.on_sweep(sweep(2, 0))
        progress.on_sweep(sweep(0, 10))
    assert "decode 10 of 40 tokens" in text_of(made)


def test_a_bar_that_was_taken_off_does_not_come_back_with_the_first_sweep() -> None:
    made = console(terminal=True)
    progress = RunProgress(made, Clock())
    progress.on_load(10, 10)
    progress.stop()
    before = len(text_of(made))
    progress.expect(prompt_tokens=4, output_tokens=8)
    progress.on_sweep(sweep(prefill=4, decode=0))
    progress.stop()
    assert "loading" in text_of(made)[:before]
    assert "loading" not in text_of(made)[before:]
