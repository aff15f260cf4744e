"""How far a run is: counts, rates and the time left of loading, prefill and decode."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from lm_offload.cli.display import make_display
from lm_offload.units import format_bytes, format_rate

if TYPE_CHECKING:
    from lm_offload.engine.outputs import SweepRecord


@dataclass
class Meter:
    """One count on its way to a total; the rate is that since `start_s`."""

    label: str
    unit: Literal["bytes", "tokens"]
    total: int
    start_s: float
    done: int = 0
    preempted: int = 0  # sequences

    def describe(self, now_s: float) -> str:
        """`prefill 512 of 2048 tokens, 130.4 tok/s, 0:12 left`."""
        rate = self.done / max(now_s - self.start_s, 1e-9)
        if self.unit == "bytes":
            amount = f"{format_bytes(self.done)} of {format_bytes(self.total)}, {format_rate(rate)}"
        else:
            amount = f"{self.done} of {self.total} tokens, {rate:.1f} tok/s"
        left_s = round((self.total - self.done) / rate) if rate else 0
        preempted = f", {self.preempted} preempted" if self.preempted else ""
        return f"{self.label} {amount}{preempted}, {left_s // 60}:{left_s % 60:02} left"


class RunProgress:
    """Meters of one run, shown while they move; for `LLM(on_load=...)` and `on_sweep`."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._display = make_display(console, clock())
        self._quantize: Meter | None = None
        self._load: Meter | None = None
        self._prefill: Meter | None = None
        self._decode: Meter | None = None
        self._muted = False

    def on_quantize(self, done_bytes: int, total_bytes: int) -> None:
        """Weights read and quantized so far."""
        self._quantize = self._quantize or Meter("quantizing", "bytes", total_bytes, self._clock())
        self._quantize.done = done_bytes
        self._show(self._quantize)

    def on_load(self, done_bytes: int, total_bytes: int) -> None:
        """Weights read so far."""
        self._load = self._load or Meter("loading", "bytes", total_bytes, self._clock())
        self._load.done = done_bytes
        self._show(self._load)

    def on_measure(self, stage: str, done_s: float, total_s: float) -> None:
        """What of this machine is measured next; see `hardware.visits.Report`."""
        left_s = round(total_s - done_s)
        words = f"measuring {stage}, {left_s // 60}:{left_s % 60:02} left"
        states = {"measuring": (round(done_s * 1e3), round(total_s * 1e3), words)}
        self._display.show(states, self._clock())

    def expect(self, prompt_tokens: int, output_tokens: int) -> None:
        """What the sweeps that follow have to do; the first token of a prompt is prefill."""
        now_s, self._muted = self._clock(), False
        self._prefill = Meter("prefill", "tokens", prompt_tokens, now_s)
        self._decode = Meter("decode", "tokens", output_tokens, now_s)

    def on_sweep(self, sweep: SweepRecord) -> None:
        """Add the rows of one sweep."""
        assert self._prefill is not None
        assert self._decode is not None
        if not self._decode.done:
            self._decode.start_s = self._clock() - sweep.time.total_s
        self._prefill.total -= sweep.cached_tokens
        self._prefill.done += sweep.prefill_tokens
        self._decode.done += sweep.decode_tokens
        self._decode.preempted = sweep.preemptions
        self._show(*(m for m in (self._prefill, self._decode) if 0 < m.done < m.total))

    def on_early_end(self, missing_tokens: int) -> None:
        """A prompt ended with fewer tokens than it could have."""
        if self._decode:
            self._decode.total -= missing_tokens

    def mute(self) -> None:
        """Show no more sweeps until the next `expect`: text has begun to appear."""
        self._muted = True
        self._display.stop()

    def stop(self) -> None:
        """Take everything off the terminal."""
        self._display.stop()

    def _show(self, *meters: Meter) -> None:
        if self._muted:
            return
        now_s = self._clock()
        self._display.show({m.label: (m.done, m.total, m.describe(now_s)) for m in meters}, now_s)

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
