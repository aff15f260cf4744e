"""Gemma 4: layers with a window and layers that see everything have heads of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder, parse_window, with_windows
from lm_offload.arch.fields import Fields
from lm_offload.arch.rope import RopeConfig
from lm_offload.arch.shapes import KVShape, ModelConfig

GLOBAL_HEAD_DIM = 512
_DEFAULTS = Defaults(
    131_072,
    bos=2,
    eos=(1,),
    kv_heads=4,
    head_dim=256,
    activation="gelu_pytorch_tanh",
    activation_key="hidden_activation",
    tied=True,
)


def parse_gemma4_text(fields: Fields) -> ModelConfig:
    """The dense model, the mixture and the small ones, whose layers have inputs of their own."""
    fields.must_be("use_bidirectional_attention", False, "vision")  # of images alone
    fields.must_be("attention_bias", False)
    # Ropes of both kinds of layers are read below.
    config = parse_decoder(Fields({**fields.raw, "rope_parameters": None}, fields.where), _DEFAULTS)
    config = _with_layers(config, fields)
    config = _with_layer_inputs(_with_shared_layers(config, fields), fields)
    if fields.flag("enable_moe_block", False):
        fields.must_be("hidden_size_per_layer_input", 0)
        config = _with_experts(config, fields)
    return replace(
        config,
        ropes=_ropes(config, fields),
        attention_scale=1.0,
        embed_scale=config.hidden_size**0.5,
        final_softcap=fields.optional_number("final_logit_softcapping"),
        qk_norm=True,
        post_norms=True,
        layer_scales=True,
    )


def _with_layer_inputs(config: ModelConfig, fields: Fields) -> ModelConfig:
    """Rows of a second table, as wide as what all layers read of a token together."""
    size = fields.integer("hidden_size_per_layer_input", 256, minimum=0)
    rows = fields.integer("vocab_size_per_layer_input", 262_144)
    if not size:
        return config
    if rows < config.vocab_size:
        raise fields.wrong("vocab_size_per_layer_input", f"at least vocab_size={config.vocab_size}")
    return replace(config, layer_input_size=size, layer_vocab_size=rows)


def _with_shared_layers(config: ModelConfig, fields: Fields) -> ModelConfig:
    """The last layers read keys and values of the last one of their kind that has its own."""
    shared = fields.integer("num_kv_shared_layers", 0, minimum=0)
    if not shared:
        return config
    own = config.layers[: max(config.num_layers - shared, 0)]
    sources = {layer.window: index for index, layer in enumerate(own)}
    if sources.keys() != {layer.window for layer in config.layers}:
        raise fields.wrong("num_kv_shared_layers", "a layer of each kind that has keys of its own")
    wide = 2 * config.intermediate_size if fields.flag("use_double_wide_mlp", False) else None
    readers = (
        replace(layer, kv_of=sources[layer.window], mlp_size=wide)
        for layer in config.layers[len(own) :]
    )
    return replace(config, layers=(*own, *readers))


def _with_experts(config: ModelConfig, fields: Fields) -> ModelConfig:
    """Experts beside the MLP of every layer."""
    return replace(
        config,
        intermediate_size=fields.integer("moe_intermediate_size"),
        dense_size=config.intermediate_size,
        num_experts=fields.integer("num_experts", minimum=2),
        experts_per_token=fields.integer("top_k_experts"),
        summed_experts=True,
    )


def _with_layers(config: ModelConfig, fields: Fields) -> ModelConfig:
    """Windows, ropes and heads; the last layer sees everything."""
    last = config.num_layers - 1
    sliding = [(i + 1) % 6 != 0 and i != last for i in range(config.num_layers)]
    config = with_windows(config, fields, parse_window(fields, 512), sliding)
    if config.layers[last].window is not None:
        raise fields.wrong("layer_types", "full_attention in the last layer")
    values_of_keys = fields.flag("attention_k_eq_v", False)
    shapes = _kv_shapes(config, fields, values_of_keys)
    layers = (
        replace(
            layer,
            rope_index=int(layer.window is not None),
            kv_shape=shapes[index],
            values_of_keys=values_of_keys and layer.window is None,
        )
        for index, layer in enumerate(config.layers)
    )
    return replace(config, layers=tuple(layers))


def _kv_shapes(
    config: ModelConfig, fields: Fields, values_of_keys: bool
) -> Sequence[KVShape | None]:
    """Of each layer: by its kind, or as transformers writes them, by its number."""
    by_number = fields.section("per_layer_config")
    if by_number is None:
        kv_heads = None
        if values_of_keys and fields.get("num_global_key_value_heads") is not None:
            kv_heads = fields.integer("num_global_key_value_heads")
        size = fields.integer("global_head_dim", GLOBAL_HEAD_DIM)
        of_all = _checked(config, fields, KVShape(kv_heads or config.num_kv_heads, size))
        return [None if layer.window else of_all for layer in config.layers]
    shapes = {
        int(key): _kv_shape(config, by_number.section(key) or Fields({}, by_number.where))
        for key in by_number.raw
        if key.isdecimal()  # "05" in models of ten layers or more
    }
    return [shapes.get(index) for index in range(config.num_layers)]


def _kv_shape(config: ModelConfig, section: Fields) -> KVShape:
    for key in section.raw.keys() - {"head_dim", "num_key_value_heads"}:
        section.must_be(key)
    kv_heads = section.integer("num_key_value_heads", config.num_kv_heads)
    return _checked(
        config, section, KVShape(kv_heads, section.integer("head_dim", config.head_dim))
    )


def _checked(config: ModelConfig, fields: Fields, shape: KVShape) -> KVShape:
    if config.num_heads % shape.kv_heads or shape.head_dim % 2:
        need = f"a divisor of {config.num_heads} attention heads, and heads of an even size"
        raise fields.wrong("num_key_value_heads", need)
    return shape


def _ropes(config: ModelConfig, fields: Fields) -> tuple[RopeConfig, ...]:
    """Of layers that see everything, a part of whose channels turns, and of the others."""
    sections = fields.section("rope_parameters") or Fields({}, fields.where)
    if not all(isinstance(value, Mapping) for value in sections.raw.values()):
        raise fields.wrong("rope_parameters", "one object for each layer type")
    full = sections.section("full_attention") or Fields({}, sections.where)
    local = sections.section("sliding_attention") or Fields({}, sections.where)
    full.must_be("rope_type", "proportional")
    full.must_be("factor", 1.0)
    local.must_be("rope_type", "default")
    first = next((i for i, layer in enumerate(config.layers) if layer.window is None), 0)
    size = config.of_layer(first).head_dim
    turned = int(full.number("partial_rotary_factor", 0.25 if not full.raw else 1.0) * size // 2)
    return (
        RopeConfig(
            "default", full.number("rope_theta", 1e6, above=1), size, still=size // 2 - turned
        ),
        RopeConfig("default", local.number("rope_theta", 1e4, above=1), config.head_dim),
    )
