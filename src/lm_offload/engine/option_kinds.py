"""Refuses options and workloads of a wrong type before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from os import PathLike
from typing import Any, get_args

from lm_offload.errors import ConfigError, RequestError
from lm_offload.plan import Objective, Workload
from lm_offload.planner.decided.plan_choice import PlanChoice

Kind = tuple[type | tuple[type, ...], str]  # and how it is said

_SIZE: Kind = (str, Integral, Real), "bytes, or text such as '8GiB'"
_PATH: Kind = (str, PathLike), "a path"
_TEXT: Kind = str, "text"
_SWITCH: Kind = bool, "True or False"
_FUNCTION: Kind = Callable, "a function"  # type: ignore[assignment]
KINDS: Mapping[str, Kind] = {
    "cpu_memory": _SIZE,
    "gpu_memory": _SIZE,
    "max_memory": (Mapping, "a mapping such as {'cpu': '8GiB'}"),
    "device": _TEXT,
    "threads": (Integral, "a whole number"),
    "overlap": _SWITCH,
    "trace": _PATH,
    "weight_format": _TEXT,
    "exact": _SWITCH,
    "kv_format": _TEXT,
    "plan": ((str, PathLike, PlanChoice), "a file that plan --save wrote"),
    "prefix_sharing": _SWITCH,
    "prefix_cache": _PATH,
    "prefix_cache_limit": _SIZE,
    "spill_dir": _PATH,
    "on_load": _FUNCTION,
    "on_quantize": _FUNCTION,
    "on_measure": _FUNCTION,
    "on_sweep": _FUNCTION,
}


def check_kinds(**options: Any) -> None:
    """Raises ConfigError for an option that is given and of another kind than its own."""
    for name, value in options.items():
        kinds, words = KINDS[name]
        is_number = not (isinstance(value, bool) and kinds is not bool)  # though a bool is an int
        is_empty = KINDS[name] is _PATH and value == ""  # which pathlib takes for this folder
        if value is not None and not (isinstance(value, kinds) and is_number and not is_empty):
            raise ConfigError(f"{name} is {value!r}; allowed is {words}.")


def check_objective(objective: str) -> None:
    """Raises ConfigError for what is none."""
    allowed = get_args(Objective)
    if objective not in allowed:
        raise ConfigError(f"objective is {objective!r}; allowed are {' and '.join(allowed)}.")


def check_workload(workload: Workload) -> None:
    """Raises RequestError for one without requests, and for lengths that are none."""
    if not isinstance(workload, Workload):
        raise RequestError(
            f"The workload is {workload!r}; allowed is Workload(prompt_lens, output_lens)."
        )
    prompts, outputs = workload.prompt_lens, workload.output_lens
    if not (_are_lengths(prompts) and _are_lengths(outputs) and len(prompts) == len(outputs)):
        raise RequestError(
            f"The workload has the prompt_lens {_shown(prompts)} and the output_lens "
            f"{_shown(outputs)}; allowed are two tuples of one length with whole numbers from 1."
        )


def _are_lengths(lengths: object) -> bool:
    is_full = isinstance(lengths, tuple) and bool(lengths)
    return is_full and all(isinstance(it, Integral) and int(it) >= 1 for it in lengths)  # type: ignore[attr-defined]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
