"""`lm-offload serve`: OpenAI's HTTP interface over a model that need not fit in memory."""

from __future__ import annotations

import socket
from typing import Annotated

from rich.console import Console

from lm_offload.cli import options
from lm_offload.cli.declare import check_installed, option, unset
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.report import people_console, print_json
from lm_offload.plan import Workload


def serve(
    model: options.Model,
    host: Annotated[str, option("Address to listen at; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, option("Port to listen at; 0 is any free one.", min=0, max=65535)] = 8000,
    api_key: Annotated[
        str | None, unset("What clients must give as their API key. Default: anybody may ask.")
    ] = None,
    served_model_name: options.ServedModelName = None,
    reasoning_parser: options.ReasoningParser = "auto",
    tool_call_parser: options.ToolCallParser = "auto",
    context_len: Annotated[
        int, option("Most tokens of a sequence, prompt and output together.", min=2)
    ] = 4096,
    max_running: Annotated[
        int, option("Sequences of that length to reserve memory for.", min=1, max=1024)
    ] = 4,
    max_waiting: Annotated[
        int, option("Prompts that may wait beside them; more are refused.", min=0)
    ] = 256,
    cpu_memory: options.CpuMemory = None,
    gpu_memory: options.GpuMemory = None,
    device: options.Device = None,
    attention: options.Attention = "auto",
    in_place: options.InPlace = "auto",
    weight_format: options.WeightFormatOrAuto = None,
    kv_format: options.KvFormat = None,
    spill_dir: options.SpillDir = None,
    exact: options.Exact = False,
    objective: options.Objective = "latency",
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
    """Answer OpenAI's clients: /v1/chat/completions, /v1/responses, /v1/completions and more."""
    check_installed()
    from lm_offload.engine.llm import LLM
    from lm_offload.server.app import Server, make_app
    from lm_offload.server.listener import Listener, open_socket
    from lm_offload.server.metrics import Metrics
    from lm_offload.server.parsers import parsers_for
    from lm_offload.server.worker import Worker

    console = people_console(quiet)
    with open_socket(host, port) as listening, RunProgress(console) as progress:
        llm = LLM(
            model,
            cpu_memory=cpu_memory,
            gpu_memory=gpu_memory,
            device=device,
            attention=attention,
            in_place=in_place,
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
        with llm:
            longest = min(context_len, llm.files.config.max_positions)
            workload = _workload(longest, max_running)
            llm.load(workload)
            progress.stop()
            metrics = Metrics()
            worker = Worker(llm, workload, metrics, max_waiting)
            name = served_model_name or llm.files.folder.name
            parsers = parsers_for(llm.tokenizer, reasoning_parser, tool_call_parser)
            app = make_app(Server(worker, metrics, name, longest, parsers, api_key))
            _announce(listening, name, as_json, console)
            with Listener(app, listening):
                worker.run()


def _workload(context_len: int, max_running: int) -> Workload:
    """Sequences that fill their context, half of it with output, unless they end before."""
    output_len = context_len // 2
    prompts = (context_len - output_len,) * max_running
    return Workload(prompts, (output_len,) * max_running, may_end_early=True)


def _announce(listening: socket.socket, name: str, as_json: bool, console: Console) -> None:
    """Say where clients find the model, as soon as they would be answered."""
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    if as_json:
        print_json({"url": url, "model": name})
    console.print(f"Serving {name} at {url} (Ctrl-C ends it)", highlight=False)
