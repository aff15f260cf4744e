"""What a model costs, computed from its config alone: bytes, FLOPs, workspace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

from lm_offload.arch.shapes import KVShape, ModelConfig
from lm_offload.arch.weight_spec import Unit
from lm_offload.quant.format import Format
from lm_offload.quant.kv_format import head_bytes

_USE_FLOATS = 2  # of a row that uses an expert: where among the choices it is (csrc/experts.h)
WORKSPACE_ALIGNMENT = 16  # floats: a cache line of 64 bytes


def unit_bytes(unit: Unit, itemsize: int) -> int:
    """Bytes of all tensors of a unit in the checkpoint, row tables included."""
    return itemsize * sum(spec.elements for spec in unit.weights)


def loaded_bytes(unit: Unit, itemsize: int) -> int:
    """Bytes that are read before the unit computes: all but the row tables."""
    return itemsize * sum(spec.elements for spec in unit.loaded)


def model_parameters(units: Iterable[Unit]) -> int:
    """Number of weights of a model; a head that is tied to the embedding counts once."""
    specs = [spec for unit in units for spec in unit.weights]
    tables = {spec.name for spec in specs if spec.is_row_table}
    return sum(spec.elements for spec in specs if spec.is_row_table or spec.name not in tables)


def unit_flops(unit: Unit) -> int:
    """FLOPs of a unit's matrix products for one token (attention over the context excluded)."""
    return sum(2 * spec.elements for spec in unit.loaded if spec.is_matrix)


def attention_flops(config: ModelConfig, context: int) -> int:
    """FLOPs of scores and weighted sums for one token that sees `context` tokens, all layers.

    What a token does to the states of recurrent layers counts, too.
    """
    scores = sum(
        config.of_layer(index).query_size * min(context, layer.window or context)
        for index, layer in enumerate(config.layers)
        if layer.attends
    )
    shape = config.recurrent
    row = shape.flops_per_value * shape.matrix_floats if shape else 0
    return 4 * scores + config.recurrent_layers * row


def kv_bytes_per_token(
    config: ModelConfig, format: Format, layers: Collection[int] | None = None
) -> int:
    """Bytes of keys and values of one token, scales included, in these layers or in all."""
    shapes = config.kv_shapes if layers is None else Counter(map(config.kv_shape, layers))
    return sum(count * kept_bytes(shape, format) for shape, count in shapes.items())


def kept_bytes(shape: KVShape, format: Format) -> int:
    """Bytes of the key and the value of one token in one layer, scales included."""
    return 2 * shape.kv_heads * head_bytes(format, shape.head_dim)


def workspace_floats(config: ModelConfig, tokens: int, logit_rows: int) -> int:
    """The most float32 that the model functions take from the workspace in one unit call.

    `tokens` rows are computed together, and logits are wanted of `logit_rows` of them.
    """
    if config.model_type == "opt":
        return _opt_floats(config, tokens, logit_rows)
    return max(_layer_floats(kind, tokens) for kind in config.layer_kinds)


def _layer_floats(config: ModelConfig, tokens: int) -> int:
    """Of the layers with heads and an MLP like these."""
    hidden, inner = config.hidden_size, config.intermediate_size
    attention = max(_attention(config, tokens), _recurrent(config, tokens))
    if config.parallel:
        attention += _floats(tokens, hidden, inner, inner)
    if config.is_moe:
        expert = _floats(tokens, hidden, inner, inner, hidden, _USE_FLOATS)
        dense = _floats(tokens, hidden, *(max(config.dense_size, config.shared_size),) * 2)
        return max(attention, _router_floats(config, tokens), expert, dense)
    inner_products = (2 * inner,) if config.fused_gate_up else (inner,) * (1 + config.gated)
    own = (config.layer_input_size, hidden) if config.layer_input_size else ()
    return max(attention, _floats(tokens, hidden, *inner_products, *own))


def _attention(config: ModelConfig, tokens: int) -> int:
    """Products, what is attended to, and norms."""
    hidden, queries, kv = config.hidden_size, config.query_size, config.kv_size
    products = (queries + 2 * kv,) if config.fused_qkv else (queries, kv, kv)
    normed = (hidden,) if config.pre_norms else ()
    added = (hidden,) if config.post_norms else ()  # what attention adds, before its norm
    gate = (queries,) if config.attention_gate else ()
    plain = _floats(tokens, *normed, *products, *gate, *_paired(config), queries, *added)
    return plain + _latent(config, tokens)


def _latent(config: ModelConfig, tokens: int) -> int:
    """What queries and values are made of, head by head, beside queries and the narrow vector."""
    latent, heads = config.latent, config.num_heads
    if latent is None:
        return 0
    ranks = (latent.query_rank,) if latent.query_rank else ()
    narrow = latent.kept_dim, latent.kv_rank
    wide = heads * latent.head_dim, heads * latent.value_dim
    one_head = latent.other_dim, latent.kv_rank, latent.kv_rank, latent.value_dim
    turned = _floats(latent.kv_rank, latent.other_dim)
    return turned + _floats(tokens, *ranks, *narrow, *wide, *one_head)


def _recurrent(config: ModelConfig, tokens: int) -> int:
    """What is projected of a norm, what is convolved, what the state says and passes the gate."""
    shape = config.recurrent
    if shape is None:
        return 0
    return _floats(tokens, config.hidden_size, *shape.projected, *shape.made)


def _paired(config: ModelConfig) -> tuple[int, ...]:
    """Copies of what is rotated of queries and keys, where pairs become halves."""
    if not config.paired_rope:
        return ()
    rotated = config.ropes[0].rotary_dim
    return config.num_heads * rotated, config.num_kv_heads * rotated


def _router_floats(config: ModelConfig, tokens: int) -> int:
    """Scores, another norm and what is made narrower where there are, and a shared expert."""
    inner = config.shared_size
    normed = (config.hidden_size,) if config.summed_experts else ()
    narrowed = (config.narrowed_size,) if config.narrowed_size else ()
    shared = (inner, inner, *((1,) if config.shared_gate else ())) if inner else ()
    return _floats(tokens, config.num_experts, *normed, *narrowed, *shared)


def _opt_floats(config: ModelConfig, tokens: int, logit_rows: int) -> int:
    hidden, narrow, inner = config.hidden_size, config.embed_size, config.intermediate_size
    projected = narrow != hidden
    normed = (hidden,) if config.norm_first else ()
    embed = _floats(tokens, hidden, *((narrow,) if projected else ()))
    attention = _floats(tokens, *normed, hidden, hidden, hidden, hidden)
    mlp = _floats(tokens, *normed, inner)
    final_norm = _floats(logit_rows, hidden) if projected and config.final_norm else 0
    return max(embed, attention, mlp, final_norm)


@lru_cache(maxsize=1 << 14)
def _floats(rows: int, *widths: int) -> int:
    """Room for one aligned buffer [rows, width] of each width."""
    step = WORKSPACE_ALIGNMENT
    return sum(-(-rows * width // step) * step for width in widths)
