"""Run language models that do not fit in memory.

The names below are loaded at first use, so that importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_offload.engine.completion import CompletionOutput
    from lm_offload.engine.llm import LLM
    from lm_offload.engine.outputs import RequestOutput, RunStats
    from lm_offload.errors import LMOffloadError
    from lm_offload.plan import Plan, Workload
    from lm_offload.sampling import SamplingParams, StructuredOutputs

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "CompletionOutput",
    "LMOffloadError",
    "Plan",
    "RequestOutput",
    "RunStats",
    "SamplingParams",
    "StructuredOutputs",
    "Workload",
]

_HOMES = {
    "LLM": "lm_offload.engine.llm",
    "CompletionOutput": "lm_offload.engine.completion",
    "LMOffloadError": "lm_offload.errors",
    "Plan": "lm_offload.plan",
    "RequestOutput": "lm_offload.engine.outputs",
    "RunStats": "lm_offload.engine.outputs",
    "SamplingParams": "lm_offload.sampling",
    "StructuredOutputs": "lm_offload.sampling",
    "Workload": "lm_offload.plan",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
