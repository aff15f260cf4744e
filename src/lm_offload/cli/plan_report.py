"""A plan's prediction and its reasons as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lm_offload.cli.report import print_rows
from lm_offload.plan import Figures, Plan
from lm_offload.planner.reasons.phase_ceiling import PhaseCeiling
from lm_offload.quant.quality import FormatQuality
from lm_offload.units import format_seconds

if TYPE_CHECKING:
    from lm_offload.planner.choose.spare_sequences import Spare
    from lm_offload.planner.reasons.between_sweeps import BetweenSweeps
    from lm_offload.planner.reasons.explain import Explanation, RunnerUp
    from lm_offload.planner.reasons.in_place_reason import InPlaceReason
    from lm_offload.planner.reasons.side_by_side import SideBySide

NO_CHANGE = 1.005  # a run that is shorter by less is as long


def print_explanation(console: Console, plan: Plan, found: Explanation) -> None:
    """What is predicted, what bounds it, what would help, and which plans lost."""
    _print_prediction(console, plan.predicted, found)
    if plan.device is None:
        _print_threads(console, plan, found)
    _print_what_ifs(console, found)
    if found.runners_up:
        _print_runners_up(console, found.runners_up)


def print_spare(console: Console, spare: Spare) -> None:
    """Places that a run gets where outputs may end early, which the prediction leaves out."""
    more = spare.sequences or "none"
    console.print(f"More sequences in flight while outputs end early: {more} ({spare.reason}).")


def _print_prediction(console: Console, predicted: Figures, found: Explanation) -> None:
    rows = [("prefill", _phase(predicted.prefill_tokens_per_s, found.ceiling.prefill))]
    bottleneck = found.bottleneck["prefill"]
    rows.append(("prefill is bound by", bottleneck))
    if predicted.tpot_s is not None:
        rows.append(("decode", _phase(predicted.decode_tokens_per_s, found.ceiling.decode)))
        rows.append(("decode is bound by", found.bottleneck["decode"]))
        rows.append(("time per output token", format_seconds(predicted.tpot_s)))
    rows.append(("time to first token", format_seconds(predicted.ttft_s)))
    rows.append(("all prompts", format_seconds(predicted.run_s)))
    if found.in_place:
        article = "an" if found.in_place.what == "MLP" else "a"
        rows.append((f"{article} {found.in_place.what} in CPU memory", _in_place(found.in_place)))
    if found.quality:
        rows.append(("quality of its formats", _quality(found.quality)))
    print_rows(console, "Predicted", rows)


def _quality(quality: FormatQuality) -> str:
    change = f"perplexity {quality.perplexity_ratio - 1:+.1%}"
    return f"{change}, KL divergence {quality.mean_kl:.1g} nats, measured on the demo model"


def _in_place(found: InPlaceReason) -> str:
    rows = f"{found.rows} row" + "s" * (found.rows > 1)
    times = (
        f"{found.on_cpu_s * 1e3:.2f} ms on the CPU and {found.upload_s * 1e3:.2f} ms over the link"
        f" for {rows}"
    )
    if not found.in_place:
        return f"{times}; all are uploaded"
    others = f", {found.uploaded} are uploaded" if found.uploaded else ""
    return f"{times}; {found.in_place} stay, for up to {found.most_rows} rows{others}"


def _print_threads(console: Console, plan: Plan, found: Explanation) -> None:
    threads = plan.threads
    rows = [
        ("products and elementwise kernels", str(threads.compute)),
        ("attention", str(threads.attention)),
        ("sampling, by torch", str(threads.sampling)),
        ("reads, asleep while the disk works", str(plan.read_concurrency if plan.streamed else 0)),
        ("time with every core for each", f"{found.threads_speedup:.2f}x that of this plan"),
        *([("between two sweeps", _between(found.between))] if found.between else []),
        ("products side by side", _beside(found.side_by_side)),
    ]
    print_rows(console, "Threads", rows)


def _beside(found: SideBySide) -> str:
    if found.width == 1:
        return "no gain"
    return f"{found.width} would be {found.speedup:.2f}x as fast in decode; they run one by one"


def _between(found: BetweenSweeps) -> str:
    return (
        f"{found.seconds * 1e3:.2f} ms, of them {found.sampling_s * 1e3:.2f} ms sampling; done "
        f"beside the next sweep they would save {found.gain_frac:.1%} at most"
    )


def _phase(tokens_per_s: float, ceiling: PhaseCeiling) -> str:
    share = tokens_per_s / ceiling.tokens_per_s
    return (
        f"{tokens_per_s:.2f} tok/s, {share:.0%} of the ceiling "
        f"({ceiling.tokens_per_s:.1f} tok/s, set by {ceiling.bound_by})"
    )


def _print_what_ifs(console: Console, found: Explanation) -> None:
    table = Table("with", "prefill tok/s", "decode tok/s", "the run is", title="What would help")
    table.title_justify = "left"
    for what_if in found.what_ifs:
        faster = f"{what_if.speedup:.2f}x faster" if what_if.speedup >= NO_CHANGE else "as long"
        table.add_row(what_if.change, *_rates(what_if.figures), faster)
    console.print(table)


def _print_runners_up(console: Console, runners_up: tuple[RunnerUp, ...]) -> None:
    table = Table("plan", "prefill tok/s", "decode tok/s", "speed", "why not", title="Other plans")
    table.title_justify = "left"
    for other in runners_up:
        rates = _rates(other.plan.predicted)
        table.add_row(other.name, *rates, f"{other.speedup:.2f}x", other.reason)
    console.print(table)


def _rates(figures: Figures) -> tuple[str, str]:
    return f"{figures.prefill_tokens_per_s:.1f}", f"{figures.decode_tokens_per_s:.2f}"
