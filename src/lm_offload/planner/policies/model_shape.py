"""A model as the three-tier cost model sees it: equal layers of matrices, from its config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weight_spec import MLP_ROLES
from lm_offload.arch.weights import Unit, WeightSpec, build_units
from lm_offload.errors import ConfigError
from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.quant.format import Format, parse_format
from lm_offload.schedule.block import UnitKind

FLOAT_FORMATS = {"float32": Format("fp32"), "bfloat16": Format("bf16"), "float16": Format("fp16")}
WHOLE_HEAD = 1 << 62  # bytes: the head in one part


@dataclass(frozen=True)
class Matrices:
    """Weights that are used together; vectors (norms, biases) stay in the model's own format."""

    shapes: tuple[tuple[int, int], ...]  # [out, in]
    vector_elements: int = 0
    of_expert: bool = False

    @property
    def elements(self) -> int:
        """Weights of all matrices."""
        return sum(rows * columns for rows, columns in self.shapes)

    def size_bytes(self, format: Format, float_bytes: int) -> int:
        """Bytes with the matrices in `format`, scales included."""
        packed = sum(format.matrix_bytes(rows, columns) for rows, columns in self.shapes)
        return packed + self.vector_elements * float_bytes


@dataclass(frozen=True, eq=False)  # one for each config: compared and hashed by identity
class ModelShape:
    """What one layer holds, how many there are, and what stands around them."""

    num_layers: int
    hidden_size: int
    query_size: int
    kv_size: int
    inner_size: int
    head_dim: int
    windows: tuple[int | None, ...]  # of each layer
    float_format: Format
    own_format: Format  # of the checkpoint: the same, or one that its experts alone are stored in
    projections: Matrices  # queries, keys, values, and the norm
    output: Matrices  # projection of what attention gives
    mlp: Matrices  # or the router of the experts
    expert: Matrices  # one of them; nothing without experts
    num_experts: int
    experts_per_token: int
    head: Matrices
    embed_elements: int  # row tables beside the head; a head that is tied to them counts once

    @property
    def heads(self) -> HeadShape:
        """What the speed of attention depends on."""
        return HeadShape(self.head_dim, self.query_size // self.kv_size)

    @property
    def units(self) -> tuple[UnitKind, ...]:
        """The units of one sweep in order."""
        layers: tuple[UnitKind, ...] = ("attention", "mlp") * self.num_layers
        return (*layers, "head")

    def parts(self, kind: UnitKind) -> tuple[Matrices, ...]:
        """All matrices of a unit."""
        if kind == "attention":
            return (self.projections, self.output)
        return (self.mlp, *[self.expert] * self.num_experts) if kind == "mlp" else (self.head,)

    def stored_format(self, part: Matrices, format: Format) -> Format:
        """Of the matrices of a part in a model in `format`, which may be one of experts alone."""
        return format if part.of_expert or not format.is_of_experts else self.float_format

    def unit_bytes(self, kind: UnitKind, format: Format) -> int:
        """Bytes of one unit with its matrices in `format`."""
        return _unit_bytes(self, kind, format)

    def total_bytes(self, format: Format) -> int:
        """Bytes of all units with their matrices in `format`; the row tables are not in it."""
        layer = self.unit_bytes("attention", format) + self.unit_bytes("mlp", format)
        return self.num_layers * layer + self.unit_bytes("head", format)

    def seen_tokens(self, context: float) -> float:
        """Tokens that the token after `context` others attends to, mean over the layers."""
        return sum(min(context, window or context) for window in self.windows) / self.num_layers

    def visible_pairs(self, tokens: int) -> float:
        """Pairs of tokens of a prompt of which the later sees the earlier, mean over the layers."""
        limits = (min(tokens, window or tokens) for window in self.windows)
        pairs = sum(limit * (tokens - limit / 2 + 0.5) for limit in limits)
        return pairs / self.num_layers


@lru_cache(maxsize=64)
def model_shape(config: ModelConfig) -> ModelShape:
    """The shape of a model; layers are taken to be like the last one, which has experts if any.

    Raises ConfigError for layers that published policies do not know.
    """
    unknown = "recurrent layers" if config.recurrent else "layers that differ"
    if config.recurrent is not None or config.layers_differ:
        raise ConfigError(
            f"The model is of type {config.model_type}, whose {unknown} no published policy "
            "knows; allowed are models that attend in every layer alike, plan it instead."
        )
    units = {(unit.kind, unit.index, unit.expert): unit for unit in build_units(config, WHOLE_HEAD)}
    last = max(index for index, layer in enumerate(config.layers) if not layer.dense)
    attention, mlp = _attention_and_mlp(config, units, last)
    head = units["head", 0, 0].loaded
    experts = units["expert", last, 0].loaded if config.is_moe else ()
    tables = sum(spec.elements for spec in units["embed", 0, 0].tables)
    return ModelShape(
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        query_size=config.query_size,
        kv_size=config.kv_size,
        inner_size=config.intermediate_size,
        head_dim=config.head_dim,
        windows=tuple(layer.window for layer in config.layers),
        float_format=FLOAT_FORMATS[config.dtype],
        own_format=_own_format(config),
        projections=_matrices(spec for spec in attention if spec.role != "o_proj"),
        output=_matrices(spec for spec in attention if spec.role == "o_proj"),
        mlp=_matrices(mlp),
        expert=replace(_matrices(experts), of_expert=True),
        num_experts=config.num_experts if config.is_moe else 0,
        experts_per_token=config.experts_per_token if config.is_moe else 0,
        head=_matrices(head),
        embed_elements=tables - (head[0].elements if config.tie_embeddings else 0),
    )


def _attention_and_mlp(
    config: ModelConfig, units: Mapping[tuple[str, int, int], Unit], layer: int
) -> tuple[Sequence[WeightSpec], Sequence[WeightSpec]]:
    """Weights of both blocks of a layer, which may be one unit."""
    attention = units["attention", layer, 0].loaded
    if not config.parallel:
        return attention, units["router" if config.is_moe else "mlp", layer, 0].loaded
    mlp = [spec for spec in attention if spec.role in MLP_ROLES]
    return [spec for spec in attention if spec.role not in MLP_ROLES], mlp


def _own_format(config: ModelConfig) -> Format:
    stored = config.expert_format
    return parse_format(stored) if stored else FLOAT_FORMATS[config.dtype]


def _matrices(specs: Iterable[WeightSpec]) -> Matrices:
    shapes: list[tuple[int, int]] = []
    vector_elements = 0
    for spec in specs:
        if spec.is_matrix:
            shapes.append((spec.view_shape[0], spec.view_shape[1]))
        else:
            vector_elements += spec.elements
    return Matrices(tuple(shapes), vector_elements)


@lru_cache(maxsize=1024)
def _unit_bytes(model: ModelShape, kind: UnitKind, format: Format) -> int:
    float_bytes = model.float_format.matrix_bytes(1, 1)
    return sum(
        part.size_bytes(model.stored_format(part, format), float_bytes)
        for part in model.parts(kind)
    )
