"""The options that only `lm-offload simulate` has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lm_offload import plan
from lm_offload.cli.options import check_writable
from lm_offload.planner.policies.policy import ScheduleKind


def _option(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, show_default=False, **more)


Model = Annotated[
    str,
    _option(
        "A config.json, a folder that has one, or a model that ships: opt-30b, llama-2-70b, "
        "mixtral-8x7b and others.",
        "--model",
        "--config",
    ),
]
Machine = Annotated[
    str,
    _option(
        "A YAML file, or a machine that ships: t4-208gb, a100-40gb, rtx3060-laptop and others.",
        "--machine",
    ),
]
BlockSize = Annotated[int | None, _option("Sequences of a block.", "--batch-size", min=1)]
MicroBatches = Annotated[
    int | None, _option("Into how many micro-batches a block is cut.", "--micro-batches", min=1)
]
PolicyFile = Annotated[Path | None, _option("The policy, in a YAML file.", "--policy", "--plan")]
Search = Annotated[
    bool, _option("Search for the best policy, as is done where none is given.", "--search")
]
Schedule = Annotated[ScheduleKind | None, _option("The only schedule.", "--schedule")]
Objective = Annotated[
    plan.Objective,
    typer.Option(help="What the search makes best; latency is that of one sequence or batch."),
]
Exact = Annotated[bool, _option("Search in the checkpoint's own precision only.", "--exact")]
WeightFormat = Annotated[
    str | None, _option("The only format of weights: int8, int4:64.", "--weight-format")
]
KVFormat = Annotated[str | None, _option("The only format of the KV cache.", "--kv-format")]
Pins = Annotated[
    list[str] | None,
    _option("Fix one choice, as in attention=cpu or weights=disk; may be repeated.", "--pin"),
]
Save = Annotated[
    Path | None, _option("Write the policy to a file.", "--save", callback=check_writable)
]
TraceFile = Annotated[
    Path | None,
    _option(
        "Write a Chrome trace of one decode sweep (Perfetto).", "--trace", callback=check_writable
    ),
]
