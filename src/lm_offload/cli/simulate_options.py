"""The options that only `lm-offload simulate` has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from lm_offload import plan
from lm_offload.cli.declare import option, unset
from lm_offload.cli.options import MOST_PROMPTS
from lm_offload.engine.output_file import check_writable
from lm_offload.planner.policies.constraints import MOST_MICRO_BATCHES
from lm_offload.planner.policies.policy import ScheduleKind

Model = Annotated[
    str,
    unset(
        "A config.json, a folder that has one, or a model that ships: opt-30b, llama-2-70b, "
        "mixtral-8x7b and others.",
        "--model",
        "--config",
    ),
]
Machine = Annotated[
    str,
    unset(
        "A YAML file, or a machine that ships: t4-208gb, a100-40gb, rtx3060-laptop and others.",
        "--machine",
    ),
]
BlockSize = Annotated[
    int | None, unset("Sequences of a block.", "--batch-size", min=1, max=MOST_PROMPTS)
]
MicroBatches = Annotated[
    int | None,
    unset(
        "Into how many micro-batches a block is cut.",
        "--micro-batches",
        min=1,
        max=MOST_MICRO_BATCHES,
    ),
]
PolicyFile = Annotated[Path | None, unset("The policy, in a YAML file.", "--policy", "--plan")]
Search = Annotated[
    bool, unset("Search for the best policy, as is done where none is given.", "--search")
]
Schedule = Annotated[ScheduleKind | None, unset("The only schedule.", "--schedule")]
Objective = Annotated[
    plan.Objective,
    option("What the search makes best; latency is that of one sequence or batch."),
]
Exact = Annotated[bool, unset("Search in the checkpoint's own precision only.", "--exact")]
WeightFormat = Annotated[
    str | None, unset("The only format of weights: int8, int4:64.", "--weight-format")
]
KVFormat = Annotated[str | None, unset("The only format of the KV cache.", "--kv-format")]
Pins = Annotated[
    list[str] | None,
    unset("Fix one choice, as in attention=cpu or weights=disk; may be repeated.", "--pin"),
]
Save = Annotated[
    Path | None, unset("Write the policy to a file.", "--save", callback=check_writable)
]
TraceFile = Annotated[
    Path | None,
    unset(
        "Write a Chrome trace of one decode sweep (Perfetto).", "--trace", callback=check_writable
    ),
]
