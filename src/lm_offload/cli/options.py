"""The options of the commands, those that several share declared once.

Each is also a key of the --config file and an environment variable; see `settings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_offload import plan
from lm_offload.cli.declare import check_sink, option, settings_file, unset
from lm_offload.engine.output_file import check_writable
from lm_offload.server import parser_names

Model = Annotated[
    str,
    typer.Argument(
        help="Folder of a Hugging Face checkpoint or of what `quantize` made, a GGUF file, or a "
        "hub id in the local cache.",
        metavar="MODEL",
    ),
]

CpuMemory = Annotated[
    str | None,
    unset(
        "Budget for weights, KV cache, staging and activations together: 8GiB, 500MB, 80%. "
        "Default: what is free, less a margin."
    ),
]
GpuMemory = Annotated[
    str | None,
    unset(
        "Budget on a GPU, which then computes: 6GiB, 80%, or auto for what is free less a margin; "
        "6GiB,8GiB for two of them. Default: the CPU computes."
    ),
]
Device = Annotated[
    str | None,
    unset(
        "The GPU: cuda:0 (default where GPU memory is given), cuda:1, cuda:0,cuda:1 for a part of "
        "the layers on each, or standin:2GB/s, host memory that plays one behind a link of that "
        "speed, for tests."
    ),
]
Attention = Annotated[
    str,
    typer.Option(
        help="Where attention is computed beside a GPU: device, cpu (with the KV cache in CPU "
        "memory), or auto, by predicted time: one of them, or both, each for its own sequences."
    ),
]
InPlace = Annotated[
    str,
    typer.Option(
        help="What of the weights in CPU memory is computed there, beside a GPU, in sweeps of few "
        "rows: none (all is uploaded each time), mlp (all MLPs), layers (whole layers, with their "
        "keys and values, until all else is on the GPU), or auto, by predicted time."
    ),
]
OnOom = Annotated[
    plan.OnOom,
    option(
        "What is done when the GPU has no memory left: end with an error (stop), or go on with the "
        "next smaller plan (replan)."
    ),
]
_QUANTIZE = (
    "Quantize the weights, once, into the cache: int8, int4, fp8, with a group size as in int4:64 "
    "or int8:row{more}; :a8 at the end of the first two rounds activations to 8 bits too. Default: "
    "the checkpoint's own precision."
)
WeightFormat = Annotated[str | None, unset(_QUANTIZE.format(more=""))]
WeightFormatOrAuto = Annotated[
    str | None,
    unset(_QUANTIZE.format(more="; auto lets the planner choose"), "--weight-format"),
]
KvFormat = Annotated[
    str | None,
    unset(
        "Format of keys and values in the cache: int8 and int4 round them, fp32, bf16 and fp16 "
        "keep them, auto lets the planner choose. Default: the checkpoint's own precision."
    ),
]
SpillDir = Annotated[
    str | None,
    unset(
        "Folder on a disk for the part of the KV cache that does not fit, if the plan has one. "
        "Default: the cache folder."
    ),
]
SavedPlan = Annotated[
    Path | None,
    option(
        "Use the plan in this YAML file, which `lm-offload plan --save` wrote.",
        "--plan",
        show_default=False,
    ),
]
Objective = Annotated[
    plan.Objective,
    option(
        "What is made short: the run of all prompts (throughput), or the wait for the mean prompt "
        "(latency)."
    ),
]
Speculation = Annotated[
    plan.Speculation,
    option(
        "Draft tokens from the text itself and verify several in a sweep, which changes no token: "
        "where it is predicted to pay (auto), never (off), always (prompt-lookup), or always from "
        "the draft model alone (draft-model)."
    ),
]
DraftModel = Annotated[
    str | None,
    unset(
        "Folder of a small model with the same tokenizer that drafts tokens where the text does "
        "not repeat itself. It stays in memory, within the budget."
    ),
]
Exact = Annotated[
    bool, option("Refuse every format that rounds weights, keys or values.", "--exact")
]
Threads = Annotated[int | None, unset("Threads to compute with; default: every core allowed.")]
Overlap = Annotated[bool, option("Read the next weights while computing; off is for comparison.")]
PrefixSharing = Annotated[
    bool, option("Compute what prompts begin with alike once, also across calls.")
]
PrefixCache = Annotated[
    str | None,
    unset("Folder that keeps the beginnings of prompts, computed, for other processes."),
]
PrefixCacheLimit = Annotated[
    str | None,
    unset("Most that this folder may hold: what was not used for longest goes. Default: 4GiB."),
]
TraceFile = Annotated[
    Path | None,
    unset("Write a Chrome trace of reads, waits and compute (Perfetto).", callback=check_writable),
]

Output = Annotated[
    Path | None,
    unset(
        "Append what is finished as JSON lines; - is standard output.",
        "--output",
        "-o",
        callback=check_sink,
    ),
]
ServedModelName = Annotated[
    str | None, unset("The model's name in requests. Default: that of its folder.")
]
ReasoningParser = Annotated[
    parser_names.ReasoningParser,
    option(
        "How reasoning is told from what is said: by the chat template (auto), not at all (none), "
        "by think tags (qwen3, glm45; deepseek_r1 also where no tag opens it), by channels "
        "(openai_gptoss)."
    ),
]
ToolCallParser = Annotated[
    parser_names.ToolCallParser,
    option(
        "The form in which calls of tools are read: by the chat template, all where it teaches "
        "none that is known (auto), none, or one of them."
    ),
]

MOST_PROMPTS = 100_000  # that a plan is made for by a command
BatchSize = Annotated[int, option("Number of prompts.", min=1, max=MOST_PROMPTS)]
PromptLen = Annotated[int, option("Tokens of each prompt.", min=1)]
GenLen = Annotated[int, option("Tokens to generate for each prompt.", min=1)]

Yes = Annotated[bool, option("Do not ask.", "--yes", "-y")]
Json = Annotated[
    bool, option("Print JSON on standard output, all else on standard error.", "--json")
]
Quiet = Annotated[bool, option("No progress and no figures.", "--quiet", "-q")]


ConfigFile = Annotated[Path | None, settings_file("--config")]
SettingsFile = Annotated[Path | None, settings_file("--settings")]  # where --config is a model's
