"""Which benchmarks `make bench` and `make bench-full` run, in which order and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS = Path(".checkpoints")


@dataclass(frozen=True)
class Part:
    """One benchmark and its result file; `minutes` is passed on to those that take it."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    minutes: float | None = None


@dataclass(frozen=True)
class Suite:
    """A checkpoint of a preset (see make_checkpoint.py) and what is run on it."""

    preset: str
    parts: tuple[Part, ...]

    @property
    def model(self) -> Path:
        """Where the checkpoint is written."""
        return CHECKPOINTS / f"llama-{self.preset}"


def quick() -> Suite:
    """Ten minutes on two cores: a small model, engines that are installed.

    Rounds are for the engines whose runs take seconds; the others have one cell and one round.
    """
    model = str(CHECKPOINTS / "llama-0.25b")
    installed = ("--model", model, "--no-install")
    few = (*installed, "--timeout-s", "60", "--gen-len", "8", "--rounds", "3")
    once = (*installed, "--timeout-s", "60", "--gen-len", "8", "--rounds", "1")
    slow = (*installed, "--timeout-s", "30", "--gen-len", "3", "--rounds", "1")
    quickest, fast = "llama_cpp lm_offload", "llama_cpp transformers lm_offload"
    others = "openvino ctranslate2 accelerate airllm lm_offload"
    parts = (
        Part("fixed-costs", "bench_fixed_costs"),
        Part("trace", "bench_trace", ("--model", model, "--cpu-memory", "288MiB")),
        _peers("peers-0.25b", few, 2.0, limits="288MiB", batches="1 16", engines=fast),
        _peers("resident-0.25b", few, 0.7, limits="none", batches="16", engines=fast),
        _peers("batch-0.25b", once, 1.0, "4", limits="288MiB", batches="64", engines=quickest),
        _peers("long-0.25b", once, 0.5, "256", limits="288MiB", batches="1", engines=quickest),
        _peers("others-0.25b", slow, 1.5, limits="288MiB", batches="16", engines=others),
        _peers(
            "quantized-0.25b", once, 0.5, limits="none", batches="16", formats="int8 int4",
            engines=quickest,
        ),
        Part("kernels", "bench_kernels", ("--budget", "0.05")),
        Part("quality", "bench_quality", ("--tokens", "1024")),
        Part("prediction", "bench_prediction", ("--model", model, "--points", "40"), 0.7),
    )  # fmt: skip
    return Suite("0.25b", parts)


def full() -> Suite:
    """The committed results: hours."""
    model = str(CHECKPOINTS / "llama-1.1b")
    all_rounds = ("--model", model, "--gen-len", "8", "--rounds", "3", "--timeout-s", "300")
    parts = (
        Part("fixed-costs", "bench_fixed_costs"),
        Part("trace", "bench_trace", ("--model", model, "--cpu-memory", "1280MiB")),
        Part("resident-1.1b", "bench_resident", ("--model", model)),
        Part("streaming-1.1b", "bench_streaming", ("--model", model)),
        _peers("peers-1.1b", all_rounds, None, "32", limits="1280MiB", batches="1 16 64"),
        _peers("resident-peers-1.1b", all_rounds, None, "32", limits="none", batches="1 16 64"),
        _peers("budget-peers-1.1b", all_rounds, None, "32", limits="800MiB 1800MiB", batches="16"),
        _peers("long-peers-1.1b", all_rounds, None, "256", limits="1280MiB none", batches="1 16"),
        _peers(
            "quantized-peers-1.1b", all_rounds, None, "32", limits="400MiB none",
            batches="1 16 64", formats="int8 int4",
        ),
        Part("kernels", "bench_kernels"),
        Part("attention", "bench_attention"),
        Part("quality", "bench_quality"),
        Part("prediction", "bench_prediction", ("--model", model), 60.0),
        Part("plan-choice", "bench_plan_choice", ("--model", model), 30.0),
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
