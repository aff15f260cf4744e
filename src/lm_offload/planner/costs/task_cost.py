"""Seconds of the compute tasks of one unit: products, elementwise kernels and attention.

::

    task = task_s + kernels * call_s         none in decode, which is replayed; one of an expert
         + sum over products  2 rows weights / F(format, rows)   of matrices with one input
                              + rows (inputs input_s + outputs output_s), beyond square ones
         + sum over kernels   bytes / B(kernel)
         + attention          KV bytes / B_kv(context)  or  FLOPs / F_kv(context)
         + recurrence         state bytes / B  or  FLOPs / F_kv, the longer of the two

All rates come from the profile; docs/performance_model.md says where each term is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lm_offload.arch.weight_spec import MLP_KINDS
from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.processor import Processor
from lm_offload.planner.costs.expert_sizes import rows_of_used, used_frac
from lm_offload.planner.costs.model_sizes import ONCE, ModelSizes, UnitSize
from lm_offload.planner.costs.state_cost import states_s
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.costs.unit_work import Matrix, Operation, levels, operations, visible_tokens
from lm_offload.quant.kv_format import head_bytes

MOST_MISSED_FRAC = 0.5  # of the weights, with which what the engine needs stays in the cache
# In decode, see pipeline/replay.py
REPLAYED = frozenset({"attention", "recurrent", *MLP_KINDS, "router", "expert"})
_Work = tuple[list[list[Matrix]], tuple[Operation, ...]]  # of each product, other kernels


def replaying(processor: Processor) -> Processor:
    """A device where decode asks for no kernel, and each task for one replay."""
    task_s = processor.task_s + processor.replay_s
    return replace(processor, call_s=processor.kernel_s, task_s=task_s)


def joining(processor: Processor) -> Processor:
    """A CPU that computes resident units as one task; see pipeline/joined_units.py."""
    task_s = processor.joined_task_s
    if task_s is None:
        return processor
    return replace(processor, task_s=task_s, tiny_task_s=task_s, large_task_s=task_s)


@dataclass(frozen=True)
class TaskCosts:
    """What a unit of one model costs on one processor in a sweep, all its micro-batches together.

    `missed_frac`: the share of the weights that no cache keeps from sweep to sweep.
    """

    model: ModelSizes
    processor: Processor
    missed_frac: float
    _known: dict[tuple[object, ...], float] = field(default_factory=dict, compare=False, repr=False)
    _works: dict[tuple[str, int], _Work] = field(default_factory=dict, compare=False, repr=False)
    _kernels: dict[tuple[str, int], int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def cached(self) -> bool:
        """Whether most of what a sweep needs stays in the last-level cache."""
        return self.missed_frac <= MOST_MISSED_FRAC

    def unit_s(self, sized: UnitSize, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Seconds of one unit."""
        seconds = self.rows_s(sized, shape, micro_batch_tokens)
        return seconds + self.attend_s(sized, shape, micro_batch_tokens)

    def rows_s(self, sized: UnitSize, shape: SweepShape, micro_batch_tokens: int) -> float:
        """The same without scores and weighted sums."""
        if sized.unit.kind == "expert":
            return self._expert_s(sized, shape)
        tasks_s = self.fixed_s(sized, shape, micro_batch_tokens)
        if sized.unit.kind in ONCE:
            return tasks_s + self._kernels_s(sized, shape.logit_rows, self.missed_frac)
        return tasks_s + self._micro_batches_s(sized, shape.rows, micro_batch_tokens)

    def fixed_s(self, sized: UnitSize, shape: SweepShape, micro_batch_tokens: int) -> float:
        """What its tasks take whatever their size: Python, for the most part."""
        if sized.unit.kind == "expert":
            rows, used_frac = self._expert_use(shape)
            return used_frac * self._task_s(sized, shape, rows)
        if sized.unit.kind in ONCE:
            return self._task_s(sized, shape, shape.logit_rows)
        rows = min(shape.rows, micro_batch_tokens)
        return -(-shape.rows // micro_batch_tokens) * self._task_s(sized, shape, rows)

    def _expert_s(self, sized: UnitSize, shape: SweepShape) -> float:
        """One expert, on the rows that use it, as often as any do."""
        rows, used_frac = self._expert_use(shape)
        task_s = self._task_s(sized, shape, rows)
        fewer, more = rows_of_used(self.model.config, shape.rows)
        both_s = sum(self._kernels_s(sized, some, self.missed_frac) for some in (fewer, more))
        return used_frac * (task_s + both_s / 2)

    def _expert_use(self, shape: SweepShape) -> tuple[int, float]:
        """The rows of an expert that is used, and in what share of the sweeps it is."""
        config = self.model.config
        frac = used_frac(config, shape.rows)
        pairs = shape.rows * config.experts_per_token
        return max(round(pairs / (frac * config.num_experts)), 1), frac

    def attend_s(self, sized: UnitSize, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Scores and weighted sums alone, or what rows do to states; 0 for all other units."""
        if sized.unit.kind == "recurrent":
            given = self.model.config, self.model.kv_format, self.processor
            return sum(states_s(*given, piece, micro_batch_tokens) for piece in shape.pieces)
        if sized.unit.kind != "attention":
            return 0.0
        layer = sized.unit.index
        return sum(self._piece_s(piece, layer, micro_batch_tokens) for piece in shape.pieces)

    def _task_s(self, sized: UnitSize, shape: SweepShape, rows: int) -> float:
        """The same of one task; decode replays layers without a call of a kernel."""
        processor, (_, steps) = self.processor, self._work_of(sized)
        activations_bytes = rows * sum(step.row_bytes for step in steps)
        task_s = processor.task_fixed_s(sized.size_bytes + activations_bytes)
        if not processor.call_s:
            return task_s + self._kernels_of(sized) * processor.kernel_s
        if shape.is_decode and sized.unit.kind in REPLAYED:
            return task_s
        stays = self.cached and shape.is_decode
        call_s = processor.call_s * (processor.cached_overhead_frac if stays else 1.0)
        calls = 1 if sized.unit.kind == "expert" else self._kernels_of(sized)
        return task_s + calls * call_s

    def _kernels_of(self, sized: UnitSize) -> int:
        key = sized.unit.kind, sized.size_bytes
        if key not in self._kernels:
            products, steps = self._work_of(sized)
            attends = sized.unit.kind in ("attention", "recurrent")
            self._kernels[key] = sum(map(len, products)) + len(steps) + attends
        return self._kernels[key]

    def _work_of(self, sized: UnitSize) -> _Work:
        """The same for units alike."""
        key, unit = (sized.unit.kind, sized.size_bytes), sized.unit
        if key not in self._works:
            self._works[key] = levels(unit), operations(self.model.config, unit)
        return self._works[key]

    def _micro_batches_s(self, sized: UnitSize, rows: int, most: int) -> float:
        """All calls but the first find the weights of a small unit in the cache."""
        full, rest = divmod(rows, most)
        seconds = self._kernels_s(sized, min(rows, most), self.missed_frac)
        seconds += max(full - 1, 0) * self._again_s(sized, most)
        return seconds + (self._again_s(sized, rest) if full and rest else 0.0)

    def _again_s(self, sized: UnitSize, rows: int) -> float:
        """A call on a unit that was used just before, by the rows of another micro-batch."""
        first_s = self._kernels_s(sized, rows, self.missed_frac)
        if sized.size_bytes > self.processor.cache_bytes:
            return first_s
        return min(self._kernels_s(sized, rows, 0.0), first_s)

    def _kernels_s(self, sized: UnitSize, rows: int, missed_frac: float) -> float:
        """The kernels of one task without attention and without what is fixed."""
        key = (sized.unit.kind, sized.size_bytes, rows, missed_frac)
        if key not in self._known:
            self._known[key] = self._work_s(sized, rows, missed_frac)
        return self._known[key]

    def _work_s(self, sized: UnitSize, rows: int, missed_frac: float) -> float:
        if rows == 0:  # no logits are wanted in this sweep
            return 0.0
        shares = {True: 1.0 - missed_frac, False: missed_frac}  # from the cache, from memory
        products_s = sum(
            share * self._products_s(sized, rows, cached)
            for cached, share in shares.items()
            if share
        )
        _, steps = self._work_of(sized)
        return products_s + sum(
            self.processor.operation_s(step.name, rows * step.row_bytes) for step in steps
        )

    def _products_s(self, sized: UnitSize, rows: int, cached: bool) -> float:
        products, _ = self._work_of(sized)
        weight_format = self.model.format_of(sized.unit)
        return sum(
            self.processor.product_s(weight_format, rows, sum(weights), cached, max(widths))
            for weights, widths in (zip(*level, strict=True) for level in products)
        )

    def _piece_s(self, piece: Piece, layer: int, most: int) -> float:
        """Scores and weighted sums of one layer."""
        prompt, place = min(piece.rows, most) > 1, self.model.config.layers[layer]
        key = (piece, place.window, place.kv_shape, prompt)
        if key not in self._known:
            self._known[key] = self._attention_s(piece, layer, prompt)
        return self._known[key]

    def _attention_s(self, piece: Piece, layer: int, prompt: bool) -> float:
        config, kv_format = self.model.config.of_layer(layer), self.model.kv_format
        window = config.layers[layer].window
        heads = HeadShape(config.head_dim, config.num_heads // config.num_kv_heads)
        pairs = piece.sequences * visible_tokens(piece.rows, piece.context, window)
        seen = pairs / (piece.sequences * piece.rows)
        if prompt:
            flops = 4.0 * config.query_size * pairs
            return self.processor.prefill_attention_s(kv_format, heads, seen, flops)
        kv_bytes = 2 * pairs * config.num_kv_heads * head_bytes(kv_format, config.head_dim)
        given = kv_format, heads, seen, kv_bytes, self.missed_frac
        return self.processor.decode_attention_s(*given)
