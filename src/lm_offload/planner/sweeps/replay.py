"""The sweeps that the scheduler will make of a workload, on token counts alone.

The rules are those of scheduler/scheduler.py: admission in order of arrival while KV blocks and
places last, decode rows first, then prompts as far as the rows go. Sweeps of decode alone repeat
until a sequence ends, so they are counted instead of repeated.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Workload
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.sweep_shape import Piece, SweepGroup, SweepShape


@dataclass(eq=False)
class _Run:
    """One sequence: tokens of its prompt and output, and how far it is."""

    prompt: int
    output: int
    blocks: int  # of its own
    computed: int = 0
    produced: int = 0

    @property
    def uncomputed(self) -> int:
        return self.prompt + self.produced - self.computed


@dataclass(frozen=True)
class _Chunk:
    run: _Run
    rows: int
    logits: int

    @property
    def completes(self) -> bool:
        return self.rows == self.run.uncomputed


def sweeps_of(workload: Workload, sizes: Sizes) -> Iterator[SweepGroup]:
    """The sweeps of a whole run in order; every sequence must fit the KV cache alone."""
    waiting = deque(_runs(workload))
    running: list[_Run] = []
    free_blocks, ended_blocks = sizes.kv_blocks, 0
    while waiting or running:
        while waiting and len(running) < sizes.max_sequences:
            if waiting[0].blocks > free_blocks:
                break
            free_blocks -= waiting[0].blocks
            running.append(waiting.popleft())
        kept_blocks = min(ended_blocks, free_blocks)
        yield _sweep(running, sizes, workload.scored_tokens > 0, kept_blocks)
        freed_blocks = sum(run.blocks for run in running if run.produced >= run.output)
        free_blocks, ended_blocks = free_blocks + freed_blocks, ended_blocks + freed_blocks
        running = [run for run in running if run.produced < run.output]


def fewest_groups(workload: Workload, sizes: Sizes) -> int:
    """Groups that there are at least: no two sweeps with prompts are alike, nor are two waves."""
    prompt_rows, prompts = sum(workload.computed_lens), len(workload.prompt_lens)
    return max(-(-prompt_rows // sizes.sweep_tokens), -(-prompts // sizes.max_sequences))


def _runs(workload: Workload) -> Iterator[_Run]:
    """A prefix that an earlier prompt has too is there when it is needed."""
    lengths = workload.prompt_lens, workload.output_lens, workload.own_lens, workload.computed_lens
    for prompt, output, own, computed in zip(*lengths, strict=True):
        yield _Run(prompt, output, blocks_for(own), prompt - computed)


def _sweep(running: Sequence[_Run], sizes: Sizes, scored: bool, kept_blocks: int) -> SweepGroup:
    """One sweep, or as many as repeat, carried out on `running`."""
    chunks = list(_chunks(running, sizes, scored))
    decodes = all(run.uncomputed == 1 and run.produced for run in running)
    repeats = decodes and len(chunks) == len(running)
    count = min(run.output - run.produced for run in running) if repeats else 1
    logits = sum(chunk.logits for chunk in chunks)
    shape = SweepShape(_pieces(chunks), logits, kept_blocks)
    prompt_rows = sum(chunk.rows for chunk in chunks if chunk.run.computed < chunk.run.prompt)
    first = sum(chunk.completes and not chunk.run.produced for chunk in chunks)
    for chunk in chunks:
        chunk.run.produced += count if chunk.completes else 0
        chunk.run.computed += count if repeats else chunk.rows
    finished = sum(run.produced >= run.output for run in running)
    return SweepGroup(shape, count, prompt_rows, first, finished)


def _chunks(running: Sequence[_Run], sizes: Sizes, scored: bool) -> Iterator[_Chunk]:
    rows, logits = sizes.sweep_tokens, sizes.logit_rows
    for run in sorted(running, key=lambda run: run.uncomputed > 1):
        count = min(run.uncomputed, rows)
        in_prompt = scored and run.computed < run.prompt
        if in_prompt:
            count = min(count, logits)
        wanted = count if in_prompt else int(count == run.uncomputed)
        if count and wanted <= logits:
            yield _Chunk(run, count, wanted)
            rows, logits = rows - count, logits - wanted


def _pieces(chunks: Iterable[_Chunk]) -> tuple[Piece, ...]:
    counts = Counter((chunk.rows, chunk.run.computed + chunk.rows) for chunk in chunks)
    return tuple(Piece(number, *alike) for alike, number in counts.items())
