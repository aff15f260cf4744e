"""Units of decode that are replayed, by the CPU's kernels or by a device, where they can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from lm_offload.kernels.base import Kernels
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Context
from lm_offload.pipeline.captures import CAPTURED, Captures
from lm_offload.pipeline.micro_batches import SweepInput
from lm_offload.pipeline.replay import Place, Replays, SteadyTensors, at_rest
from lm_offload.schedule.task import Task


class Repeats:
    """What need not be asked of Python again, of all sweeps that decode.

    `recorded` are the kinds of units that call kernels and nothing else; hidden [T, H] f32 are the
    rows that all units work on in place.
    """

    def __init__(
        self,
        context: Context,
        recorded: frozenset[str],
        hidden: Tensor,
        captures: Captures | None = None,
    ) -> None:
        self._context = context
        self._hidden = hidden
        self._captures = captures  # of a device that replays what stays there
        self._replays = Replays(context.kernels)
        self._recorded = recorded if self._replays.possible else frozenset[str]()
        self.possible = self._replays.possible or captures is not None
        self.steady = SteadyTensors(self.forget, hidden.device)

    def begin(self) -> None:
        """Between sweeps, when nothing runs."""
        if self._captures is not None:
            self._captures.begin()

    def forget(self) -> None:
        """Repeat nothing of what was computed so far: something has moved."""
        self._replays.forget()
        if self._captures is not None:
            self._captures.forget()

    def at_rest(self, sweep: SweepInput) -> SweepInput:
        """The same, at the addresses of the last sweep, so that it may repeat what that did."""
        micro_batches = (at_rest(rows, "", self.steady) for rows in sweep.micro_batches)
        logit_rows = sweep.logit_rows.to(self._hidden.device)
        return replace(sweep, micro_batches=tuple(micro_batches), logit_rows=logit_rows)

    def run(
        self,
        task: Task,
        kind: str,
        rows: MicroBatch,
        cache_at: int,
        compute: Callable[[Kernels], None],
    ) -> None:
        """Compute, or replay what was the same in other sweeps but for the place in a ring.

        `kind` is that of the task's unit, `cache_at` where its staged keys and values begin, or 0.
        """
        staged = task.ring_offset >= 0
        key = task.id.unit, task.units, staged, rows.start, rows.stop, rows.block_tables.shape
        if self._captures is not None and kind in CAPTURED and not staged:
            again = partial(self._compute_again, compute)
            self._captures.run(key, again, self._hidden[rows.start : rows.stop])
        elif self._captures is None and kind in self._recorded:
            place = Place(task.ring_offset if staged else 0, cache_at)
            self._replays.run(key, compute, place)
        else:
            compute(self._context.kernels)

    def _compute_again(self, compute: Callable[[Kernels], None]) -> None:
        """As often as it is wanted, in the same scratch memory."""
        self._context.workspace.reset()
        compute(self._context.kernels)
