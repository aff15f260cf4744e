"""Which points a prediction is held against, and in which order they are measured."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lm_offload import LLM
from lm_offload.errors import BudgetError
from lm_offload.plan import Plan, Workload

BUDGET_FRACS = (0.2, 0.35, 0.5, 0.75, 1.0)  # of the weights; the rest of the memory on top
BATCHES = (1, 4, 16, 64)
PROMPT_LENS = (16, 64, 256, 1024)
FORMATS = ("own", "int8:64", "int4:64")
PROMPT_TOKENS = {"demo": 16384}  # of all prompts together, by model: more take minutes
OTHER_PROMPT_TOKENS = 1024
DECODE_S = 2.0  # of a point; outputs are as long as that takes
GEN_LENS = (5, 33)


@dataclass(frozen=True)
class Point:
    """One workload on one model in one format, with a share of its weights in memory."""

    model: str  # a name of the benchmark's models
    weight_format: str
    budget_frac: float
    batch_size: int
    prompt_len: int

    @property
    def key(self) -> str:
        """Names the point in a result file."""
        return (
            f"{self.model} {self.weight_format} {self.budget_frac:.2f} "
            f"b{self.batch_size} p{self.prompt_len}"
        )


def grid(models: Iterable[str]) -> list[Point]:
    """Every combination but those with too many prompt tokens."""
    axes = itertools.product(models, FORMATS, BUDGET_FRACS, BATCHES, PROMPT_LENS)
    return [point for point in itertools.starmap(Point, axes) if _is_short(point)]


def _is_short(point: Point) -> bool:
    most = PROMPT_TOKENS.get(point.model, OTHER_PROMPT_TOKENS)
    return point.batch_size * point.prompt_len <= most


def chosen(points: list[Point], count: int | None, seed: int) -> list[Point]:
    """`count` points in an order in which every axis is spread from the start, or all of them."""
    draw = random.Random(seed)
    classes: dict[tuple[str, str, float], list[Point]] = {}
    for point in points:
        axes = (point.model, point.weight_format, point.budget_frac)
        classes.setdefault(axes, []).append(point)
    lists = list(classes.values())
    for members in lists:
        draw.shuffle(members)
    draw.shuffle(lists)
    return list(_in_turns(lists))[:count]


def _in_turns(lists: list[list[Point]]) -> Iterator[Point]:
    for turn in itertools.zip_longest(*lists):
        yield from (point for point in turn if point is not None)


def open_point(folder: Path, point: Point, threads: int) -> tuple[LLM, Workload] | None:
    """An engine with the budget of the point and its workload, or None where it does not fit."""
    weight_format = None if point.weight_format == "own" else point.weight_format
    roomy = LLM(folder, threads=threads, weight_format=weight_format, speculation="off")
    plan = roomy.plan_for(_workload(point, GEN_LENS[1]))
    weight_bytes = dict(plan.memory)["resident weights"]
    budget = int(point.budget_frac * weight_bytes) + plan.used_bytes - weight_bytes
    llm = LLM(
        folder, cpu_memory=budget, threads=threads, weight_format=weight_format,
        prefix_sharing=False, speculation="off",
    )  # fmt: skip
    try:
        workload = _workload(point, _gen_len(llm.plan_for(_workload(point, GEN_LENS[1]))))
    except BudgetError:
        return None
    return llm, workload


def _gen_len(plan: Plan) -> int:
    """As many sweeps as take DECODE_S, within limits."""
    sweeps = round(DECODE_S / (plan.predicted.tpot_s or DECODE_S))
    return min(max(sweeps + 1, GEN_LENS[0]), GEN_LENS[1])


def _workload(point: Point, gen_len: int) -> Workload:
    return Workload((point.prompt_len,) * point.batch_size, (gen_len,) * point.batch_size)
