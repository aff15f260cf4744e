"""A Llama checkpoint as an OpenVINO model with its KV cache inside, without torch.

Inputs, outputs and states have the names and shapes that OpenVINO's own export of causal language
models gives them, so that its runtime fuses rotary embedding, attention and cache.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from benchmarks.peers.safetensors_files import Source, sources_of
from openvino import opset15 as op
from openvino.op.util import Variable, VariableInfo

INT8_MAX = 127
Node = Any


def convert(folder: Path, target: Path, weight_format: str | None) -> None:
    """Write `target` (.xml and .bin, beside it first, then renamed) unless it exists."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    model = Graph(config, sources_of(folder), weight_format).build()
    partial = target.with_name(f"partial-{target.name}")
    ov.save_model(model, partial, compress_to_fp16=True)
    partial.with_suffix(".bin").replace(target.with_suffix(".bin"))
    partial.replace(target)


class Graph:
    """The nodes of one model; matrices are fp16, or int8 with a scale for each row."""

    def __init__(
        self, config: dict[str, Any], sources: dict[str, Source], weight_format: str | None
    ) -> None:
        self._config, self._sources, self._format = config, sources, weight_format
        self._heads, self._kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self._head_dim = config["hidden_size"] // self._heads
        self._sinks: list[Node] = []
        self._ids = _parameter("input_ids", ov.Type.i64, [-1, -1])
        self._mask = _parameter("attention_mask", ov.Type.i64, [-1, -1])
        self._positions = _parameter("position_ids", ov.Type.i64, [-1, -1])
        self._beams = _parameter("beam_idx", ov.Type.i32, [-1])

    def build(self) -> ov.Model:
        """Embedding, layers, norm, head of the last token."""
        x = op.gather(self._weight("model.embed_tokens"), op.convert(self._ids, "i32"), _int(0))
        rope, visible = self._rope(), self._visible()
        for layer in range(self._config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}"
            normed = self._norm(x, f"{prefix}.input_layernorm")
            x = op.add(x, self._attention(normed, layer, rope, visible))
            x = op.add(x, self._mlp(self._norm(x, f"{prefix}.post_attention_layernorm"), prefix))
        last = op.gather(self._norm(x, "model.norm"), _int([-1]), _int(1))
        logits = self._linear(last, "lm_head")
        logits.output(0).set_names({"logits"})
        inputs = [self._ids, self._mask, self._positions, self._beams]
        return ov.Model([op.result(logits)], self._sinks, inputs, "llama")

    def _weight(self, name: str) -> Node:
        values = self._sources[f"{name}.weight"].as_fp32()
        if self._format != "int8" or values.ndim == 1:
            return op.constant(values)
        scales = np.abs(values).max(axis=1, keepdims=True) / INT8_MAX + 1e-12
        codes = np.rint(values / scales).astype(np.int8)
        scaled = op.multiply(op.convert(op.constant(codes), "f16"), scales.astype(np.float16))
        return op.convert(scaled, "f32")

    def _linear(self, x: Node, name: str) -> Node:
        return op.matmul(x, self._weight(name), transpose_a=False, transpose_b=True)

    def _norm(self, x: Node, name: str) -> Node:
        squares = op.reduce_mean(op.power(x, _float(2.0)), _int([-1]), keep_dims=True)
        scale = op.divide(
            _float(1.0), op.sqrt(op.add(squares, _float(self._config["rms_norm_eps"])))
        )
        return op.multiply(self._weight(name), op.multiply(x, scale))

    def _mlp(self, x: Node, prefix: str) -> Node:
        gate = op.swish(self._linear(x, f"{prefix}.mlp.gate_proj"))
        gated = op.multiply(gate, self._linear(x, f"{prefix}.mlp.up_proj"))
        return self._linear(gated, f"{prefix}.mlp.down_proj")

    def _rope(self) -> tuple[Node, Node]:
        """Cosines and sines, [batch, 1, tokens, head_dim]."""
        steps = np.arange(0, self._head_dim, 2, dtype=np.float32) / self._head_dim
        frequencies = (self._config["rope_theta"] ** -steps).astype(np.float32)
        positions = op.unsqueeze(op.convert(self._positions, "f32"), _int(2))
        angles = op.multiply(positions, op.constant(frequencies.reshape(1, 1, -1)))
        both = op.unsqueeze(op.concat([angles, angles], -1), _int(1))
        return op.cos(both), op.sin(both)

    def _rotate(self, x: Node, rope: tuple[Node, Node]) -> Node:
        first, second = op.split(x, _int(-1), 2).outputs()
        halves = op.concat([op.multiply(second, _float(-1.0)), first], -1)
        return op.add(op.multiply(x, rope[0]), op.multiply(halves, rope[1]))

    def _visible(self) -> Node:
        """What each query may see, [batch, 1, tokens, context]; prompts are not padded."""
        context = op.gather(op.shape_of(self._mask), _int(1), _int(0))
        keys = op.range(_int(0), context, _int(1), "i64")
        queries = op.unsqueeze(op.unsqueeze(self._positions, _int(1)), _int(3))
        return op.less_equal(keys, queries)

    def _attention(self, x: Node, layer: int, rope: tuple[Node, Node], visible: Node) -> Node:
        prefix = f"model.layers.{layer}.self_attn"
        q = self._rotate(self._heads_of(x, f"{prefix}.q_proj", self._heads), rope)
        k = self._rotate(self._heads_of(x, f"{prefix}.k_proj", self._kv_heads), rope)
        v = self._heads_of(x, f"{prefix}.v_proj", self._kv_heads)
        keys = self._repeat(self._cached(k, f"past_key_values.{layer}.key"))
        values = self._repeat(self._cached(v, f"past_key_values.{layer}.value"))
        attended = op.scaled_dot_product_attention(q, keys, values, visible, causal=False)
        merged = op.transpose(attended, _int([0, 2, 1, 3]))
        flat = op.reshape(merged, _int([0, 0, self._heads * self._head_dim]), True)
        return self._linear(flat, f"{prefix}.o_proj")

    def _heads_of(self, x: Node, name: str, heads: int) -> Node:
        split = op.reshape(self._linear(x, name), _int([0, 0, heads, self._head_dim]), True)
        return op.transpose(split, _int([0, 2, 1, 3]))

    def _cached(self, new: Node, name: str) -> Node:
        """The state of earlier tokens with the new ones behind it, [batch, heads, context, dim]."""
        info = VariableInfo()
        info.data_shape = ov.PartialShape([-1, self._kv_heads, -1, self._head_dim])
        info.data_type, info.variable_id = ov.Type.f32, f"{name}present{name[4:]}"
        variable = Variable(info)
        batch = op.gather(op.shape_of(self._ids), _int([0]), _int(0))
        shape = op.concat([batch, _int([self._kv_heads, 0, self._head_dim])], 0)
        past = op.read_value(op.broadcast(_float(0.0), shape), variable)
        chosen = op.gather(past, self._beams, _int(0))
        context = op.concat([chosen, new], 2)
        self._sinks.append(op.assign(context, variable))
        return context

    def _repeat(self, x: Node) -> Node:
        """Keys or values of each group, once for each of its query heads."""
        group = self._heads // self._kv_heads
        if group == 1:
            return x
        wide = op.unsqueeze(x, _int(2))
        shape = _int([1, 1, group, 1, 1])
        copied = op.broadcast(wide, shape, broadcast_spec="BIDIRECTIONAL")
        return op.reshape(copied, _int([0, self._heads, -1, self._head_dim]), True)


def _parameter(name: str, type: ov.Type, shape: list[int]) -> Node:
    node = op.parameter(ov.PartialShape(shape), type, name)
    node.output(0).set_names({name})
    return node


def _int(value: int | list[int]) -> Node:
    return op.constant(np.array(value, dtype=np.int64))


def _float(value: float) -> Node:
    return op.constant(np.array(value, dtype=np.float32))
