"""Counts what a sweep has done, from the batch that it worked on."""

from __future__ import annotations

from lm_offload.engine.outputs import SweepRecord
from lm_offload.pipeline.retention import Retained
from lm_offload.plan import StepTime
from lm_offload.sequence import Batch


def record_of(
    batch: Batch, time: StepTime, cached: int, preemptions: int, retained: Retained
) -> SweepRecord:
    """The record of a sweep whose tokens have been appended.

    `cached` tokens of its prompts were not computed, `preemptions` came before it in the run,
    `retained` weights were not read for it.
    """
    redone = sum(chunk.num_redone for chunk in batch.chunks) if preemptions else 0
    prefill = sum(
        chunk.stop - chunk.start - chunk.num_redone
        for chunk in batch.chunks
        if chunk.start < len(chunk.sequence.prompt)
        and chunk.sequence.redone_to < len(chunk.sequence.prompt)
    )
    drafted = batch.num_drafted
    accepted = sum(it.sequence.num_computed - it.known_stop for it in batch.chunks)
    decode = batch.num_tokens - prefill - redone - drafted + accepted
    counts = drafted, accepted, cached, preemptions, redone
    return SweepRecord(prefill, decode, time, *counts, retained.units, retained.size_bytes)
