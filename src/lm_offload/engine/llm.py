"""The public face: a model folder and a memory budget in, text out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType

from lm_offload.engine.calibration import profile_for
from lm_offload.engine.draft_files import open_draft
from lm_offload.engine.draft_plan import plan_beside
from lm_offload.engine.drafting import DraftLoading, drafts_for
from lm_offload.engine.engine import Engine
from lm_offload.engine.eval_windows import Window
from lm_offload.engine.format_choices import in_formats, open_choices
from lm_offload.engine.machinery import LoadProgress, build_machinery
from lm_offload.engine.model_files import prepared
from lm_offload.engine.outputs import RequestOutput, RunStats, SweepRecord
from lm_offload.engine.planning import covers, planning_request, resolve_budget, serves, stages
from lm_offload.engine.prefix_folder import prefix_folder, worth_reading
from lm_offload.engine.prefixes import save_prefixes, share_prefixes
from lm_offload.engine.requests import (
    Prompt,
    ScoreConsumer,
    check_threads,
    make_scored,
    make_sequences,
    workload_of,
)
from lm_offload.engine.results import RequestGather, request_output
from lm_offload.engine.speculator import Drafts, check_speculation
from lm_offload.engine.text_stream import TextStream
from lm_offload.engine.tokenizer import Tokenizer, load_tokenizer
from lm_offload.errors import ConfigError, RequestError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.pipeline.trace import ChromeTrace, NullTrace
from lm_offload.plan import Figures, Objective, Plan, Speculation, StepTime, Workload
from lm_offload.planner.fixed_plan import fixed_plan
from lm_offload.planner.plan_text import PlanChoice, choice_of, read_plan
from lm_offload.planner.request import Request
from lm_offload.planner.search import make_plan
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Sequence
from lm_offload.storage.spill_folder import spill_folder, spill_room_bytes

Params = SamplingParams | Items[SamplingParams]
PROBE_FRAC = 0.25  # of the budget, for what a measurement of the machine needs
SweepCallback = Callable[[SweepRecord], None]


class LLM:
    """A model that runs within a memory budget.

    `cpu_memory` is bytes or text such as "8GiB" or "80%" (of what is free); None takes what
    is free less a margin; `max_memory={"cpu": "8GiB"}`, as accelerate spells it, says the same.
    `weight_format` such as "int4:64" quantizes the matrices, once, into a cache folder; "auto"
    lets the planner choose; `kv_format` "int8" or "int4" rounds keys and values; `exact` forbids
    all of these. `speculation` drafts tokens from the text itself and verifies several in a sweep,
    which changes no token: where it is predicted to pay ("auto"), never ("off") or always
    ("prompt-lookup"). A small model with the same tokenizer, `draft_model`, drafts where the text
    does not repeat itself; it is kept in memory, in the same budget ("draft-model": it alone,
    always). Plans are made for the `objective`, unless one is given as `plan`: a file
    that `lm-offload plan --save` wrote. With `prefix_sharing`, what prompts begin with alike is
    computed once, also across calls; `prefix_cache` is a folder that keeps it for other processes,
    up to `prefix_cache_limit` ("4GiB"). What does not fit of the KV cache may lie in `spill_dir`,
    by default the cache folder, as a file without a name. Headers are read here, weights at the
    first call. Close it, or use it in a `with` block, to give its memory and files back.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        cpu_memory: str | int | None = None,
        max_memory: Mapping[str | int, str | int] | None = None,
        threads: int | None = None,
        overlap: bool = True,
        trace: str | Path | None = None,
        weight_format: str | None = None,
        exact: bool = False,
        kv_format: str | None = None,
        objective: Objective = "throughput",
        speculation: Speculation = "auto",
        draft_model: str | Path | None = None,
        plan: str | Path | PlanChoice | None = None,
        prefix_sharing: bool = True,
        prefix_cache: str | Path | None = None,
        prefix_cache_limit: str | int | None = None,
        spill_dir: str | Path | None = None,
        on_load: LoadProgress | None = None,
        on_quantize: LoadProgress | None = None,
    ) -> None:
        self._saved_plan = read_plan(Path(plan)) if isinstance(plan, str | Path) else plan
        self.choices = open_choices(model, weight_format, exact, self._saved_plan, kv_format)
        self.files = self.choices[0]
        self.budget_bytes = resolve_budget(cpu_memory, max_memory)
        self.kernels = resolve_kernels(check_threads(threads))
        self._threads = threads
        self.stats = RunStats(())
        self._objective = objective
        self._speculation = check_speculation(speculation, self._saved_plan)
        self._draft = open_draft(draft_model, self.files, self._speculation)
        self._spill_folder = spill_folder(spill_dir)
        self._overlap = overlap
        self._prefix_sharing = prefix_sharing
        self._prefix_folder = prefix_folder(prefix_cache, prefix_cache_limit, prefix_sharing)
        self._trace_path = Path(trace) if trace else None
        self._trace = ChromeTrace([unit.name for unit in self.files.units])
        self._on_load: LoadProgress = on_load or _ignore
        self._on_quantize: LoadProgress = on_quantize or _ignore
        self._engine: Engine | None = None
        self._planned: tuple[Workload, Plan] | None = None  # the last one
        self._streams: dict[int, TextStream] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint, loaded at first use."""
        return load_tokenizer(self.files.folder)

    @cached_property
    def profile(self) -> HardwareProfile:
        """What this machine can do: stored, or measured now in a few seconds."""
        memory_bytes = int(self.budget_bytes * PROBE_FRAC)
        return profile_for(self.files.largest_file, self.kernels, memory_bytes)

    @property
    def plan(self) -> Plan | None:
        """The plan that is loaded, if any."""
        return self._engine.machinery.plan if self._engine else None

    def plan_for(self, workload: Workload) -> Plan:
        """The plan for a workload; loads nothing. Raises BudgetError if none fits."""
        if self._planned is None or self._planned[0] != workload:
            plan = plan_beside(self._draft, self._request(workload), self._make_plan)
            self._planned = workload, plan
        return self._planned[1]

    def _make_plan(self, request: Request) -> Plan:
        saved = self._saved_plan
        return fixed_plan(request, saved) if saved is not None else make_plan(request)

    def predicted(self, workload: Workload) -> Figures:
        """What a workload should show with the plan that is loaded, or else with its best."""
        if self.plan is None:
            return self.plan_for(workload).predicted
        return fixed_plan(self._request(workload), choice_of(self.plan)).predicted

    def prepare(self, plan: Plan | None = None) -> None:
        """Quantize what the cache does not hold yet; the first call that needs weights does too.

        `plan` says in which format, where there are several to choose from. Raises StorageError
        (full disk; another call goes on) or CheckpointError (bad weights).
        """
        if plan is not None:
            self._take_formats(plan)
        self.files = prepared(self.files, self.kernels.threads, self._on_quantize)

    def _take_formats(self, plan: Plan) -> None:
        found = str(self.files.stored_format), str(self.files.kv_format)
        if found != (plan.weight_format, plan.kv_format):
            self.files = in_formats(self.choices, plan.weight_format, plan.kv_format)

    def load(self, workload: Workload) -> Plan:
        """Plan for a workload and load what the plan keeps in memory; returns the plan."""
        return self._engine_for(workload).machinery.plan

    def read_sweep(self) -> StepTime:
        """Time the reads of one sweep with nothing computed; after `load`."""
        if self._engine is None:
            raise ConfigError("No weights are loaded; call load with a workload first.")
        return self._engine.read_sweep()

    def generate(
        self,
        prompts: Prompt | Items[Prompt],
        sampling_params: Params | None = None,
        on_sweep: SweepCallback | None = None,
    ) -> list[RequestOutput]:
        """Complete prompts, given as text or token ids; outputs in the order of the prompts.

        `on_sweep` is called after every sweep with its record. Raises
        RequestError for a bad prompt, BudgetError if the budget is too small.
        """
        outputs = self.generate_each(prompts, sampling_params, on_sweep)
        return sorted(outputs, key=lambda output: output.index)

    def generate_each(
        self,
        prompts: Prompt | Items[Prompt],
        sampling_params: Params | None = None,
        on_sweep: SweepCallback | None = None,
    ) -> Iterator[RequestOutput]:
        """The same, each output as soon as it is finished; `output.index` is that of its prompt."""
        batch = _as_batch(prompts)
        gather = RequestGather()
        with closing(self._sweeps(self._sequences(batch, sampling_params))) as sweeps:
            for sampled in sweeps:
                self._report(on_sweep)
                done = [sequence for sequence in sampled if sequence.finish_reason]
                for request in gather.add(done):
                    prompt = batch[request[0].request]
                    yield request_output(request, prompt, self._decode)

    def stream(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams | None = None,
        on_sweep: SweepCallback | None = None,
    ) -> Iterator[str]:
        """The completion of one prompt, piece by piece as its characters are certain.

        Raises RequestError where more than one completion is asked for.
        """
        sequence, *others = self._sequences([prompt], sampling_params)
        if others:
            raise RequestError(
                f"n is {len(others) + 1}; a stream gives 1 completion, use generate."
            )
        stream = TextStream(self.tokenizer, sequence.params.stop)
        self._streams[sequence.index] = stream
        with closing(self._sweeps([sequence])) as sweeps:
            for _ in sweeps:
                self._report(on_sweep)
                yield stream.take(finished=sequence.finish_reason is not None)

    def chat(
        self, messages: Items[dict[str, str]], sampling_params: SamplingParams | None = None
    ) -> RequestOutput:
        """The answer to a conversation, by the chat template of the checkpoint."""
        prompt = self.tokenizer.apply_chat_template(messages)
        return self.generate([prompt], sampling_params)[0]

    def score(
        self,
        windows: Items[Window],
        consumer: ScoreConsumer,
        on_sweep: SweepCallback | None = None,
    ) -> None:
        """Compute windows and hand out the logits that predict their targets, as sweeps make them.

        `consumer(window, position, logits)` gets logits f32 [R, V] of the positions from
        `position` on, in order within a window; they are overwritten by the next sweep.
        """
        self._check_idle()
        self._streams = {}
        sequences = make_scored(windows, consumer, self.files.config)
        with closing(self._sweeps(sequences)) as sweeps:
            for _ in sweeps:
                self._report(on_sweep)

    def close(self) -> None:
        """Give memory, threads and files back; the next call loads again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_idle(self) -> None:
        if self._engine is not None and self._engine.has_work:
            raise RequestError(
                "Another run of this LLM is unfinished; take all of its outputs or close its "
                "iterator first."
            )

    def _sequences(self, prompts: Items[Prompt], params: Params | None) -> list[Sequence]:
        self._check_idle()
        sequences = make_sequences(
            prompts, params or SamplingParams(), self.files.config, lambda: self.tokenizer
        )
        self._streams = {
            sequence.index: TextStream(self.tokenizer, sequence.params.stop)
            for sequence in sequences
            if sequence.params.stop
        }
        return sequences

    def _sweeps(self, sequences: list[Sequence]) -> Generator[list[Sequence], None, None]:
        """Run to the end; yields after each sweep the sequences that got a token."""
        if not sequences:
            return
        if self._prefix_sharing:
            share_prefixes(sequences, self.files.config)
        engine = self._engine_for(workload_of(sequences))
        engine.records.clear()
        engine.add(sequences)
        try:
            while engine.has_work:
                yield engine.step()
            save_prefixes(sequences, engine.machinery)
        except GeneratorExit:
            engine.machinery.scheduler.drop_all()
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self.stats = RunStats(tuple(engine.records))
            self._write_trace()

    def _report(self, on_sweep: SweepCallback | None) -> None:
        if on_sweep and self._engine:
            on_sweep(self._engine.records[-1])

    def _request(self, workload: Workload) -> Request:
        aimed = replace(workload, objective=self._objective)
        spill_bytes = spill_room_bytes(self._spill_folder)
        return planning_request(
            self.choices,
            aimed,
            self.profile,
            self.budget_bytes,
            speculation=self._speculation,
            threads=self._threads,
            spill_bytes=spill_bytes,
        )

    def _engine_for(self, workload: Workload) -> Engine:
        if self._engine is not None and serves(self._engine.machinery.plan, workload):
            return self._engine
        plan = self.plan_for(workload)
        if self._engine is not None:
            loaded = self._engine.machinery.plan
            if covers(loaded, plan) and stages(loaded, workload):
                return self._engine
        self.close()
        self.prepare(plan)
        folder = self._prefix_folder
        machinery = build_machinery(
            self.files,
            plan,
            self.kernels,
            self._trace if self._trace_path else NullTrace(),
            self._overlap,
            self._on_load,
            folder if folder and worth_reading(self.files, plan, self.profile) else None,
            self._spill_folder,
        )
        try:
            drafts = self._drafts_for(workload, plan)
        except BaseException:
            machinery.close()
            raise
        self._engine = Engine(machinery, self.files.config.eos_token_ids, self._is_stopped, drafts)
        return self._engine

    def _drafts_for(self, workload: Workload, plan: Plan) -> Drafts:
        files, callbacks = self._draft, (self._on_load, self._on_quantize)
        draft = DraftLoading(files, self.kernels, *callbacks) if files else None
        return drafts_for(self._request(workload), plan, draft)

    def _is_stopped(self, sequence: Sequence, token: int) -> bool:
        stream = self._streams.get(sequence.index)
        return stream.add(token) if stream else False

    def _decode(self, token_ids: Items[int]) -> str:
        return self.tokenizer.decode(token_ids)

    def _write_trace(self) -> None:
        if self._trace_path:
            self._trace.write(self._trace_path)


def _ignore(done_bytes: int, total_bytes: int) -> None:
    """Progress that nobody wants to see."""


def _as_batch(prompts: Prompt | Items[Prompt]) -> list[Prompt]:
    """A single prompt, as text or as token ids, is a batch of one."""
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]
