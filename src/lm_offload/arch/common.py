"""What the parsers of several model types share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lm_offload.arch.fields import Fields
from lm_offload.arch.rope import RopeConfig, parse_rope
from lm_offload.arch.shapes import DTYPE_BYTES, LayerConfig, ModelConfig
from lm_offload.errors import UnsupportedModelError

# Far above any model: what lies beyond is a damaged config, of which no unit is made.
MAX_LAYERS, MAX_VOCAB_SIZE = 10_000, 1 << 24
_KINDS = ("full_attention", "sliding_attention")

_GATED_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}

_PARTIALLY_ROTATED = (
    *("phi3", "glm", "glm4", "glm4_moe", "minimax_m2", "nemotron", "stablelm"),
    *("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"),
)


@dataclass(frozen=True)
class Defaults:
    """What a model type means by a key that its config leaves out."""

    max_positions: int
    bos: int | None = None
    eos: tuple[int, ...] = ()
    kv_heads: int | None = None  # None: as many as query heads
    head_dim: int | None = None  # None: hidden_size / heads
    norm_eps: float = 1e-6
    activation: str = "silu"
    activation_key: str = "hidden_act"
    tied: bool = False


def parse_decoder(fields: Fields, defaults: Defaults) -> ModelConfig:
    """A decoder with RMS norms, one rope and a gated MLP."""
    config = _parse_shapes(fields, defaults)
    rope = parse_rope(fields, _rotary_dim(fields, config.head_dim), config.max_positions)
    return replace(
        config,
        max_positions=_usable_positions(rope, config.max_positions),
        ropes=(rope,),
        bos_token_id=parse_bos(fields, defaults.bos),
        eos_token_ids=fields.token_ids("eos_token_id", defaults.eos),
    )


def parse_window(fields: Fields, default: int | None = None) -> int | None:
    """The sliding window; null switches it off, a missing key means the default."""
    if "sliding_window" not in fields.raw:
        return default
    return None if fields.get("sliding_window") is None else fields.integer("sliding_window")


def with_windows(
    config: ModelConfig, fields: Fields, window: int | None, sliding: Sequence[bool]
) -> ModelConfig:
    """Give the sliding layers their window; `layer_types`, where there is one, says which."""
    if fields.get("layer_types") is not None:
        kinds = fields.kinds("layer_types", config.num_layers, _KINDS)
        sliding = [kind == _KINDS[1] for kind in kinds]
    if any(sliding) and window is None:
        raise fields.wrong("sliding_window", "a window for the layers that have one")
    return replace(config, layers=tuple(LayerConfig(window if s else None) for s in sliding))


def with_one_window(config: ModelConfig, fields: Fields, window: int | None) -> ModelConfig:
    """Give all layers the same window; `layer_types` may only repeat that."""
    kinds = fields.get("layer_types", [])
    if len(set(map(str, kinds if isinstance(kinds, list) else [kinds]))) > 1:
        fields.must_be("layer_types")
    return replace(config, layers=(LayerConfig(window),) * config.num_layers)


def parse_dtype(fields: Fields) -> str:
    """The dtype of the weights: `dtype` (5.x) or `torch_dtype` (4.x); float32 where neither is."""
    dtype = fields.text("dtype", fields.text("torch_dtype", "float32")).removeprefix("torch.")
    if dtype not in DTYPE_BYTES:
        raise UnsupportedModelError(
            f"{fields.where} has dtype {dtype!r}, supported are {', '.join(DTYPE_BYTES)}; "
            "convert the checkpoint."
        )
    return dtype


def parse_bos(fields: Fields, default: int | None) -> int | None:
    """The id of the token that begins a text, if there is one."""
    ids = fields.token_ids("bos_token_id", () if default is None else (default,))
    return ids[0] if ids else None


def _parse_shapes(fields: Fields, defaults: Defaults) -> ModelConfig:
    hidden_size, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    head_dim = _head_dim(fields, hidden_size, num_heads, defaults.head_dim)
    num_layers = fields.integer("num_hidden_layers", maximum=MAX_LAYERS)
    return ModelConfig(
        model_type=fields.text("model_type"),
        vocab_size=fields.integer("vocab_size", maximum=MAX_VOCAB_SIZE),
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=_kv_heads(fields, num_heads, defaults.kv_heads),
        head_dim=head_dim,
        intermediate_size=fields.integer("intermediate_size"),
        max_positions=fields.integer("max_position_embeddings", defaults.max_positions, minimum=2),
        norm_eps=fields.number("rms_norm_eps", defaults.norm_eps),
        activation=_gated_activation(fields, defaults),
        tie_embeddings=fields.flag("tie_word_embeddings", defaults.tied),
        dtype=parse_dtype(fields),
        layers=(LayerConfig(),) * num_layers,
        ropes=(),
        attention_scale=head_dim**-0.5,
        embed_size=hidden_size,
    )


def _head_dim(fields: Fields, hidden_size: int, num_heads: int, default: int | None) -> int:
    if fields.get("head_dim", default) is not None:
        return fields.integer("head_dim", default or 1)
    if hidden_size % num_heads:
        raise fields.wrong("num_attention_heads", f"a divisor of hidden_size={hidden_size}")
    return hidden_size // num_heads


def _kv_heads(fields: Fields, num_heads: int, default: int | None) -> int:
    # A null key means as many as query heads; only a missing one means the type's default.
    missing = "num_key_value_heads" not in fields.raw
    fallback = default if missing and default is not None else num_heads
    kv_heads = fields.integer("num_key_value_heads", fallback)
    if num_heads % kv_heads:
        raise fields.wrong("num_key_value_heads", f"a divisor of {num_heads} attention heads")
    return kv_heads


def _rotary_dim(fields: Fields, head_dim: int) -> int:
    section = fields.section("rope_scaling") or fields.section("rope_parameters") or fields
    fraction = section.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    if fraction != 1 and fields.get("model_type") not in _PARTIALLY_ROTATED:
        fields.must_be("partial_rotary_factor", 1.0)
        section.must_be("partial_rotary_factor", 1.0)
    rotary_dim = int(head_dim * fraction)
    if rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
        raise fields.wrong("head_dim", "an even rotary dimension within head_dim")
    return rotary_dim


def _usable_positions(rope: RopeConfig, positions: int) -> int:
    """How long a sequence may be: some rope kinds stretch `max_position_embeddings`."""
    if rope.kind not in ("linear", "dynamic", "yarn"):
        return positions
    return max(positions, int(rope.factor * rope.original_max_positions))


def _gated_activation(fields: Fields, defaults: Defaults) -> str:
    fields.must_be(defaults.activation_key, *_GATED_ACTIVATIONS)
    return _GATED_ACTIVATIONS[fields.text(defaults.activation_key, defaults.activation)]
