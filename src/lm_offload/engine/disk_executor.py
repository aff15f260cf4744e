"""An executor whose disk reads weights and keys and values, and writes the latter."""

from __future__ import annotations

from lm_offload.engine.machinery import readers_of
from lm_offload.engine.model_files import ModelFiles
from lm_offload.pipeline.disk_queue import DiskQueue, Transfer
from lm_offload.pipeline.executor import Disk, Executor, OverlappedExecutor, SerialExecutor
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.staged_cache import StagedCache
from lm_offload.pipeline.trace import Trace
from lm_offload.plan import Plan
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task
from lm_offload.storage.weight_store import WeightStore

WRITE_THREADS = 2  # blocks of the KV cache on their way to the disk


def disk_executor(
    files: ModelFiles,
    store: WeightStore,
    staged: StagedCache | None,
    plan: Plan,
    schedule: SweepSchedule,
    trace: Trace,
    overlap: bool,
) -> Executor:
    """Of a schedule, with its threads started; without `overlap` one task after the other."""
    progress = Progress()

    def reads_of(task: Task) -> list[Transfer]:
        if staged is not None and task.id.kind == "read_kv":
            return staged.reads(task)
        part = range(task.unit_offset, task.unit_offset + task.size_bytes)
        blocks = store.staging_blocks(task.id.unit, task.ring_offset, part)
        return [block.read for block in blocks]

    reads = DiskQueue(progress, reads_of, readers_of(files, plan), trace)
    writers = WRITE_THREADS if staged else 0
    writes_of = staged.writes if staged else _writes_nothing
    writes = DiskQueue(progress, writes_of, writers, trace, "disk-write")
    disk = Disk(reads, writes, plan.spill.ring_blocks)
    make = OverlappedExecutor if overlap else SerialExecutor
    return make(schedule, disk, progress, trace)


def _writes_nothing(task: Task) -> list[Transfer]:
    """Of an engine whose KV cache lies in memory."""
    return []
