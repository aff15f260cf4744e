"""The units of a model in the order in which a sweep uses them."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from lm_offload.arch import layout, layout_experts, layout_nemotron_h, layout_opt
from lm_offload.arch.config import ModelConfig
from lm_offload.arch.layout_recurrent import recurrent_weights
from lm_offload.arch.weight_spec import HEAD_ROW_MULTIPLE, ROW_TABLES, Unit, WeightSpec

__all__ = ["ROW_TABLES", "Unit", "WeightSpec", "attention_units", "build_units", "name_candidates"]

_LAYOUTS = {"opt": layout_opt, "nemotron_h": layout_nemotron_h}


def build_units(config: ModelConfig, max_head_bytes: int) -> tuple[Unit, ...]:
    """Embedding, attention (or what is recurrent) and MLP (or router and experts) of each layer,
    final norm, head.

    The head, or the embedding that is tied to it, is split by vocabulary rows into parts of at
    most `max_head_bytes` (but never below 64 rows), so that no unit is much larger than others.
    """
    names = _layout(config)
    units = [Unit("embed", 0, names.embed_weights(config))]
    for layer, place in enumerate(config.layers):
        units += [_mixing_unit(config, layer)] if place.mixes else []
        units += _mlp_units(config, layer) if place.feeds else []
    units.append(Unit("final_norm", 0, names.final_norm_weights(config)))
    return (*units, *_head_units(config, names.TOKENS, max_head_bytes))


def attention_units(units: Iterable[Unit]) -> frozenset[int]:
    """Which of them are attention, by their place in a sweep."""
    return frozenset(place for place, unit in enumerate(units) if unit.kind == "attention")


def name_candidates(name: str) -> tuple[str, ...]:
    """The names under which a checkpoint may hold a tensor, most usual first.

    A base model that was saved without its head leaves the leading `model.` out; a text model that
    is part of a larger one has `language_model.` in front, or behind the `model.`. Nemotron-H
    calls its model `backbone`.
    """
    inside = f"language_model.{name}"
    if not name.startswith("model."):
        return name, inside
    bare = name.removeprefix("model.")
    return name, bare, inside, f"model.language_model.{bare}", f"backbone.{bare}"


def _layout(config: ModelConfig) -> ModuleType:
    return _LAYOUTS.get(config.model_type, layout)


def _mixing_unit(config: ModelConfig, layer: int) -> Unit:
    if config.layers[layer].recurrent:
        return Unit("recurrent", layer, recurrent_weights(config, layer))
    weights = _layout(config).attention_weights(config.of_layer(layer), layer)
    return Unit("attention", layer, weights)


def _mlp_units(config: ModelConfig, layer: int) -> list[Unit]:
    if config.parallel:
        return []
    if not config.is_moe or config.layers[layer].dense:
        return [Unit("mlp", layer, _layout(config).mlp_weights(config.of_layer(layer), layer))]
    experts = [
        Unit("expert", layer, layout_experts.expert_weights(config, layer, expert), expert)
        for expert in range(config.num_experts)
    ]
    router = Unit("router", layer, layout_experts.router_weights(config, layer))
    if not config.sums_experts(layer):
        return [router, *experts]
    return [router, *experts, Unit("mlp", layer, _sum_weights(config, layer))]


def _sum_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """Of the step after all experts of a layer, with an MLP beside them or without."""
    if config.narrowed_size:
        return layout_nemotron_h.sum_weights(config, layer)
    if config.model_type != "gemma4_text":
        shared = layout_experts.shared_weights(config, layer)
        return (*layout.added_norm_weights(config, layer), *shared)
    return (*layout.mlp_weights(config, layer), *layout_experts.sum_weights(config, layer))


def _head_units(config: ModelConfig, tokens: str, max_head_bytes: int) -> list[Unit]:
    name = tokens if config.tie_embeddings else "lm_head.weight"
    shape = (config.vocab_size, config.embed_size)
    row_bytes = config.embed_size * config.itemsize
    rows = max(max_head_bytes // row_bytes // HEAD_ROW_MULTIPLE, 1) * HEAD_ROW_MULTIPLE
    starts = range(0, config.vocab_size, rows)
    parts = [(start, min(start + rows, config.vocab_size)) for start in starts]
    return [
        Unit("head", i, (WeightSpec(name, "head", shape, part), *_head_bias(config, part)))
        for i, part in enumerate(parts)
    ]


def _head_bias(config: ModelConfig, rows: tuple[int, int]) -> list[WeightSpec]:
    if not config.head_bias:
        return []
    return [WeightSpec("lm_head.bias", "head_bias", (config.vocab_size,), rows)]
