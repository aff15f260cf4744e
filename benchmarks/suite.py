"""Which benchmarks `make bench` and `make bench-full` run, in which order and for how long."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

CHECKPOINTS = Path(".checkpoints")
QUICK_S = 600.0


@dataclass(frozen=True)
class Part:
    """One benchmark and its result file; `minutes` is passed on to those that take it.

    In a suite with a time limit `weight` is its share, about the seconds that it takes on the test
    bed; one that `stretches` measures for as long as it is told.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    minutes: float | None = None
    weight: float = 1.0
    stretches: bool = False

    def needs(self, model: Path) -> bool:
        """Whether a checkpoint is among its arguments."""
        return str(model) in self.arguments


@dataclass(frozen=True)
class Suite:
    """A checkpoint of a preset (see make_checkpoint.py) and what is run on it, within `limit_s`."""

    preset: str
    parts: tuple[Part, ...]
    limit_s: float = math.inf

    @property
    def model(self) -> Path:
        """Where the checkpoint is written."""
        return CHECKPOINTS / f"llama-{self.preset}"


def quick() -> Suite:
    """Ten minutes on two cores: a small model, engines that are installed.

    Short runs, so that many rounds fit; engines whose runs take long share one cell. What takes as
    long as it takes comes first, so that the rest shares what is left.
    """
    model = str(CHECKPOINTS / "llama-0.25b")
    few = (
        "--model",
        model,
        "--no-install",
        "--timeout-s",
        "60",
        "--gen-len",
        "5",
        "--rounds",
        "99",
    )
    slow = ("--model", model, "--no-install", "--timeout-s", "30", "--gen-len", "3")
    pair, others = "llama_cpp lm_offload", "openvino ctranslate2 transformers airllm accelerate"
    prediction = ("--model", model, "--points", "40")
    parts = (
        Part("fixed-costs", "bench_fixed_costs", weight=25),
        Part("trace", "bench_trace", ("--model", model, "--cpu-memory", "288MiB"), weight=10),
        Part("kernels", "bench_kernels", ("--budget", "0.05"), weight=25),
        Part("quality", "bench_quality", ("--tokens", "1024"), weight=25),
        _timed("others-0.25b", slow, 130, limits="288MiB", batches="16",
               engines=f"{others} lm_offload"),
        _timed("peers-0.25b", few, 120, limits="288MiB", batches="1 16", engines=pair),
        _timed("resident-0.25b", few, 42, limits="none", batches="16", engines=pair),
        _timed("batch-0.25b", few, 42, limits="288MiB", batches="64", engines=pair),
        _timed("long-0.25b", few, 36, "256", limits="288MiB", batches="1", engines=pair),
        _timed("quantized-0.25b", few, 54, limits="none", batches="16", formats="int8 int4",
               engines=pair),
        Part("prediction", "bench_prediction", prediction, weight=40, stretches=True),
    )  # fmt: skip
    return Suite("0.25b", parts, QUICK_S)


def _timed(
    name: str, common: Iterable[str], weight: float, prompts: str = "4", **axes: str
) -> Part:
    return replace(_peers(name, common, None, prompts, **axes), weight=weight, stretches=True)


def full() -> Suite:
    """The committed results: hours."""
    model = str(CHECKPOINTS / "llama-1.1b")
    of_model = ("--model", model)
    rounds = (*of_model, "--gen-len", "8", "--rounds", "6", "--timeout-s", "300")
    prefix = ("--weight-format", "int4", "--prompts", "8", "--prefix-len", "256", "--rounds", "1")
    parts = (
        Part("fixed-costs", "bench_fixed_costs"),
        Part("trace", "bench_trace", (*of_model, "--cpu-memory", "1280MiB")),
        Part("kernels", "bench_kernels", ("--budget", "2")),
        Part("attention", "bench_attention", ("--budget", "10")),
        Part("quality", "bench_quality"),
        Part("resident-1.1b", "bench_resident", of_model),
        Part("streaming-1.1b", "bench_streaming", of_model),
        Part("long-context", "bench_long_context", of_model),
        Part("kv-formats", "bench_kv_formats", of_model),
        Part("speculation-1.1b", "bench_speculation", (*of_model, "--prompts", "loop")),
        Part("speculation-demo", "bench_speculation", ("--prompts", "code", "--gen-len", "96")),
        Part("prefix-demo", "bench_prefix"),
        Part("prefix-1.1b", "bench_prefix", (*of_model, *prefix)),
        Part("server", "bench_server"),
        Part("replay", "bench_replay", of_model),
        Part("retention", "bench_retention", of_model),
        Part("swapping", "bench_swapping", of_model),
        Part("threads", "bench_threads", of_model),
        Part("plan-choice", "bench_plan_choice", of_model, 15.0),
        Part("prediction", "bench_prediction", of_model, 12.0),
        _peers("peers-1.1b", rounds, None, "32", limits="1280MiB", batches="1 16 64"),
        _peers("resident-peers-1.1b", rounds, None, "32", limits="none", batches="1 16 64"),
        _peers("budget-peers-1.1b", rounds, None, "32", limits="800MiB 1800MiB", batches="16"),
        _peers("long-peers-1.1b", rounds, None, "256", limits="1280MiB none", batches="1 16"),
        _peers(
            "quantized-peers-1.1b", rounds, None, "32", limits="400MiB none",
            batches="1 16 64", formats="int8 int4",
        ),
    )  # fmt: skip
    return Suite("1.1b", parts)


def _peers(
    name: str,
    common: Iterable[str],
    minutes: float | None,
    prompts: str = "16",
    *,
    limits: str,
    batches: str,
    formats: str = "own",
    engines: str = "",
) -> Part:
    axes = {
        "--limits": limits, "--batches": batches, "--prompt-lens": prompts, "--formats": formats,
        "--engines": engines,
    }  # fmt: skip
    words = [
        word for option, values in axes.items() if values for word in (option, *values.split())
    ]
    return Part(name, "bench_peers", (*common, *words), minutes)
