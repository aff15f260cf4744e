"""The options of the commands, those that several share declared once.

Each is also a key of the --config file and an environment variable; see `settings`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from lm_offload import plan
from lm_offload.cli.settings import apply_settings
from lm_offload.errors import ConfigError


def _option(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, **more)


def _unset(help: str, *names: str, **more: Any) -> Any:
    """An option whose default is said in its help."""
    return _option(help, *names, show_default=False, **more)


def check_writable(file: Path | None) -> Path | None:
    """Callback of output files: raises ConfigError now instead of after a long run."""
    if file is not None and (file.is_dir() or not os.access(file.parent, os.W_OK)):
        raise ConfigError(f"{file} cannot be written; name a file in a folder that is writable.")
    return file


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
    _unset(
        "Budget for weights, KV cache, staging and activations together: 8GiB, 500MB, 80%. "
        "Default: what is free, less a margin."
    ),
]
GpuMemory = Annotated[
    str | None,
    _unset(
        "Budget on a GPU, which then computes: 6GiB, 80%, or auto for what is free less a margin; "
        "6GiB,8GiB for two of them. Default: the CPU computes."
    ),
]
Device = Annotated[
    str | None,
    _unset(
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
Mlp = Annotated[
    str,
    typer.Option(
        help="Where MLPs that lie in CPU memory are computed beside a GPU in sweeps of few rows: "
        "device (uploaded each time), cpu (in place), or auto, by predicted time."
    ),
]
OnOom = Annotated[
    plan.OnOom,
    _option(
        "What is done when the GPU has no memory left: end with an error (stop), or go on with the "
        "next smaller plan (replan)."
    ),
]
_QUANTIZE = (
    "Quantize the weights, once, into the cache: int8, int4, with a group size as in int4:64 or "
    "int8:row{more}; :a8 at the end rounds activations to 8 bits too. Default: the checkpoint's "
    "own precision."
)
WeightFormat = Annotated[str | None, _unset(_QUANTIZE.format(more=""))]
WeightFormatOrAuto = Annotated[
    str | None,
    _unset(_QUANTIZE.format(more="; auto lets the planner choose"), "--weight-format"),
]
KvFormat = Annotated[
    str | None,
    _unset(
        "Format of keys and values in the cache: int8 and int4 round them, fp32, bf16 and fp16 "
        "keep them, auto lets the planner choose. Default: the checkpoint's own precision."
    ),
]
SpillDir = Annotated[
    str | None,
    _unset(
        "Folder on a disk for the part of the KV cache that does not fit, if the plan has one. "
        "Default: the cache folder."
    ),
]
SavedPlan = Annotated[
    Path | None,
    _option(
        "Use the plan in this YAML file, which `lm-offload plan --save` wrote.",
        "--plan",
        show_default=False,
    ),
]
Objective = Annotated[
    plan.Objective,
    _option(
        "What is made short: the run of all prompts (throughput), or the wait for the mean prompt "
        "(latency)."
    ),
]
Speculation = Annotated[
    plan.Speculation,
    _option(
        "Draft tokens from the text itself and verify several in a sweep, which changes no token: "
        "where it is predicted to pay (auto), never (off), always (prompt-lookup), or always from "
        "the draft model alone (draft-model)."
    ),
]
DraftModel = Annotated[
    str | None,
    _unset(
        "Folder of a small model with the same tokenizer that drafts tokens where the text does "
        "not repeat itself. It stays in memory, within the budget."
    ),
]
Exact = Annotated[
    bool, _option("Refuse every format that rounds weights, keys or values.", "--exact")
]
Threads = Annotated[int | None, _unset("Threads to compute with; default: every core allowed.")]
Overlap = Annotated[bool, _option("Read the next weights while computing; off is for comparison.")]
PrefixSharing = Annotated[
    bool, _option("Compute what prompts begin with alike once, also across calls.")
]
PrefixCache = Annotated[
    Path | None,
    _unset("Folder that keeps the beginnings of prompts, computed, for other processes."),
]
PrefixCacheLimit = Annotated[
    str | None,
    _unset("Most that this folder may hold: what was not used for longest goes. Default: 4GiB."),
]
TraceFile = Annotated[
    Path | None,
    _unset("Write a Chrome trace of reads, waits and compute (Perfetto).", callback=check_writable),
]

BatchSize = Annotated[int, _option("Number of prompts.", min=1)]
PromptLen = Annotated[int, _option("Tokens of each prompt.", min=1)]
GenLen = Annotated[int, _option("Tokens to generate for each prompt.", min=1)]

MaxTokens = Annotated[int, _option("Most tokens to generate for each prompt.")]
Temperature = Annotated[float, _option("0 is greedy.")]
TopK = Annotated[int, _option("Draw from the K likeliest tokens; 0 is all.")]
TopP = Annotated[float, _option("Draw from the likeliest tokens that sum to P.")]
MinP = Annotated[float, _option("Ignore tokens less likely than P times the likeliest.")]
RepetitionPenalty = Annotated[
    float, _option("Divides the logits of tokens in prompt or output; 1 is none.")
]
PresencePenalty = Annotated[
    float, _option("Subtracted from the logits of each token in the output.")
]
FrequencyPenalty = Annotated[
    float, _option("Subtracted for each time that a token is in the output.")
]
Seed = Annotated[int, _option("Seed of the random numbers.")]
Stop = Annotated[list[str] | None, _unset("End at this text; may be repeated.")]
IgnoreEos = Annotated[bool, _option("Go on after an end token.", "--ignore-eos")]

Yes = Annotated[bool, _option("Do not ask.", "--yes", "-y")]
Json = Annotated[
    bool, _option("Print JSON on standard output, all else on standard error.", "--json")
]
Quiet = Annotated[bool, _option("No progress and no figures.", "--quiet", "-q")]


def _settings_file(name: str) -> Any:
    return typer.Option(
        name,
        help="YAML file whose keys are the long names of these options; options and "
        "LM_OFFLOAD_<OPTION> variables win over it.",
        show_default=False,
        is_eager=True,
        callback=apply_settings,
        envvar="LM_OFFLOAD_CONFIG",
        show_envvar=False,
    )


ConfigFile = Annotated[Path | None, _settings_file("--config")]
SettingsFile = Annotated[Path | None, _settings_file("--settings")]  # where --config is a model's
