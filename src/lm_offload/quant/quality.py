"""What each pair of formats costs in quality, as measured on the demo model's held-out text.

The figures are written by `python -m benchmarks.bench_quality --ship`. A larger model usually loses
less; `lm-offload eval` measures one's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from lm_offload.quant.format import parse_format

FILE = "quality.json"
OWN = "own"  # the checkpoint's own precision, in which nothing is rounded


@dataclass(frozen=True)
class FormatQuality:
    """Perplexity over that of the checkpoint's own precision, and mean KL divergence in nats."""

    perplexity_ratio: float
    mean_kl: float


def quality_of(weight_format: str, kv_format: str) -> FormatQuality | None:
    """The figures of two formats together; None where nothing is rounded or none were measured."""
    return _figures().get(quality_key(weight_format, kv_format))


def quality_key(weight_format: str, kv_format: str) -> str:
    """Names a pair of formats in the file."""
    return f"{_lossy(weight_format)}, KV {_lossy(kv_format)}"


def _lossy(name: str) -> str:
    format = parse_format(name)
    return str(format) if format.is_packed else OWN


@cache
def _figures() -> dict[str, FormatQuality]:
    text = (files("lm_offload.quant") / FILE).read_text(encoding="utf-8")
    return {key: FormatQuality(**row) for key, row in json.loads(text).items()}
