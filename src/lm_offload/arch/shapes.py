"""What a model is, as data: no tensor, no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from lm_offload.arch.layer_shapes import KVShape, LatentShape, LayerConfig
from lm_offload.arch.recurrent import RecurrentShape
from lm_offload.arch.rope import RopeConfig

__all__ = ["DTYPE_BYTES", "KVShape", "LatentShape", "LayerConfig", "ModelConfig"]

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ModelConfig:
    """The shapes and constants of one checkpoint."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_positions: int
    norm_eps: float
    activation: str  # silu, gelu_tanh, relu, relu2 or gelu
    tie_embeddings: bool
    dtype: str  # float32, bfloat16 or float16
    layers: tuple[LayerConfig, ...]
    ropes: tuple[RopeConfig, ...]  # empty where positions are learned
    attention_scale: float
    embed_size: int  # width of the embedding and of the head, hidden_size but for OPT-350m
    embed_scale: float = 1.0
    attention_softcap: float | None = None
    final_softcap: float | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False  # queries and keys are normalised by head
    qk_norm_whole: bool = False  # the same, all heads together
    qk_norm_bare: bool = False  # by head and without scales, where they are rotated
    paired_rope: bool = False  # neighbouring channels are rotated together, not halves of a head
    fused_qkv: bool = False  # q, k, v in one tensor
    fused_gate_up: bool = False
    gated: bool = True  # an MLP has a matrix for gates
    pre_norms: bool = True  # what attention and MLP read is normalised
    post_norms: bool = False  # what attention and MLP add is normalised first
    layer_norms: bool = False  # norms take the mean away
    norm_biases: bool = False  # and have biases
    parallel: bool = False  # attention and MLP of a layer read the same, and are one unit
    logits_divisor: float = 1.0
    norm_first: bool = True  # OPT: normalise what a block reads, not what it leaves
    final_norm: bool = True
    num_experts: int = 1  # MLPs of a layer, of which a router chooses for each token
    experts_per_token: int = 1
    scaled_to_one: bool = True  # the weights of the experts that a token uses
    attention_sinks: bool = False  # each head has a score for nothing
    gate_limit: float = math.inf  # gpt-oss: gates are cut off there, and their sigmoids steeper
    gate_slope: float = 1.0
    scales_inputs: bool = False  # what an expert reads is scaled, not what it adds
    expert_format: str | None = None  # that config.json says experts are stored in: mxfp4
    summed_experts: bool = False  # what all add is summed, for a step after them, which has an MLP
    shared_size: int = 0  # width of an expert that every token uses, beside those
    shared_gate: bool = False  # how much of what it says is added is scored
    dense_size: int = 0  # width of the MLP of layers without experts
    choice_margin: float = 0.0  # experts whose scores are that far from the best share no weight
    head_bias: bool = False
    narrowed_size: int = 0  # of what experts read and add, where it is not the hidden states' own
    choice_bias: bool = False  # each expert has a bias that counts when experts are chosen
    expert_groups: int = 1  # experts are chosen from some groups of them
    groups_per_token: int = 1
    routed_scale: float = 1.0  # of what all chosen experts add together
    latent: LatentShape | None = None  # how queries, keys and values are made
    layer_input_size: int = 0  # of what each layer reads of a token itself, beside hidden states
    layer_vocab_size: int = 0  # rows of the table of these inputs
    layer_scales: bool = False  # what leaves a layer is multiplied with a number of its own
    attention_gate: bool = False  # how much of what is attended to is added is scored
    gate_apart: bool = False  # by a matrix of its own, not by one with the queries
    recurrent: RecurrentShape | None = None  # of the layers that keep a state
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    @property
    def itemsize(self) -> int:
        """Bytes of one weight in the checkpoint's own dtype."""
        return DTYPE_BYTES[self.dtype]

    @property
    def is_moe(self) -> bool:
        """Whether layers have experts and a router instead of one MLP."""
        return self.num_experts > 1

    @property
    def chunk_tokens(self) -> int | None:
        """Tokens of a chunk, where some layers see no other than their own."""
        return next((layer.window for layer in self.layers if layer.chunked), None)

    def sums_experts(self, layer: int) -> bool:
        """Whether a step of this layer adds what all of its experts say together."""
        return self.summed_experts and self.layers[layer].has_experts

    @property
    def mixture_layers(self) -> int:
        """How many layers have experts."""
        return sum(layer.has_experts for layer in self.layers) if self.is_moe else 0

    @cached_property
    def kv_layers(self) -> tuple[int, ...]:
        """The layers that keep keys and values, in order."""
        return tuple(
            index
            for index, layer in enumerate(self.layers)
            if layer.attends and layer.kv_of is None
        )

    @cached_property
    def kv_shapes(self) -> Mapping[KVShape, int]:
        """How many of these layers keep them in which shape."""
        return Counter(self.kv_shape(layer) for layer in self.kv_layers)

    @cached_property
    def usual_kv_shape(self) -> KVShape:
        """Of the layers that keep most of them together."""
        sizes = {shape: count * math.prod(shape) for shape, count in self.kv_shapes.items()}
        return max(sizes, key=sizes.__getitem__)

    def kv_shape(self, layer: int) -> KVShape:
        """Of the keys and values that a layer reads."""
        return self.layers[layer].kv_shape or KVShape(self.num_kv_heads, self.head_dim)

    def of_layer(self, layer: int) -> ModelConfig:
        """The same model as if all its layers had the heads and the MLP of this one."""
        place = self.layers[layer]
        return self._by_kind[place.kv_shape, place.mlp_size]

    @property
    def layer_kinds(self) -> Collection[ModelConfig]:
        """The model as each kind of its layers has it."""
        return self._by_kind.values()

    @cached_property
    def _by_kind(self) -> Mapping[tuple[KVShape | None, int | None], ModelConfig]:
        kinds = dict.fromkeys((layer.kv_shape, layer.mlp_size) for layer in self.layers)
        return {kind: self._of_kind(*kind) for kind in kinds}

    def _of_kind(self, shape: KVShape | None, mlp_size: int | None) -> ModelConfig:
        if shape is None and mlp_size is None:
            return self
        kv_heads, head_dim = shape or (self.num_kv_heads, self.head_dim)
        inner = mlp_size or self.intermediate_size
        return replace(self, num_kv_heads=kv_heads, head_dim=head_dim, intermediate_size=inner)

    @cached_property
    def attention_layers(self) -> int:
        """How many layers attend to keys and values."""
        return sum(layer.attends for layer in self.layers)

    @property
    def recurrent_layers(self) -> int:
        """How many layers have a state instead."""
        return sum(layer.recurrent for layer in self.layers)

    @property
    def state_bytes(self) -> int:
        """What all recurrent layers keep of one sequence."""
        return self.recurrent_layers * self.recurrent.state_bytes if self.recurrent else 0

    @property
    def layers_differ(self) -> bool:
        """Whether layers have heads or inputs of their own, or read what others keep."""
        places = (place.kv_shape or place.kv_of is not None for place in self.layers)
        return bool(self.layer_input_size) or any(places)

    @property
    def layer_inputs_size(self) -> int:
        """Width of what all layers read of one token itself."""
        return self.num_layers * self.layer_input_size

    @property
    def table_widths(self) -> tuple[int, ...]:
        """Of the rows that are gathered for a token."""
        return (self.embed_size, *([self.layer_inputs_size] if self.layer_input_size else []))

    @property
    def query_size(self) -> int:
        """Width of the queries of one token, all heads."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the keys of one token, all KV heads."""
        return self.num_kv_heads * self.head_dim
