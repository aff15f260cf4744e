"""Whether a preempted sequence is cheaper on disk than computed again.

::

    recompute   chunks (sweep with the mean chunk - sweep without it)
    swap        exposed(write) + exposed(read) + recompute of the last, partly filled block
    exposed     what is left of the seconds of a move when the disk's spare time in one sweep,
                sweep - its reads, is taken off: all of it where reads bind the sweep

Both are seconds by which the sequences that go on are later. Layers whose cache lies on disk anyway
are not moved.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from lm_offload.hardware.link import Link
from lm_offload.kvcache.spilled_size import spilled_block_bytes
from lm_offload.kvcache.swap_choice import Preemption, SwapChoice, swap_never
from lm_offload.plan import Plan
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.memory import moved_block_bytes
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.decided.fixed_plan import candidate_of_plan
from lm_offload.planner.request import Request
from lm_offload.planner.sweeps.sweep_time import SweepTimes
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.step_time import StepTime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SwapCost:
    """Seconds of both ways, with the sweeps of one plan."""

    times: SweepTimes
    slot_bytes: int
    sweep_tokens: int  # most rows of a sweep

    def pays(self, preemption: Preemption) -> bool:
        """Whether to swap."""
        swap_s, recompute_s = self.swap_s(preemption), self.recompute_s(preemption)
        log.debug(
            "A sequence of %d tokens makes room: %.2f ms to swap %d blocks (%d to write), "
            "%.2f ms to compute them again.",
            *(preemption.num_computed, swap_s * 1e3, preemption.swapped_blocks),
            *(preemption.written_blocks, recompute_s * 1e3),
        )
        return swap_s < recompute_s

    def recompute_s(self, preemption: Preemption) -> float:
        """All that is not in blocks of others, too."""
        start, stop = preemption.first_token, preemption.num_computed
        return self._compute_s(start, stop, preemption.contexts)

    def swap_s(self, preemption: Preemption) -> float:
        """There and back, and what was partly filled."""
        sweep, disk = self._sweep(preemption.contexts), self.times.profile
        back = preemption.first_token + preemption.swapped_blocks * BLOCK_TOKENS
        return (
            self._exposed_s(disk.disk_write, preemption.written_blocks, sweep)
            + self._exposed_s(disk.disk_read, preemption.swapped_blocks, sweep)
            + self._compute_s(back, preemption.num_computed, preemption.contexts)
        )

    def _exposed_s(self, link: Link, blocks: int, sweep: StepTime) -> float:
        """One block after the other, beside what the sweeps read."""
        spare_s = sweep.total_s - sweep.disk_read_s
        return max(blocks * link.transfer_s(self.slot_bytes) - spare_s, 0.0)

    def _compute_s(self, start: int, stop: int, contexts: Sequence[int]) -> float:
        """Chunks that ride along with the sweeps of others, as few as there are rows for."""
        if start == stop:
            return 0.0
        sweeps = -(-(stop - start) // max(self.sweep_tokens - len(contexts), 1))
        rows = -(-(stop - start) // sweeps)
        mean_chunk = Piece(1, rows, (start + stop + rows) // 2)
        with_s, without_s = self._sweep(contexts, mean_chunk), self._sweep(contexts)
        return sweeps * max(with_s.total_s - without_s.total_s, 0.0)

    def _sweep(self, contexts: Sequence[int], *chunks: Piece) -> StepTime:
        """A sweep of decodes, all of mean context, and chunks of a prompt."""
        count = len(contexts)
        decodes = [Piece(count, 1, sum(contexts) // count)] if count else []
        return self.times.steady(SweepShape((*decodes, *chunks), count))


def swap_choice(request: Request, plan: Plan) -> SwapChoice:
    """How an engine that runs `plan` chooses; never the disk where that has no room."""
    if not plan.spare_sequences:
        return swap_never
    model = request.model_of(plan)
    slot_bytes = moved_block_bytes(model, plan.spill)
    spilled_bytes = spilled_block_bytes(model.config, model.kv_format) * len(plan.spill.layers)
    if request.spill_bytes < plan.kv_blocks * (slot_bytes + 2 * spilled_bytes):
        return swap_never
    times = Predictor(request).times(candidate_of_plan(request, plan))
    return SwapCost(times, slot_bytes, plan.sweep_tokens).pays
