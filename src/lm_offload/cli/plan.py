"""`lm-offload plan`: what would be resident, how fast it would run, and why; loads no weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console

from lm_offload.cli import options
from lm_offload.cli.measure import Shape, check_shape
from lm_offload.cli.plan_report import print_explanation, print_spare
from lm_offload.cli.plan_table import print_plan
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.report import people_console, print_json, report_console
from lm_offload.cli.uncollected import uncollected
from lm_offload.engine.output_file import check_writable
from lm_offload.plan import Plan

if TYPE_CHECKING:
    from lm_offload.cli.verify import Verification
    from lm_offload.engine.plan_request import PlanningCase
    from lm_offload.planner.choose.spare_sequences import Spare
    from lm_offload.planner.decided.plan_choice import PlanChoice
    from lm_offload.planner.reasons.explain import Explanation
    from lm_offload.planner.request import Request

GPU_NOTE = (
    "This plan uses the CPU and the disk of {name} alone; --gpu-memory plans for its GPU, and "
    "lm-offload simulate in the general terms of published systems."
)


def plan(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a checkpoint, hub id in the local cache, bare config.json, or the "
            "name of a model whose config ships.",
            metavar="MODEL",
        ),
    ],
    batch_size: options.BatchSize = 1,
    prompt_len: options.PromptLen = 128,
    gen_len: options.GenLen = 128,
    objective: options.Objective = "throughput",
    speculation: options.Speculation = "auto",
    draft_model: options.DraftModel = None,
    cpu_memory: options.CpuMemory = None,
    gpu_memory: options.GpuMemory = None,
    device: options.Device = None,
    attention: options.Attention = "auto",
    in_place: options.InPlace = "auto",
    weight_format: options.WeightFormatOrAuto = None,
    kv_format: options.KvFormat = None,
    spill_dir: options.SpillDir = None,
    exact: options.Exact = False,
    threads: options.Threads = None,
    machine: Annotated[
        str | None,
        typer.Option(
            help="Plan for another machine: a YAML file, or the name of one that ships.",
            show_default=False,
        ),
    ] = None,
    saved_plan: options.SavedPlan = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write the plan to this YAML file, for --plan.",
            show_default=False,
            callback=check_writable,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the best plans for a few tokens and compare.")
    ] = False,
    as_json: options.Json = False,
    config: options.ConfigFile = None,
) -> None:
    """Show the plan for a workload, its predicted speed, what bounds it and what was not chosen."""
    from lm_offload.engine.plan_options import PlanOptions
    from lm_offload.engine.plan_request import planning_case
    from lm_offload.planner.decided.plan_text import read_plan

    choice = read_plan(saved_plan) if saved_plan else None
    asked = PlanOptions(
        model=model,
        weight_format=weight_format,
        exact=exact,
        cpu_memory=cpu_memory,
        gpu_memory=gpu_memory,
        device=device,
        attention=attention,
        in_place=in_place,
        threads=threads,
        machine=machine,
        plan=choice,
        kv_format=kv_format,
        speculation=speculation,
        draft_model=draft_model,
        spill_dir=spill_dir,
    )
    shape = Shape(batch_size, prompt_len, gen_len)
    workload = replace(shape.workload, objective=objective)
    with RunProgress(people_console(quiet=False)) as progress:
        case = planning_case(asked, workload, progress.on_measure)
    check_shape(case.request.config, shape)
    if verify:
        case.check_runnable()
    with uncollected():
        found = _found(case, choice, save, Path(model).name)
    console = report_console(as_json, quiet=as_json)
    _print_found(console, found)
    record = {**vars(found.chosen), "explanation": found.explanation, "spare": found.spare}
    if verify:
        record["verification"] = _verified(found.request, model, shape, console)
    if as_json:
        print_json(record)
    _print_notes(people_console(quiet=False), case.request)


def _print_notes(console: Console, request: Request) -> None:
    """What the plan leaves out of the machine, and what is known against its profile."""
    from lm_offload.hardware.profile_notes import disturbance_note

    if request.profile.gpu is not None and request.device is None:
        console.print(GPU_NOTE.format(name=request.profile.name))
    if note := disturbance_note(request.profile):
        console.print(note)


class _Found(NamedTuple):
    """A plan, what it was made for and why it was chosen."""

    request: Request
    chosen: Plan
    explanation: Explanation
    spare: Spare


def _found(case: PlanningCase, choice: PlanChoice | None, save: Path | None, name: str) -> _Found:
    """The plan is saved before it is explained, which may take longer."""
    from lm_offload.planner.choose.spare_sequences import given_spare, spare_of
    from lm_offload.planner.reasons.explain import explain

    chosen = case.plan(choice)
    if save is not None:
        _save(save, chosen, name)
    request = case.request_beside(chosen)
    explanation = explain(request, chosen, case.forbidden, case.common)
    spare = given_spare(chosen) if choice else spare_of(request, chosen, case.common)
    return _Found(request, chosen, explanation, spare)


def _print_found(console: Console, found: _Found) -> None:
    print_plan(console, found.chosen)
    print_spare(console, found.spare)
    print_explanation(console, found.chosen, found.explanation)


def _verified(request: Request, model: str, shape: Shape, console: Console) -> Verification:
    from lm_offload.cli.verify import print_verification, verify

    with RunProgress(people_console(quiet=False)) as progress:
        found = verify(model, request, shape, progress)
    print_verification(console, found)
    return found


def _save(file: Path, chosen: Plan, model: str) -> None:
    from lm_offload.planner.decided.plan_text import plan_text
    from lm_offload.storage.durable import write_named

    write_named(file, plan_text(chosen, model).encode())
