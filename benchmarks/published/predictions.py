"""Predictions of the published rows, their errors, and the order of the settings in each table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, groupby

from benchmarks.published.machines import machine
from benchmarks.published.rows import Row
from lm_offload.arch.shipped import find_config
from lm_offload.planner.policies.memory import PeakBytes, capacities, peak_bytes
from lm_offload.planner.policies.model_shape import model_shape
from lm_offload.planner.policies.time import PolicyTime, predict

TIE_FRAC = 0.05  # published figures that are this close have no order


@dataclass(frozen=True)
class Prediction:
    """A published row and what the model says about it."""

    row: Row
    time: PolicyTime
    peaks: PeakBytes
    gpu_bytes: float

    @property
    def tokens_per_s(self) -> float:
        """The predicted figure."""
        decode = self.row.metric == "decode"
        return self.time.decode_tokens_per_s if decode else self.time.generation_tokens_per_s

    @property
    def error_frac(self) -> float:
        """Predicted over published, less one."""
        return self.tokens_per_s / self.row.published - 1

    @property
    def meets_goal(self) -> bool:
        """Whether the error is within the row's goal; rows without one always do."""
        return self.row.goal_frac is None or abs(self.error_frac) <= self.row.goal_frac


@dataclass(frozen=True)
class Order:
    """Two settings of one table and model, the faster published one first."""

    table: str
    model: str
    faster: Prediction
    slower: Prediction

    @property
    def holds(self) -> bool:
        """Whether the prediction has the same order."""
        return self.faster.tokens_per_s > self.slower.tokens_per_s


def predict_row(row: Row) -> Prediction:
    """What the shipped machine gives for the row's policy."""
    model, box = model_shape(find_config(row.model)), machine(row.machine)
    time = predict(model, box, row.policy, row.prompt_len, row.gen_len)
    peaks = peak_bytes(model, box, row.policy, row.prompt_len, row.gen_len)
    return Prediction(row, time, peaks, capacities(box)["gpu"])


def orders(predictions: Iterable[Prediction]) -> Iterator[Order]:
    """All pairs of settings of one table and model that are not published as equal."""
    for (table, model), group in groupby(predictions, lambda p: (p.row.table, p.row.model)):
        for pair in combinations(group, 2):
            slower, faster = sorted(pair, key=lambda p: p.row.published)
            if faster.row.published > slower.row.published * (1 + TIE_FRAC):
                yield Order(table, model, faster, slower)
