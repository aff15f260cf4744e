"""One step: schedule, run, sample, retire. The only place where all rooms meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from torch import Tensor

from lm_offload.engine.diagnosis import explain_bad_logits
from lm_offload.engine.forgotten import close_when_forgotten
from lm_offload.engine.machinery import Machinery
from lm_offload.engine.outputs import SweepRecord
from lm_offload.engine.scoring import (
    Scored,
    are_finite,
    is_scored,
    row_of,
    sampled_rows,
    score_outputs,
    score_prompts,
    without,
)
from lm_offload.engine.speculator import NO_DRAFTS, Drafts
from lm_offload.engine.sweep_record import record_of
from lm_offload.pipeline.retention import NOTHING_RETAINED
from lm_offload.pipeline.staged_cache import StagedCache
from lm_offload.sampling.draw import likeliest_of, sample_drafted
from lm_offload.schedule.on_demand import NO_EXPERTS
from lm_offload.sequence import Batch, FinishReason, Sequence
from lm_offload.step_time import StepTime

StopCheck = Callable[[Sequence, int], bool]  # a sequence and its new token: is the text complete?


class Engine:
    """Runs sequences through sweeps until they are finished."""

    def __init__(
        self,
        machinery: Machinery,
        eos_token_ids: tuple[int, ...],
        stops: StopCheck,
        drafts: Drafts = NO_DRAFTS,
    ) -> None:
        self.machinery = machinery
        self._drafts = drafts
        self.records: list[SweepRecord] = []
        self._eos_token_ids = eos_token_ids
        self._stops = stops
        self._forgotten = close_when_forgotten(self, partial(_close, drafts, machinery))

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue sequences for the next sweeps."""
        self.machinery.scheduler.add(sequences)

    @property
    def has_work(self) -> bool:
        """Whether a sequence is unfinished."""
        return self.machinery.scheduler.has_work

    def close(self) -> None:
        """Stop the threads, close the files, also of what drafts."""
        self._forgotten.detach()
        _close(self._drafts, self.machinery)

    def step(self) -> list[Sequence]:
        """One sweep; returns the sequences that got a token from it, or that had to be given up."""
        start_s, parts = time.perf_counter(), self.machinery
        parts.store.checkpoint.check_unchanged()
        batch = self._drafts.extend(parts.scheduler.schedule())
        if not batch.chunks:  # too few blocks are left for any of them
            return self._take_failed()
        retained = parts.retention.prepare(batch) if parts.retention else NOTHING_RETAINED
        logits, step_time = parts.runner.run(batch, parts.executor)
        if parts.staged is not None:
            batch, logits = self._without_lost(parts.staged, batch, logits)
        parts.scheduler.advance(batch)
        sampled = batch.sampled
        cached = sum(sequence.num_cached for sequence in sampled if not sequence.output)
        if len(logits):
            self._take_logits(batch, logits)
        parts.scheduler.retire_finished()
        step_time = replace(step_time, total_s=time.perf_counter() - start_s)
        experts = parts.experts.take() if parts.experts else NO_EXPERTS
        record = record_of(batch, step_time, cached, parts.scheduler, retained, experts)
        self.records.append(record)
        return [*sampled, *self._take_failed()] if parts.staged else sampled

    def _without_lost(
        self, staged: StagedCache, batch: Batch, logits: Tensor
    ) -> tuple[Batch, Tensor]:
        """The sweep as far as the disk did not fail; the sequences concerned begin again."""
        if not (lost := staged.cache.take_lost()):
            return batch, logits
        concerned = self.machinery.scheduler.holders(lost)
        left = without(batch, logits, concerned)
        self.machinery.scheduler.lose(concerned, lost)
        return left

    def _take_failed(self) -> list[Sequence]:
        failed, now_s = self.machinery.scheduler.losses.take_failed(), time.perf_counter()
        for sequence in failed:
            sequence.first_token_s = sequence.first_token_s or now_s
        return failed

    def drafts_give_way(self, sequences: Iterable[Sequence]) -> bool:
        """Whether memory held for drafts is worth more to the model in the rest of the run."""
        running = [it for it in sequences if it.finish_reason is None]
        left = sum(it.max_tokens - it.num_tokens for it in running)
        return self._drafts.gives_way(left, sum(it.num_computed for it in running))

    def read_sweep(self) -> StepTime:
        """Read what a sweep reads and compute nothing: the disk's own pace."""
        parts = self.machinery
        return parts.executor.run_sweep(parts.runner.task_counts(1), lambda task: None)

    def _take_logits(self, batch: Batch, logits: Tensor) -> None:
        """Hand those of prompts to who wants them, and draw tokens from the others."""
        likeliest = likeliest_of(logits)
        if not are_finite(logits, likeliest):
            raise explain_bad_logits(self.machinery)
        if is_scored(batch):
            score_prompts(batch, logits)
            rows = sampled_rows(batch)
            logits, likeliest = logits[rows], [likeliest[row] for row in rows]
        self._append_tokens(batch, logits, likeliest)

    def _append_tokens(self, batch: Batch, logits: Tensor, likeliest: list[int]) -> None:
        """Draw tokens, and judge the drafts by them."""
        chunks = [chunk for chunk in batch.chunks if chunk.completes]
        drafts = [chunk.draft for chunk in chunks]
        rows = [row_of(chunk.sequence) for chunk in chunks]
        drawn = sample_drafted(logits, likeliest, rows, drafts)
        now_s, first = time.perf_counter(), 0
        scored: list[Scored] = []
        for chunk, tokens in zip(chunks, drawn, strict=True):
            sequence = chunk.sequence
            kept = self._keep(sequence, tokens)
            if sequence.params.logprobs is not None:
                scored += [Scored(sequence, token, first + at) for at, token in enumerate(kept)]
            sequence.first_token_s = sequence.first_token_s or now_s
            sequence.drafted += len(chunk.draft)
            sequence.accepted += len(kept) - 1
            first += 1 + len(chunk.draft)
            self._drafts.observe(chunk, tokens)
        score_outputs(scored, logits)

    def _keep(self, sequence: Sequence, tokens: list[int]) -> list[int]:
        """Append tokens up to one that ends the sequence; returns those."""
        for count, token in enumerate(tokens, start=1):
            sequence.append(token)
            sequence.ends_with_stop_token = self._is_stop_token(sequence, token)
            sequence.finish_reason = self._finish_reason(sequence, token)
            if sequence.finish_reason:
                sequence.guide = None  # thousands of finished sequences may be kept
                return tokens[:count]
        return tokens

    def _is_stop_token(self, sequence: Sequence, token: int) -> bool:
        params = sequence.params
        goes_on = params.ignore_eos and sequence.guide is None  # a grammar ends for good
        is_end = token in self._eos_token_ids and not goes_on
        return is_end or token in params.stop_token_ids

    def _finish_reason(self, sequence: Sequence, token: int) -> FinishReason:
        guide = sequence.guide
        if guide is not None and guide.fails(sequence.output):
            sequence.error = guide.error
            return "error"
        if sequence.ends_with_stop_token or self._stops(sequence, token):
            return "stop"
        if guide is not None and guide.is_complete(sequence.output):
            return "stop"
        return "length" if len(sequence.output) >= sequence.params.most_tokens else None


def _close(drafts: Drafts, machinery: Machinery) -> None:
    drafts.close()
    machinery.close()
