"""Planning requests for models that exist only as configs."""

from __future__ import annotations

from typing import Any

from lm_offload.arch.accounting import loaded_bytes
from lm_offload.arch.config import parse_config
from lm_offload.arch.weights import build_units
from lm_offload.plan import MachineRates, Plan, Workload
from lm_offload.planner.candidate import Request, UnitSize
from lm_offload.planner.search import make_plan
from lm_offload.quant.format import format_of_dtype
from lm_offload.units import align_up

RATES = MachineRates(1.6e9, 1e10, 1e11, 1 << 20, 4)
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
    raw: dict[str, Any], workload: Workload, budget_bytes: int, rates: MachineRates = RATES
) -> Request:
    """What the engine would ask for a checkpoint of this config."""
    config = parse_config(raw)
    largest = 3 * config.hidden_size * config.intermediate_size * config.itemsize
    units = [
        UnitSize(unit, align_up(loaded_bytes(unit, config.itemsize)))
        for unit in build_units(config, largest)
    ]
    table = config.vocab_size * config.embed_size * config.itemsize
    table_bytes = 0 if config.tie_embeddings else align_up(table)
    kv_format = format_of_dtype(config.dtype)
    return Request(config, units, table_bytes, workload, rates, budget_bytes, kv_format)


def plan(raw: dict[str, Any], workload: Workload, budget_bytes: int) -> Plan:
    """The plan of that request."""
    return make_plan(make_request(raw, workload, budget_bytes))
