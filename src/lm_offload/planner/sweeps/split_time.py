"""Seconds of sweeps where keys and values of some sequences lie on a device, of others on the host.

Each processor attends to its own. Rows are cut by the rule of the executor (`schedule/turns.py`),
at contexts that are taken to be alike in both memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lm_offload.device_plan import TurnCosts
from lm_offload.plan import Workload
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.costs.unit_work import visible_tokens
from lm_offload.planner.sweeps.device_time import DeviceSweepTimes
from lm_offload.planner.sweeps.host_load import HostLoad, round_trip_s
from lm_offload.planner.sweeps.mean_sweeps import mean_decode
from lm_offload.planner.sweeps.split_load import SplitLoad, turns_s
from lm_offload.planner.values import values_of
from lm_offload.schedule.turns import Seen, first_turn_rows

FREE = TurnCosts(0.0, 0.0, 0.0)
LEAST_ROWS = 0.5  # that the CPU attends to in a turn; less comes from rounding


class _Cut(NamedTuple):
    """The rows of a sweep by turn."""

    own_frac: float  # of the attention, by the device
    shapes: Sequence[SweepShape]  # of each turn, without contexts
    sent: Sequence[float]  # rows of each turn that the CPU attends to

    @property
    def shares(self) -> list[float]:
        """Of the CPU's attention, by turn."""
        total = sum(self.sent)
        return [rows / total if total else 0.0 for rows in self.sent]


@dataclass(frozen=True)
class SplitSweepTimes(DeviceSweepTimes):
    """Times of one way to run a model where both processors attend."""

    device_frac: float = 0.0  # of the KV cache
    sequences: int = 1  # in flight
    turns: TurnCosts = FREE

    def _split(
        self, shape: SweepShape, on_host: frozenset[int]
    ) -> tuple[list[float], HostLoad | None]:
        """What each unit takes of the device, and what the CPU does beside it, in all layers."""
        assert self.host_costs is not None
        cut, most = self._cut(shape), self.micro_batch_tokens
        products = [self.costs.without_attention_s(turn, most) for turn in cut.shapes]
        own = [cut.own_frac * seconds for seconds in self.costs.attention_s(shape, most)]
        others = [(1 - cut.own_frac) * s for s in self.host_costs.attention_s(shape, most)]
        load = SplitLoad(
            most_rows=most,
            counts=[1 if once else len(cut.shapes) for once in self.costs.model.once_in_sweep],
            attend=others,
            project_frac=self._project_frac,
            down_s=0.0,
            up_s=0.0,
            products=products,
            own=own,
            shares=cut.shares,
            links_s=self._trips_s(cut),
        )
        return [sum(parts) for parts in zip(own, *products, strict=True)], load

    def _compute_beside_s(self, shape: SweepShape, on_host: frozenset[int]) -> list[float]:
        """What each unit takes of the device."""
        return self._split(shape, on_host)[0]

    def _rows_s(self, shape: SweepShape) -> float:
        """The same from sums over units."""
        assert self.host_costs is not None
        cut, most = self._cut(shape), self.micro_batch_tokens
        device_s = [self.costs.total_without_attention_s(turn, most) for turn in cut.shapes]
        device_s[0] += cut.own_frac * self.costs.total_attention_s(shape, most)
        if not self.rows_in_memory:
            device_s[0] += self._rows_of_table_s(shape)
        attend_s = (1 - cut.own_frac) * self.host_costs.total_attention_s(shape, most)
        layers = self.costs.model.config.num_layers
        wait_s = self._wait_s(shape)
        trips_s = [layers * (sum(link) + wait_s) for link in self._trips_s(cut)]
        return turns_s(device_s, [share * attend_s for share in cut.shares], trips_s)

    def _back_s(self, shape: SweepShape) -> float:
        """All copies that come back."""
        layers = self.costs.model.config.num_layers
        return layers * sum(up_s for _, up_s in self._trips_s(self._cut(shape)))

    def _cut(self, shape: SweepShape) -> _Cut:
        """By the load rule, as the executor does."""
        rows, is_decode = shape.rows, shape.is_decode
        frac = self._own_frac(shape, is_decode)
        seen = [Seen(it.sequences * it.rows, it.sequences * _tokens(it)) for it in shape.pieces]
        own = Seen(frac * rows, frac * sum(it.tokens for it in seen))
        others = [Seen((1 - frac) * it.rows, (1 - frac) * it.tokens) for it in seen]
        first = first_turn_rows(self.turns, own, others)
        turns = [(first, first - own.rows), (rows - first, min(rows - first, rows - own.rows))]
        turns = [turn for turn in turns if turn[0]]
        logits = [shape.logit_rows, 0][: len(turns)]
        shapes = [_shape(it[0], n, is_decode) for it, n in zip(turns, logits, strict=True)]
        return _Cut(frac, shapes, [sent if sent > LEAST_ROWS else 0.0 for _, sent in turns])

    def _own_frac(self, shape: SweepShape, is_decode: bool) -> float:
        """The device's sequences are admitted first, so that none of them is missing in the end."""
        if not is_decode:
            return self.device_frac
        return min(self.device_frac * self.sequences / shape.sequences, 1.0)

    def _trips_s(self, cut: _Cut) -> list[tuple[float, float]]:
        model, nothing = self.costs.model, (0.0, 0.0)
        return [
            round_trip_s(model, round(sent), *self._links) if sent else nothing for sent in cut.sent
        ]


def split_times(times: DeviceSweepTimes, sizes: Sizes, turns: TurnCosts) -> SplitSweepTimes:
    """The same sweeps with the KV cache in both memories."""
    values = values_of(times, DeviceSweepTimes)
    return SplitSweepTimes(
        **values, device_frac=sizes.device_frac, sequences=sizes.max_sequences, turns=turns
    )


def turn_costs(device: UnitCosts, cpu: UnitCosts, workload: Workload, sizes: Sizes) -> TurnCosts:
    """What a row and a token cost in decode of as many sequences as are in flight, half grown."""
    shape, most_rows = mean_decode(workload, sizes.max_sequences).shape, sizes.micro_batch_tokens
    layers = device.model.config.num_layers
    half = _shape(max(shape.rows // 2, 1), 0, is_decode=True)
    whole = _shape(shape.rows, 0, is_decode=True)
    products_s = [device.total_without_attention_s(it, most_rows) for it in (half, whole)]
    tokens = sum(piece.sequences * _tokens(piece) for piece in shape.pieces) * layers
    return TurnCosts(
        row_s=max(products_s[1] - products_s[0], 0.0) / max(whole.rows - half.rows, 1) / layers,
        device_token_s=device.total_attention_s(shape, most_rows) / tokens,
        cpu_token_s=cpu.total_attention_s(shape, most_rows) / tokens,
    )


def _tokens(piece: Piece) -> int:
    """That the rows of one sequence see together."""
    return visible_tokens(piece.rows, piece.context, None)


def _shape(rows: int, logit_rows: int, is_decode: bool) -> SweepShape:
    piece = Piece(rows, 1, 1) if is_decode else Piece(1, rows, rows)
    return SweepShape((piece,), logit_rows)
