"""Counts what a sweep has done, from the batch that it worked on."""

from __future__ import annotations

from lm_offload.engine.outputs import SweepRecord
from lm_offload.pipeline.retention import Retained
from lm_offload.schedule.on_demand import ExpertUse
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Batch
from lm_offload.step_time import StepTime


def record_of(
    batch: Batch,
    time: StepTime,
    cached: int,
    scheduler: Scheduler,
    retained: Retained,
    experts: ExpertUse,
) -> SweepRecord:
    """The record of a sweep whose tokens have been appended.

    `cached` tokens of its prompts were not computed; `scheduler` knows who had to wait; `retained`
    weights were not read for it. `experts` are those that its rows used.
    """
    redone = sum(chunk.num_redone for chunk in batch.chunks if chunk.sequence.redone_to)
    prefill = sum(
        chunk.stop - chunk.start - chunk.num_redone
        for chunk in batch.chunks
        if chunk.start < len(chunk.sequence.prompt)
        and chunk.sequence.redone_to < len(chunk.sequence.prompt)
    )
    drafted = batch.num_drafted
    accepted = sum(it.sequence.num_computed - it.known_stop for it in batch.chunks if it.draft)
    decode = batch.num_tokens - prefill - redone - drafted + accepted
    waited = scheduler.preemptions, redone, scheduler.swaps
    counts = drafted, accepted, cached, *waited, retained.units, retained.size_bytes, *experts
    return SweepRecord(prefill, decode, time, *counts)
