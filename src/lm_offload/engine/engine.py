"""One step: schedule, run, sample, retire. The only place where all rooms meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from lm_offload.engine.diagnosis import explain_bad_logits
from lm_offload.engine.machinery import Machinery
from lm_offload.engine.outputs import SweepRecord
from lm_offload.engine.scoring import row_of, sampled_logits, score_outputs, score_prompts
from lm_offload.plan import StepTime
from lm_offload.sampling.draw import sample
from lm_offload.sequence import Batch, FinishReason, Sequence

StopCheck = Callable[[Sequence, int], bool]  # a sequence and its new token: is the text complete?


class Engine:
    """Runs sequences through sweeps until they are finished."""

    def __init__(
        self, machinery: Machinery, eos_token_ids: tuple[int, ...], stops: StopCheck
    ) -> None:
        self.machinery = machinery
        self.records: list[SweepRecord] = []
        self._eos_token_ids = eos_token_ids
        self._stops = stops

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue sequences for the next sweeps."""
        self.machinery.scheduler.add(sequences)

    @property
    def has_work(self) -> bool:
        """Whether a sequence is unfinished."""
        return self.machinery.scheduler.has_work

    def step(self) -> list[Sequence]:
        """One sweep; returns the sequences that got a token from it."""
        start_s, parts = time.perf_counter(), self.machinery
        parts.store.checkpoint.check_unchanged()
        batch = parts.scheduler.schedule()
        logits, step_time = parts.runner.run(batch, parts.executor)
        parts.scheduler.advance(batch)
        sampled = batch.sampled
        cached = sum(sequence.num_cached for sequence in sampled if not sequence.output)
        if len(logits):
            self._check_finite(logits)
            score_prompts(batch, logits)
            self._append_tokens(sampled, sampled_logits(batch, logits))
        parts.scheduler.retire_finished()
        step_time = replace(step_time, total_s=time.perf_counter() - start_s)
        self._record(batch, step_time, cached)
        return sampled

    def read_sweep(self) -> StepTime:
        """Read what a sweep reads and compute nothing: the disk's own pace."""
        parts = self.machinery
        return parts.executor.run_sweep(parts.runner.task_counts(1), lambda task: None)

    def _check_finite(self, logits: Tensor) -> None:
        if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
            raise explain_bad_logits(self.machinery)

    def _append_tokens(self, sequences: list[Sequence], logits: Tensor) -> None:
        tokens = sample(logits, [row_of(sequence) for sequence in sequences])
        score_outputs(sequences, tokens, logits)
        now_s = time.perf_counter()
        for sequence, token in zip(sequences, tokens, strict=True):
            sequence.output.append(token)
            sequence.first_token_s = sequence.first_token_s or now_s
            sequence.finish_reason = self._finish_reason(sequence, token)

    def _finish_reason(self, sequence: Sequence, token: int) -> FinishReason:
        if token in self._eos_token_ids and not sequence.params.ignore_eos:
            return "stop"
        if token in sequence.params.stop_token_ids:
            return "stop"
        if self._stops(sequence, token):
            return "stop"
        return "length" if len(sequence.output) >= sequence.params.max_tokens else None

    def _record(self, batch: Batch, step_time: StepTime, cached: int) -> None:
        prefill = sum(
            chunk.stop - chunk.start
            for chunk in batch.chunks
            if chunk.start < len(chunk.sequence.prompt)
        )
        self.records.append(SweepRecord(prefill, batch.num_tokens - prefill, step_time, cached))
