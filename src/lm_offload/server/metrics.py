"""What a server counts, in Prometheus' text form."""

from __future__ import annotations

import time
from functools import partial
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lm_offload.engine.outputs import SweepRecord

NAMESPACE = "lm_offload"
BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Timed(Protocol):
    """A request as far as its times go."""

    arrival_s: float
    last_token_s: float | None


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        count = partial(Counter, namespace=NAMESPACE, registry=self._registry)
        times = partial(Histogram, namespace=NAMESPACE, registry=self._registry, buckets=BUCKETS_S)
        self._requests = Gauge(
            "requests", "Prompts that run or wait.", namespace=NAMESPACE, registry=self._registry
        )
        self._sweeps = count("sweeps", "Passes over all layers.")
        self._sweep_s = count("sweep_seconds", "Time of all sweeps.")
        self._prefill = count("prefill_tokens", "Prompt tokens computed.")
        self._cached = count("cached_tokens", "Prompt tokens shared with others.")
        self._decode = count("decode_tokens", "Tokens that decodes gave.")
        self._drafted = count("drafted_tokens", "Tokens guessed and verified.")
        self._accepted = count("accepted_tokens", "Of them, those kept.")
        self._ttft_s = times("time_to_first_token_seconds", "From arrival on.")
        self._tpot_s = times("time_per_output_token_seconds", "Between tokens.")

    def on_requests(self, count: int) -> None:
        """So many run or wait now."""
        self._requests.set(count)

    def on_sweep(self, sweep: SweepRecord | None) -> None:
        """A sweep has run; none where the disk had lost all that was to be computed."""
        if sweep is None:
            return
        self._sweeps.inc()
        self._sweep_s.inc(sweep.time.total_s)
        self._prefill.inc(sweep.prefill_tokens)
        self._cached.inc(sweep.cached_tokens)
        self._decode.inc(sweep.decode_tokens)
        self._drafted.inc(sweep.drafted)
        self._accepted.inc(sweep.accepted)

    def on_tokens(self, request: Timed, count: int) -> None:
        """A request got `count` tokens just now."""
        now_s, last_s = time.perf_counter(), request.last_token_s
        if last_s is None:
            self._ttft_s.observe(now_s - request.arrival_s)
        else:
            self._tpot_s.observe((now_s - last_s) / max(count, 1))
        request.last_token_s = now_s

    def text(self) -> bytes:
        """All of it, as `/metrics` gives it."""
        return generate_latest(self._registry)
