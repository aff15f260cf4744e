"""What the functions of a model do with one row, as a list of kernels and their bytes.

Counted from a unit's weights, so that it holds for every model file: one product per matrix, one
norm per scale, and what attention and activation add.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.layout_experts import shared_is_summed
from lm_offload.arch.recurrent import ConvolutionShape
from lm_offload.arch.weight_spec import GATE_UP, MLP_KINDS, XIELU
from lm_offload.arch.weights import Unit, WeightSpec

F32_BYTES = 4
# Vectors that are no norms of rows.
_NO_NORMS = ("convolution", "decay_log", "gated_norm", "skip", *XIELU)
LAST = ("o_proj", "down_proj")  # products that wait for all others of their unit


class Operation(NamedTuple):
    """An elementwise kernel and the bytes that it reads and writes for each row."""

    name: str
    row_bytes: int


class Matrix(NamedTuple):
    """What the time of a product depends on: its weights, and how many of them a row has."""

    weights: int
    width: int


def levels(unit: Unit) -> list[list[Matrix]]:
    """The matrices of each product: those that do not need one another are one call."""
    products = [spec for spec in unit.loaded if spec.is_matrix]
    first = [_matrix(spec) for spec in products if spec.role not in LAST]
    last = [_matrix(spec) for spec in products if spec.role in LAST]
    return [level for level in (first, last) if level]


def _matrix(spec: WeightSpec) -> Matrix:
    return Matrix(spec.elements, spec.shape[1])


def operations(config: ModelConfig, unit: Unit) -> tuple[Operation, ...]:
    """The elementwise kernels of one call on a unit; attention itself is not among them."""
    kinds = {
        "embed": _embed,
        "attention": _attention,
        "shared attention": _shared_attention,
        "recurrent": _recurrent,
        "mlp": _mlp,
        "sums": _sums,
        GATE_UP: _mlp,
        "router": _router,
        "expert": _expert,
        "final_norm": _final_norm,
    }
    config = config.of_layer(unit.index) if unit.kind in ("attention", *MLP_KINDS) else config
    kind = _kind_of(config, unit)
    more = kinds[kind](config) if kind in kinds else ()
    return (*_norms(config, unit), *more)


def _kind_of(config: ModelConfig, unit: Unit) -> str:
    """What it does with a row; attention over keys and values of another layer makes none."""
    if unit.kind == "attention" and config.layers[unit.index].kv_of is not None:
        return "shared attention"
    if unit.kind == "mlp" and config.sums_experts(unit.index):
        return "sums"
    return unit.kind


def visible_tokens(rows: int, context: int, window: int | None) -> int:
    """Tokens that `rows` rows see together, the last of them `context`, each at most `window`."""
    first = context - rows + 1
    limit = min(window or context, context)
    growing = max(min(limit - first, rows), 0)  # rows that see less than the limit
    return growing * (2 * first + growing - 1) // 2 + (rows - growing) * limit


def _norms(config: ModelConfig, unit: Unit) -> Iterator[Operation]:
    widths = {"q_norm": config.query_size, "k_norm": config.kv_size}
    name = "layer_norm" if config.layer_norms else "rms_norm"
    for spec in unit.loaded:
        if not spec.is_matrix and "bias" not in spec.role and spec.role not in _NO_NORMS:
            width = widths.get(spec.role, spec.elements)
            yield Operation(name, 2 * width * F32_BYTES)


def _embed(config: ModelConfig) -> Iterator[Operation]:
    for width in config.table_widths:
        yield Operation("embed", width * (config.itemsize + F32_BYTES))


def _attention(config: ModelConfig) -> Iterator[Operation]:
    if config.ropes:
        yield Operation("rotary", 2 * config.query_size * F32_BYTES)
        yield Operation("rotary", 2 * config.kv_size * F32_BYTES)
    yield Operation("store_kv", 2 * config.kv_size * (F32_BYTES + config.itemsize))
    if config.attention_gate:
        yield _activation(config, config.query_size)
    if config.parallel:
        yield from _mlp(config)


def _shared_attention(config: ModelConfig) -> Iterator[Operation]:
    if config.ropes:
        yield Operation("rotary", 2 * config.query_size * F32_BYTES)


def _recurrent(config: ModelConfig) -> Iterator[Operation]:
    """The convolution reads a row for each tap; what the states say is normalised and gated."""
    shape = config.recurrent
    assert shape is not None
    yield Operation("silu_mul", (shape.taps + 1) * shape.channels * F32_BYTES)
    if isinstance(shape, ConvolutionShape):
        yield from [_activation(config, shape.channels)] * 2  # its gates
        return
    yield Operation("rms_norm", 2 * shape.value_size * F32_BYTES)
    yield _activation(config, shape.value_size)


def _mlp(config: ModelConfig) -> Iterator[Operation]:
    yield _between(config, config.dense_size or config.intermediate_size)
    if config.layer_input_size:
        yield _activation(config, config.layer_input_size)


def _sums(config: ModelConfig) -> Iterator[Operation]:
    """The step after all experts, with an MLP of its own or without."""
    width = config.shared_size if shared_is_summed(config) else config.dense_size
    if width and not config.narrowed_size:
        yield _between(config, width)


def _between(config: ModelConfig, width: int) -> Operation:
    """What an MLP has between its products."""
    if not config.gated:
        return Operation("relu", 2 * width * F32_BYTES)
    return _activation(config, width)


def _activation(config: ModelConfig, width: int) -> Operation:
    name = "silu_mul" if config.activation == "silu" else "gelu_tanh_mul"
    return Operation(name, 3 * width * F32_BYTES)


def _router(config: ModelConfig) -> Iterator[Operation]:
    """What an expert that every token uses has between its products."""
    if config.shared_size and not shared_is_summed(config):
        yield _between(config, config.shared_size)


def _expert(config: ModelConfig) -> Iterator[Operation]:
    """Rows are gathered, and what becomes of them is scaled and added."""
    yield Operation("gather", 2 * config.hidden_size * F32_BYTES)
    yield _between(config, config.intermediate_size)
    yield Operation("gather", 2 * config.hidden_size * F32_BYTES)
    yield Operation("gather", 3 * config.hidden_size * F32_BYTES)


def _final_norm(config: ModelConfig) -> Iterator[Operation]:
    yield Operation("gather", 2 * config.hidden_size * F32_BYTES)
