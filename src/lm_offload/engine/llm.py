"""The public face: a model folder and a memory budget in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lm_offload.engine.assembly import RunOptions
from lm_offload.engine.device_budget import memory_budgets
from lm_offload.engine.device_options import check_options
from lm_offload.engine.draft_files import open_draft
from lm_offload.engine.format_choices import open_choices
from lm_offload.engine.formats import check_on_device
from lm_offload.engine.option_kinds import check_kinds, check_objective
from lm_offload.engine.option_names import ELSEWHERE
from lm_offload.engine.out_of_memory import check_on_oom
from lm_offload.engine.output_file import check_writable
from lm_offload.engine.planned import Wishes
from lm_offload.engine.prefix_folder import prefix_folder
from lm_offload.engine.recurrent_options import check_recurrent
from lm_offload.engine.residents import LoadProgress
from lm_offload.engine.speculator import check_speculation
from lm_offload.engine.text_model import TextModel
from lm_offload.errors import ConfigError
from lm_offload.hardware.limits import check_threads
from lm_offload.hardware.visits import Report, unreported
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.keywords import known_keywords
from lm_offload.plan import Objective, OnOom, Speculation
from lm_offload.planner.decided.plan_choice import PlanChoice
from lm_offload.planner.decided.plan_text import read_plan
from lm_offload.storage.spill_folder import spill_folder


class LLM(TextModel):
    """A model that runs within a memory budget.

    `cpu_memory` is bytes or text such as "8GiB" or "80%" (of what is free); None takes what
    is free less a margin; `max_memory={"cpu": "8GiB"}`, as accelerate spells it, says the same.
    `gpu_memory="6GiB"`, or `max_memory={"cuda:0": "6GiB", "cpu": "8GiB"}`, lets that GPU compute
    within a budget of its own; `device` names another one, or several ("cuda:0,cuda:1") with a part
    of the layers each; `attention` is computed there ("device"), on the CPU with the KV cache in
    its memory ("cpu"), or where it is faster ("auto"); `in_place` says what of the weights in CPU
    memory the CPU computes there in sweeps of few rows: nothing ("none"), MLPs ("mlp"), layers
    with their keys and values ("layers"), or what is fastest ("auto").
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

    @known_keywords("LLM", ConfigError, ELSEWHERE)
    def __init__(
        self,
        model: str | Path,
        *,
        cpu_memory: str | int | None = None,
        max_memory: Mapping[str | int, str | int] | None = None,
        gpu_memory: str | int | None = None,
        device: str | None = None,
        attention: str = "auto",
        in_place: str = "auto",
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
        on_measure: Report | None = None,
    ) -> None:
        check_kinds(
            cpu_memory=cpu_memory,
            gpu_memory=gpu_memory,
            max_memory=max_memory,
            device=device,
            threads=threads,
            overlap=overlap,
            trace=trace,
            weight_format=weight_format,
            exact=exact,
            kv_format=kv_format,
            plan=plan,
            prefix_sharing=prefix_sharing,
            prefix_cache=prefix_cache,
            prefix_cache_limit=prefix_cache_limit,
            spill_dir=spill_dir,
            on_load=on_load,
            on_quantize=on_quantize,
            on_measure=on_measure,
        )
        check_objective(objective)
        saved = read_plan(Path(plan)) if isinstance(plan, str | Path) else plan
        choices = open_choices(model, weight_format, exact, saved, kv_format)
        on_cpu = attention, in_place
        budgets = memory_budgets(cpu_memory, max_memory, gpu_memory, device, saved, *on_cpu)
        if budgets.device is not None:
            check_options(overlap, speculation, prefix_cache, spill_dir, draft_model)
            check_on_device(choices[0].config, choices[0].stored_format)
        way = check_speculation(speculation, saved)
        check_recurrent(choices[0].config, way, draft_model, prefix_cache)
        wishes = Wishes(
            budgets.cpu_bytes,
            budgets.device,
            threads,
            objective,
            way,
            spill_folder(spill_dir),
            saved,
            open_draft(draft_model, choices[0], way),
            prefix_sharing,
        )
        options = RunOptions(
            overlap,
            check_writable(None if trace is None else Path(trace)),
            prefix_folder(prefix_cache, prefix_cache_limit, prefix_sharing),
            on_load or _ignore,
            on_quantize or _ignore,
            check_on_oom(on_oom, budgets.device),
            on_measure or unreported,
        )
        super().__init__(choices, resolve_kernels(check_threads(threads)), wishes, options)


def _ignore(done_bytes: int, total_bytes: int) -> None:
    """Progress that nobody wants to see."""
