"""The public face: a model folder and a memory budget in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import closing
from functools import cached_property
from pathlib import Path

from lm_offload.engine.device_budget import check_options, memory_budgets
from lm_offload.engine.draft_files import open_draft
from lm_offload.engine.eval_windows import Window
from lm_offload.engine.format_choices import open_choices
from lm_offload.engine.loaded import LoadedModel, RunOptions, SweepCallback
from lm_offload.engine.out_of_memory import check_on_oom
from lm_offload.engine.outputs import RequestOutput
from lm_offload.engine.planned import Wishes
from lm_offload.engine.prefix_folder import prefix_folder
from lm_offload.engine.requests import (
    Prompt,
    ScoreConsumer,
    check_threads,
    make_scored,
    make_sequences,
)
from lm_offload.engine.residents import LoadProgress
from lm_offload.engine.results import RequestGather, check_finished, request_output
from lm_offload.engine.speculator import check_speculation
from lm_offload.engine.text_stream import TextStream
from lm_offload.engine.tokenizer import Tokenizer, load_tokenizer
from lm_offload.errors import RequestError
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.plan import Objective, OnOom, Speculation
from lm_offload.planner.plan_text import PlanChoice, read_plan
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Sequence
from lm_offload.storage.spill_folder import spill_folder

Params = SamplingParams | Items[SamplingParams]


class LLM(LoadedModel):
    """A model that runs within a memory budget.

    `cpu_memory` is bytes or text such as "8GiB" or "80%" (of what is free); None takes what
    is free less a margin; `max_memory={"cpu": "8GiB"}`, as accelerate spells it, says the same.
    `gpu_memory="6GiB"`, or `max_memory={"cuda:0": "6GiB", "cpu": "8GiB"}`, lets that GPU compute
    within a budget of its own; `device` names another one; `attention` is computed there
    ("device"), on the CPU with the KV cache in its memory ("cpu"), or where it is faster ("auto").
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
    by default the cache folder, as a file without a name. With `on_oom="replan"` a run whose GPU
    has no memory left goes on with a smaller plan instead of ending. Headers are read here, weights
    at the first call. Close it, or use it in a `with` block, to give its memory and files back.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        cpu_memory: str | int | None = None,
        max_memory: Mapping[str | int, str | int] | None = None,
        gpu_memory: str | int | None = None,
        device: str | None = None,
        attention: str = "auto",
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
        on_oom: OnOom = "stop",
        on_load: LoadProgress | None = None,
        on_quantize: LoadProgress | None = None,
    ) -> None:
        saved = read_plan(Path(plan)) if isinstance(plan, str | Path) else plan
        choices = open_choices(model, weight_format, exact, saved, kv_format)
        budgets = memory_budgets(cpu_memory, max_memory, gpu_memory, device, saved, attention)
        if budgets.device is not None:
            check_options(overlap, speculation, prefix_cache, spill_dir, draft_model)
        way = check_speculation(speculation, saved)
        wishes = Wishes(
            budgets.cpu_bytes,
            budgets.device,
            threads,
            objective,
            way,
            spill_folder(spill_dir),
            saved,
            open_draft(draft_model, choices[0], way),
        )
        options = RunOptions(
            overlap,
            Path(trace) if trace else None,
            prefix_sharing,
            prefix_folder(prefix_cache, prefix_cache_limit, prefix_sharing),
            on_load or _ignore,
            on_quantize or _ignore,
            check_on_oom(on_oom, budgets.device),
        )
        super().__init__(choices, resolve_kernels(check_threads(threads)), wishes, options)
        self._streams: dict[int, TextStream] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint, loaded at first use."""
        return load_tokenizer(self.files.folder)

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
        check_finished([sequence])

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
        check_finished(sequences)

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

    def _is_stopped(self, sequence: Sequence, token: int) -> bool:
        stream = self._streams.get(sequence.index)
        return stream.add(token) if stream else False

    def _decode(self, token_ids: Items[int]) -> str:
        return self.tokenizer.decode(token_ids)


def _ignore(done_bytes: int, total_bytes: int) -> None:
    """Progress that nobody wants to see."""


def _as_batch(prompts: Prompt | Items[Prompt]) -> list[Prompt]:
    """A single prompt, as text or as token ids, is a batch of one."""
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]
