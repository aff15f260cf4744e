"""`lm-offload batch`: a file of OpenAI's batch requests, answered by this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lm_offload.cli import options
from lm_offload.cli.batch_file import (
    MadeSink,
    left_to_answer,
    made_of,
    parsers_as_made,
    read_requests,
)
from lm_offload.cli.declare import check_installed, option
from lm_offload.cli.line_file import LineSink, check_apart, line_sink
from lm_offload.cli.made_with import model_as_made
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.report import people_console
from lm_offload.cli.stats_report import print_stats
from lm_offload.errors import RequestError

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM
    from lm_offload.engine.outputs import RequestOutput
    from lm_offload.server.batch_lines import BatchLine, Job
    from lm_offload.server.parsers import Parsers


def batch(
    model: options.Model,
    requests: Annotated[
        Path, option("Requests, one a line; - is standard input.", "--input", "-i")
    ],
    output: options.Output = None,
    resume: Annotated[
        bool, option("Leave out requests that --output has an answer of already.", "--resume")
    ] = False,
    served_model_name: options.ServedModelName = None,
    reasoning_parser: options.ReasoningParser = "auto",
    tool_call_parser: options.ToolCallParser = "auto",
    cpu_memory: options.CpuMemory = None,
    gpu_memory: options.GpuMemory = None,
    device: options.Device = None,
    attention: options.Attention = "auto",
    in_place: options.InPlace = "auto",
    on_oom: options.OnOom = "stop",
    weight_format: options.WeightFormatOrAuto = None,
    kv_format: options.KvFormat = None,
    spill_dir: options.SpillDir = None,
    exact: options.Exact = False,
    objective: options.Objective = "throughput",
    speculation: options.Speculation = "auto",
    draft_model: options.DraftModel = None,
    saved_plan: options.SavedPlan = None,
    threads: options.Threads = None,
    prefix_sharing: options.PrefixSharing = True,
    prefix_cache: options.PrefixCache = None,
    prefix_cache_limit: options.PrefixCacheLimit = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.ConfigFile = None,
) -> None:
    """Answer a file of OpenAI's batch requests, each as soon as it is finished."""
    check_installed()
    from lm_offload.engine.llm import LLM
    from lm_offload.server.parsers import parsers_for

    console = people_console(quiet)
    check_apart(output, requests)
    lines = read_requests(requests)
    with RunProgress(console) as progress:
        llm = LLM(
            model,
            cpu_memory=cpu_memory,
            gpu_memory=gpu_memory,
            device=device,
            attention=attention,
            in_place=in_place,
            on_oom=on_oom,
            threads=threads,
            prefix_sharing=prefix_sharing,
            prefix_cache=prefix_cache,
            prefix_cache_limit=prefix_cache_limit,
            weight_format=weight_format,
            kv_format=kv_format,
            spill_dir=spill_dir,
            exact=exact,
            objective=objective,
            speculation=speculation,
            draft_model=draft_model,
            plan=saved_plan,
            on_load=progress.on_load,
            on_quantize=progress.on_quantize,
            on_measure=progress.on_measure,
        )
        made = {**model_as_made(llm), **parsers_as_made(reasoning_parser, tool_call_parser)}
        left = left_to_answer(lines, output, made) if resume else lines
        if not left:
            console.print(f"{output} has an answer to every request already ({len(lines)}).")
            return
        with llm, line_sink(output) as sink:
            name = served_model_name or llm.files.folder.name
            parsers = parsers_for(llm.tokenizer, reasoning_parser, tool_call_parser)
            jobs = list(_jobs(llm, left, name, parsers, sink))
            made_by_id = {line.custom_id: made_of(line, made) for line in left}
            _answer_all(llm, jobs, progress, MadeSink(sink, made_by_id))
            progress.stop()
            if jobs:
                print_stats(console, llm.stats)


def _jobs(
    llm: LLM, lines: list[BatchLine], name: str, parsers: Parsers, sink: LineSink
) -> Iterator[Job]:
    """What can be run; the others are answered with why not."""
    from lm_offload.server.batch_lines import job_of, refusal_line

    for line in lines:
        try:
            yield job_of(line, name, llm, parsers)
        except RequestError as error:
            sink.write(refusal_line(line.custom_id, error))


def _answer_all(llm: LLM, jobs: list[Job], progress: RunProgress, sink: LineSink) -> None:
    """A line for each job when the last of its prompts is finished."""
    from lm_offload.server.batch_lines import response_line

    owners = [job for job in jobs for _ in job.prompts]
    prompts = [prompt for job in jobs for prompt in job.prompts]
    params = [job.question.params for job in owners]
    longest = llm.files.config.max_positions
    most = [
        one.n * min(one.most_tokens, longest - len(prompt))
        for one, prompt in zip(params, prompts, strict=True)
    ]
    prefill = sum(one.n * len(prompt) for one, prompt in zip(params, prompts, strict=True))
    progress.expect(prefill, sum(most) - sum(one.n for one in params))
    waiting: dict[str, list[RequestOutput]] = {}
    for result in llm.generate_each(prompts, params, progress.on_sweep):
        given = sum(len(completion.token_ids) for completion in result.outputs)
        progress.on_early_end(most[result.index] - given)
        job = owners[result.index]
        outputs = waiting.setdefault(job.custom_id, [])
        outputs.append(result)
        if len(outputs) == len(job.prompts):
            outputs.sort(key=lambda one: one.index)
            sink.write(response_line(job, waiting.pop(job.custom_id)))
