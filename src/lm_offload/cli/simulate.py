"""`lm-offload simulate`: a model on a described machine, by calculation alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lm_offload.cli import options
from lm_offload.cli import simulate_options as own
from lm_offload.cli.report import print_json, report_console
from lm_offload.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    from lm_offload.cli.simulation import Simulation
    from lm_offload.planner.policies.constraints import Constraints
    from lm_offload.planner.policies.job import Job
    from lm_offload.planner.policies.policy import Policy
    from lm_offload.quant.format import Format


def simulate(
    model: own.Model,
    machine: own.Machine,
    prompt_len: options.PromptLen = 512,
    gen_len: options.GenLen = 32,
    batch_size: own.BlockSize = None,
    micro_batches: own.MicroBatches = None,
    schedule: own.Schedule = None,
    policy: own.PolicyFile = None,
    search: own.Search = False,
    objective: own.Objective = "throughput",
    exact: own.Exact = False,
    weight_format: own.WeightFormat = None,
    kv_format: own.KVFormat = None,
    pin: own.Pins = None,
    save: own.Save = None,
    trace: own.TraceFile = None,
    as_json: options.Json = False,
    settings: options.SettingsFile = None,
) -> None:
    """Predict how fast a model would run on a machine; neither has to be here."""
    from lm_offload.cli.simulation_report import print_simulation
    from lm_offload.planner.policies.constraints import Constraints, parse_pin

    wanted = Constraints(
        exact=exact,
        weight_format=_format(weight_format),
        kv_format=_format(kv_format),
        schedule=schedule,
        objective=objective,
        batch_size=batch_size,
        micro_batches=micro_batches,
        pins=dict(map(parse_pin, pin or [])),
    )
    job = _job(model, machine, prompt_len, gen_len)
    if policy is None:
        found = _search(model, job, wanted)
    else:
        _refuse_constraints(wanted, search)
        found = _given(model, job, policy, wanted)
    _write(found, save, trace)
    if as_json:
        print_json(found.record())
    else:
        print_simulation(report_console(as_json), found)


def _format(text: str | None) -> Format | None:
    from lm_offload.quant.format import parse_format

    return parse_format(text) if text else None


def _job(model: str, machine: str, prompt_len: int, gen_len: int) -> Job:
    from lm_offload.arch.shipped import find_config
    from lm_offload.hardware.machine_file import load_machine
    from lm_offload.planner.policies.job import Job
    from lm_offload.planner.policies.model_shape import model_shape

    return Job(model_shape(find_config(model)), load_machine(machine), prompt_len, gen_len)


def _search(model: str, job: Job, wanted: Constraints) -> Simulation:
    from lm_offload.cli.simulation import Simulation
    from lm_offload.planner.policies.constraints import choices_for
    from lm_offload.planner.policies.explain import gains, runners_up
    from lm_offload.planner.policies.search import search

    searched, best = search(job, choices_for(job, wanted))
    why = runners_up(searched, best), gains(searched)
    return Simulation(model, job, best.policy, best.time, *why)


def _refuse_constraints(wanted: Constraints, search: bool) -> None:
    """Raise ConfigError for options that a given policy leaves without effect."""
    given = {
        "--search": search,
        "--objective": wanted.objective != "throughput",
        "--exact": wanted.exact,
        "--weight-format": wanted.weight_format,
        "--kv-format": wanted.kv_format,
        "--pin": wanted.pins,
    }
    for name, value in given.items():
        if value:
            raise ConfigError(
                f"{name} was given together with --policy, which leaves nothing to search for; "
                "leave one of them out."
            )


def _given(model: str, job: Job, file: Path, wanted: Constraints) -> Simulation:
    from lm_offload.cli.simulation import Simulation
    from lm_offload.planner.policies.job import lacks_text
    from lm_offload.planner.policies.text import read_policy

    policy = _edited(read_policy(file), wanted)
    lacks = job.missing_bytes(policy)
    if lacks:
        raise BudgetError(
            f"The policy in {file.name} lacks {lacks_text(lacks)} on {job.machine.name}; move "
            "shares to another tier or make the block smaller."
        )
    return Simulation(model, job, policy, job.time(policy))


def _edited(policy: Policy, wanted: Constraints) -> Policy:
    """The policy with the block and the schedule that options ask for."""
    count = wanted.micro_batches or policy.num_micro_batches
    size = policy.micro_batch_size
    if wanted.batch_size is not None:
        size = wanted.batch_size // count
        if size * count != wanted.batch_size:
            raise ConfigError(
                f"A batch of {wanted.batch_size} cannot be cut into {count} equal micro-batches; "
                "choose a divisor."
            )
    schedule = wanted.schedule or policy.schedule
    return replace(policy, micro_batch_size=size, num_micro_batches=count, schedule=schedule)


def _write(found: Simulation, save: Path | None, trace: Path | None) -> None:
    """Files beside the report: the policy, and a sweep of decode as a trace."""
    from lm_offload.pipeline.trace import ChromeTrace
    from lm_offload.planner.policies.text import policy_text
    from lm_offload.storage.durable import write_named

    if save is not None:
        write_named(save, policy_text(found.policy).encode())
    if trace is not None:
        timeline = found.timeline("decode")
        layers = range(found.job.model.num_layers)
        names = [f"layers.{layer}.{kind}" for layer in layers for kind in ("attention", "mlp")]
        chrome = ChromeTrace([*names, "head"])
        for task in timeline.tasks:
            if timeline.ends_s[task.id] > timeline.starts_s[task.id]:
                chrome.record(task, timeline.starts_s[task.id], timeline.ends_s[task.id])
        chrome.write(trace)
