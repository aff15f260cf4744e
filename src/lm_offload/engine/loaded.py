"""A model whose plan is carried out: its engine is built when a workload needs another one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from typing import Self

from lm_offload.engine.assembly import Assembly, RunOptions
from lm_offload.engine.cut_files import in_units_of
from lm_offload.engine.disk_pace import warn_of_pace
from lm_offload.engine.engine import Engine
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.option_kinds import check_workload
from lm_offload.engine.out_of_memory import hopeless, smaller, stopped, unfinished, warn_of
from lm_offload.engine.outputs import RunStats, SweepRecord
from lm_offload.engine.planned import PlannedModel, Wishes
from lm_offload.engine.planning import covers, serves, stages
from lm_offload.engine.prefixes import save_prefixes, share_prefixes
from lm_offload.engine.requests import workload_of
from lm_offload.engine.turn import Turn, check_process
from lm_offload.errors import BudgetError, ConfigError, DeviceMemoryError, RequestError
from lm_offload.kernels.base import Kernels
from lm_offload.pipeline.trace import ChromeTrace, NullTrace, Trace
from lm_offload.plan import Plan, Workload
from lm_offload.sequence import Sequence
from lm_offload.step_time import StepTime

log = logging.getLogger(__name__)

SweepCallback = Callable[[SweepRecord], None]


class LoadedModel(PlannedModel):
    """Keeps one engine and runs sequences through it."""

    def __init__(
        self, choices: Items[ModelFiles], kernels: Kernels, wishes: Wishes, options: RunOptions
    ) -> None:
        super().__init__(choices, kernels, wishes, options.on_quantize, options.on_measure)
        self.stats = RunStats(())
        self._options = options
        self._trace = ChromeTrace()
        self._engine: Engine | None = None
        self._warned_of_pace = False
        self._turn = Turn()
        self._loaded_by = os.getpid()

    @property
    def plan(self) -> Plan | None:
        """The plan that is loaded, if any."""
        return self._engine.machinery.plan if self._engine else None

    def load(self, workload: Workload) -> Plan:
        """Plan for a workload and load what the plan keeps in memory; returns the plan."""
        check_workload(workload)
        return self._engine_for(workload).machinery.plan

    def read_sweep(self) -> StepTime:
        """Time the reads of one sweep with nothing computed; after `load`."""
        if self._engine is None:
            raise ConfigError("No weights are loaded; call load with a workload first.")
        return self._engine.read_sweep()

    def close(self) -> None:
        """Give memory, threads and files back and end what runs; the next call loads again."""
        self._unload()
        self._turn = Turn()

    def _unload(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _sweeps(self, sequences: list[Sequence]) -> Generator[list[Sequence], None, None]:
        """Run to the end; yields after each sweep the sequences that got a token."""
        if not sequences:
            return
        if self._wishes.prefix_sharing:
            share_prefixes(sequences, self.files.config)
        self.stats = RunStats(())
        while sequences:
            try:
                yield from self._run(sequences)
                sequences = unfinished(sequences)
            except DeviceMemoryError as error:
                sequences = unfinished(sequences)
                self._replan(error, sequences)

    def _replan(self, error: DeviceMemoryError, left: list[Sequence]) -> None:
        """Plan with less of the device for those left; raises DeviceMemoryError if there is no way.

        What was loaded is freed when the error is, before the next engine is built.
        """
        assert self.device is not None
        budget = smaller(self.device, error)
        if self._options.on_oom == "stop":
            raise stopped(error, budget) from error
        try:
            self.shrink(budget, workload_of(left))
        except BudgetError as none:
            raise hopeless(error, none) from error
        warn_of(error, budget, len(left))

    def _run(self, sequences: list[Sequence]) -> Generator[list[Sequence], None, None]:
        engine = self._engine_for(workload_of(sequences))
        engine.records.clear()
        engine.add(sequences)
        with self._left_in_order(engine):
            yield from self._steps(engine, sequences)

    def _steps(
        self, engine: Engine, sequences: list[Sequence]
    ) -> Generator[list[Sequence], None, None]:
        while engine.has_work:
            yield engine.step()
            self._check_open(engine)
            if self._wishes.saved_plan is None and engine.drafts_give_way(sequences):
                self._give_up_draft(engine)
                return
        self._end(engine, sequences)

    @contextmanager
    def _left_in_order(self, engine: Engine) -> Iterator[None]:
        """A run that ends early leaves an engine that can go on, or none; what it did counts."""
        try:
            yield
        except GeneratorExit:
            engine.machinery.scheduler.drop_all()
            raise
        except DeviceMemoryError:
            engine.machinery.scheduler.drop_all()  # they may go on in another engine
            self._unload()
            raise
        except BaseException:
            if self._engine is engine:
                self._unload()
            raise
        finally:
            self.stats = RunStats((*self.stats.sweeps, *engine.records))
            self._write_trace()

    def _check_open(self, engine: Engine) -> None:
        if self._engine is not engine:
            raise RequestError("This LLM was closed before the run was finished; begin it anew.")

    def _end(self, engine: Engine, sequences: list[Sequence]) -> None:
        """All sequences are finished: keep of them what later runs can use."""
        save_prefixes(sequences, engine.machinery)
        if not self._warned_of_pace:
            self._warned_of_pace = warn_of_pace(engine.machinery.plan, engine.records)
        if engine.machinery.scheduler.losses.has_any:
            self._unload()  # the next run begins with a file of its own

    def _give_up_draft(self, engine: Engine) -> None:
        """The rest of the run, and later ones, go on without the draft model, in its memory."""
        log.info("Drafts are seldom right; the draft model leaves its memory to the model.")
        engine.machinery.scheduler.drop_all()
        self._unload()
        self.drop_draft()

    def _report(self, on_sweep: SweepCallback | None) -> None:
        if on_sweep and self._engine:
            on_sweep(self._engine.records[-1])

    def _engine_for(self, workload: Workload) -> Engine:
        if self._engine is not None:
            check_process(self._loaded_by)
        if self._engine is not None and serves(self._engine.machinery.plan, workload):
            return self._engine
        plan = self.plan_for(workload)
        if self._engine is not None:
            loaded = self._engine.machinery.plan
            if covers(loaded, plan) and stages(loaded, workload):
                return self._engine
        self._unload()
        self.prepare(plan)
        self._trace.name_units([unit.name for unit in in_units_of(plan, self.files).units])
        trace: Trace = self._trace if self._options.trace_path else NullTrace()
        parts = Assembly(self.files, self.kernels, self._wishes, self._options, trace)
        self._engine = parts.engine(plan, self._request(workload), self._is_stopped)
        self._loaded_by = os.getpid()
        return self._engine

    def _is_stopped(self, sequence: Sequence, token: int) -> bool:
        """Whether the text of a sequence is complete with its new token."""
        return False

    def _write_trace(self) -> None:
        if self._options.trace_path:
            self._trace.write(self._options.trace_path)
