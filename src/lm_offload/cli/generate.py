"""`lm-offload generate`: complete prompts with a model that need not fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_offload.cli import options, sampling_options
from lm_offload.cli.line_file import LineSink, check_apart, line_sink
from lm_offload.cli.made_with import Made, model_as_made, sampling_as_made
from lm_offload.cli.plan_table import print_plan
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.prompts import PromptSet, left_to_do, read_prompts, write_output
from lm_offload.cli.report import people_console
from lm_offload.cli.stats_report import print_stats
from lm_offload.cli.streaming import stream_text
from lm_offload.sampling import SamplingParams

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM


def generate(
    model: options.Model,
    prompt: Annotated[
        list[str] | None, typer.Option(help="May be repeated.", show_default=False)
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            help='One prompt a line, or .jsonl with {"prompt": ...}; - is standard input.',
            show_default=False,
        ),
    ] = None,
    output: options.Output = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Leave out prompts that --output has a line of already."),
    ] = False,
    chat: Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")] = False,
    max_tokens: sampling_options.MaxTokens = 128,
    min_tokens: sampling_options.MinTokens = 0,
    temperature: sampling_options.Temperature = 0.0,
    top_k: sampling_options.TopK = 0,
    top_p: sampling_options.TopP = 1.0,
    min_p: sampling_options.MinP = 0.0,
    repetition_penalty: sampling_options.RepetitionPenalty = 1.0,
    presence_penalty: sampling_options.PresencePenalty = 0.0,
    frequency_penalty: sampling_options.FrequencyPenalty = 0.0,
    logit_bias: sampling_options.LogitBias = None,
    bad_words: sampling_options.BadWords = None,
    allowed_token_ids: sampling_options.AllowedTokenIds = None,
    json_schema: sampling_options.JsonSchema = None,
    regex: sampling_options.Regex = None,
    choice: sampling_options.Choice = None,
    seed: sampling_options.Seed = 0,
    n: sampling_options.N = 1,
    stop: sampling_options.Stop = None,
    include_stop_str_in_output: sampling_options.IncludeStop = False,
    ignore_eos: sampling_options.IgnoreEos = False,
    skip_special_tokens: sampling_options.SkipSpecialTokens = True,
    truncate_prompt_tokens: sampling_options.TruncatePromptTokens = None,
    logprobs: sampling_options.Logprobs = None,
    prompt_logprobs: sampling_options.PromptLogprobs = None,
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
    overlap: options.Overlap = True,
    prefix_sharing: options.PrefixSharing = True,
    prefix_cache: options.PrefixCache = None,
    prefix_cache_limit: options.PrefixCacheLimit = None,
    trace: options.TraceFile = None,
    show_plan: Annotated[bool, typer.Option("--show-plan", help="Print the plan.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.ConfigFile = None,
) -> None:
    """Complete one prompt, streamed to the terminal, or many, each as soon as it is finished."""
    from lm_offload.engine.llm import LLM

    console = people_console(quiet)
    if prompts_file is not None:
        check_apart(output, prompts_file)
    prompts = read_prompts(prompt or [], prompts_file)
    params = SamplingParams(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=sampling_options.biases(logit_bias),
        bad_words=tuple(bad_words or ()),
        allowed_token_ids=allowed_token_ids or None,
        seed=seed,
        n=n,
        stop=tuple(stop or ()),
        include_stop_str_in_output=include_stop_str_in_output,
        ignore_eos=ignore_eos,
        skip_special_tokens=skip_special_tokens,
        truncate_prompt_tokens=truncate_prompt_tokens,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        structured_outputs=sampling_options.held_to(json_schema, regex, choice),
    )
    scored = logprobs is not None or prompt_logprobs is not None
    one_by_one = output or as_json or n > 1 or scored or len(prompts) > 1
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
            overlap=overlap,
            prefix_sharing=prefix_sharing,
            prefix_cache=prefix_cache,
            prefix_cache_limit=prefix_cache_limit,
            trace=trace,
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
        way = {"chat": True} if chat else {}
        made = {**model_as_made(llm), **way, **sampling_as_made(params)}
        indices = left_to_do(prompts, output, made) if resume else list(range(len(prompts)))
        if not indices:
            console.print(f"{output} has a line of every prompt already ({len(prompts)}).")
            return
        with llm, line_sink(output) as sink:
            texts = [prompts[index] for index in indices]
            encoded = PromptSet(texts, [_encoded(llm, text, chat) for text in texts])
            encoded.announce(progress, params, llm.files.config.max_positions)
            if one_by_one:
                _write_all(llm, encoded, indices, params, progress, sink, made)
            else:
                stream_text(llm, encoded.token_ids[0], params, progress)
            progress.stop()
            if show_plan and llm.plan:
                print_plan(console, llm.plan)
            print_stats(console, llm.stats)


def _write_all(
    llm: LLM,
    prompts: PromptSet,
    indices: Sequence[int],
    params: SamplingParams,
    progress: RunProgress,
    sink: LineSink,
    made: Made,
) -> None:
    for result in llm.generate_each(prompts.token_ids, params, progress.on_sweep):
        write_output(sink, indices[result.index], prompts.texts[result.index], result, made)
        given = sum(len(completion.token_ids) for completion in result.outputs)
        progress.on_early_end(params.n * params.most_tokens - given)


def _encoded(llm: LLM, prompt: str, chat: bool) -> list[int]:
    if not chat:
        return llm.tokenizer.encode(prompt)
    return llm.tokenizer.apply_chat_template([{"role": "user", "content": prompt}])
