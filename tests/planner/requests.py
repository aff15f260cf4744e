"""Planning requests for models that exist only as configs."""

from __future__ import annotations

from typing import Any

from lm_offload.arch.config import parse_config
from lm_offload.arch.weights import build_units
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Plan, Workload
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.costs.sized_model import sizes_of_config
from lm_offload.planner.request import Request
from lm_offload.quant.format import format_of_dtype, parse_format
from lm_offload.units import GIB, MIB

DISK = Link(Curve((1,), (1.6e9,)), block_bytes=MIB, concurrency=4)
CPU = Processor(2, 16 * GIB, 1e10, 1e11, kernel_s=1e-6, task_s=1e-5)
PROFILE = HardwareProfile("null machine", "hand-written", CPU, 100 * GIB, DISK, DISK)
TINY = {
    "model_type": "llama",
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 88,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "torch_dtype": "float32",
}


def make_request(
    raw: dict[str, Any],
    workload: Workload,
    budget_bytes: int,
    profile: HardwareProfile = PROFILE,
    formats: tuple[str, ...] = (),
) -> Request:
    """What the engine would ask for a checkpoint of this config; its own format comes first."""
    config = parse_config(raw)
    largest = 3 * config.hidden_size * config.intermediate_size * config.itemsize
    units = build_units(config, largest)
    choices = [format_of_dtype(config.dtype), *map(parse_format, formats)]
    models = [sizes_of_config(config, units, choice) for choice in choices]
    return Request(models, workload, profile, budget_bytes)


def plan(raw: dict[str, Any], workload: Workload, budget_bytes: int) -> Plan:
    """The plan of that request."""
    return make_plan(make_request(raw, workload, budget_bytes))
