"""Seconds of the compute tasks: products, attention, (de)quantization, elementwise kernels."""

from __future__ import annotations

import math

from lm_offload.arch.experts import touched_experts
from lm_offload.hardware.processor import Processor
from lm_offload.planner.policies.model_shape import Matrices
from lm_offload.planner.policies.scene import Scene
from lm_offload.planner.policies.task_bytes import Key, float_bytes, kv_bytes
from lm_offload.quant.format import Format

QUANTIZE_BYTES = 24.5  # read and written for each value, one torch kernel after the other
DEQUANTIZE_BYTES = 14.5  # both counted in FlexGen's compression.py
FUSED_QUANTIZE_BYTES = 2.6  # read 2, write 0.5625
HIDDEN_PASSES = 5  # a norm reads and writes, the residual sum reads twice and writes
INNER_PASSES = 3  # the activation reads two and writes one
ATTENTION_KERNELS = 9  # norm, layout and rotation, scores, softmax, sum, store, residual
MLP_KERNELS = 3  # norm, activation, residual
ROUTER_KERNELS = 6  # norm, softmax, choice, sorting, sum, residual
EXPERT_KERNELS = 3  # gather, activation, scatter


def compute_seconds(scene: Scene) -> dict[Key, float]:
    """Seconds of one compute task of each kind of unit; of its parts where attention is split."""
    processor = scene.processor(scene.devices.compute)
    hidden_s, task_s = _hidden_s(scene, processor), processor.task_s
    head_s = _products_s(scene, scene.model.head, scene.policy.micro_batch_size)
    return {
        ("compute", "mlp"): task_s + hidden_s + _mlp_s(scene),
        ("compute", "head"): task_s + head_s,
        **_attention_seconds(scene, processor, task_s + hidden_s),
    }


def _attention_seconds(scene: Scene, processor: Processor, fixed_s: float) -> dict[Key, float]:
    """One task, or three of which the second is on the CPU."""
    project_s = fixed_s + _products_s(scene, scene.model.projections, scene.rows)
    project_s += ATTENTION_KERNELS * processor.kernel_s
    output_s = _products_s(scene, scene.model.output, scene.rows)
    if not scene.splits_attention:
        whole_s = project_s + _attend_s(scene, processor, 1.0) + output_s
        return {("compute", "attention"): whole_s}
    inside, cpu = scene.policy.kv.gpu, scene.machine.cpu
    return {
        ("project", "attention"): project_s + _attend_s(scene, processor, inside),
        ("attend", "attention"): cpu.task_s + cpu.kernel_s + _attend_s(scene, cpu, 1.0 - inside),
        ("compute", "attention"): output_s,
    }


def _mlp_s(scene: Scene) -> float:
    model, kernel_s = scene.model, scene.processor(scene.devices.compute).kernel_s
    seconds = _products_s(scene, model.mlp, scene.rows)
    if not model.num_experts:
        return seconds + MLP_KERNELS * kernel_s + _inner_s(scene, scene.rows)
    touched = touched_experts(model.num_experts, model.experts_per_token, scene.rows)
    rows = scene.rows * model.experts_per_token / touched
    expert_s = _products_s(scene, model.expert, rows) + _inner_s(scene, rows)
    return seconds + ROUTER_KERNELS * kernel_s + touched * (expert_s + EXPERT_KERNELS * kernel_s)


def _products_s(scene: Scene, part: Matrices, rows: float) -> float:
    """Products with matrices, dequantization included; GPU-resident ones stay on the GPU."""
    if scene.on_gpu:
        return _device_products_s(scene, scene.processor("gpu"), part, rows)
    inside = scene.policy.weights.gpu
    seconds = (1.0 - inside) * _device_products_s(scene, scene.machine.cpu, part, rows)
    if inside:
        seconds += inside * _device_products_s(scene, scene.processor("gpu"), part, rows)
    return seconds


def _device_products_s(scene: Scene, processor: Processor, part: Matrices, rows: float) -> float:
    format = scene.model.stored_format(part, scene.policy.weight_format)
    seconds = len(part.shapes) * processor.kernel_s
    if format.is_packed and scene.policy.dequantize != "fused":
        seconds += dequantize_s(processor, format, part.elements) * _repetition(scene)
        format = scene.model.float_format
    return seconds + _matrices_s(scene, processor, format, part, max(round(rows), 1))


def _matrices_s(
    scene: Scene, processor: Processor, format: Format, part: Matrices, rows: int
) -> float:
    """Seconds of products with matrices, one after the other.

    A packed format whose rate is not known is as fast as the float product that computes as much
    for each byte: one of more rows.
    """
    known = processor.product_flops
    float_curve = known.get(str(scene.model.float_format))
    if not format.is_packed or str(format) in known or float_curve is None:
        return sum(processor.product_s(format, rows, math.prod(shape)) for shape in part.shapes)
    packed_bytes = format.matrix_bytes(1 << 12, 1 << 12) / (1 << 24)
    flops = float_curve.at(rows * float_bytes(scene) / packed_bytes)
    return 2.0 * rows * part.elements / flops + len(part.shapes) * processor.memory_start_s


def _repetition(scene: Scene) -> float:
    """How often a unit is dequantized for one micro-batch."""
    return 1.0 if scene.policy.dequantize == "micro_batch" else 1.0 / scene.policy.num_micro_batches


def _attend_s(scene: Scene, processor: Processor, share: float) -> float:
    """Scores and weighted sums of a share of the sequences, quantization of their KV included."""
    sequences = share * scene.policy.micro_batch_size
    if sequences == 0:
        return 0.0
    if scene.step.phase == "decode":
        attend_s = _decode_attention_s(scene, processor, sequences)
    else:
        attend_s = _prefill_attention_s(scene, processor, sequences)
    return attend_s + _store_s(scene, processor, sequences)


def _prefill_attention_s(scene: Scene, processor: Processor, sequences: float) -> float:
    model, step = scene.model, scene.step
    pairs = model.visible_pairs(step.tokens)
    flops, seen = 4.0 * model.query_size * sequences * pairs, pairs / step.tokens
    return processor.prefill_attention_s(model.float_format, model.heads, seen, flops)


def _decode_attention_s(scene: Scene, processor: Processor, sequences: float) -> float:
    """A packed cache is read as it is, or unpacked first; a fused kernel keeps its byte rate."""
    model, stored = scene.model, scene.policy.kv_format
    context, seen = scene.step.context, sequences * model.seen_tokens(scene.step.context)
    if stored.is_packed and scene.policy.dequantize != "fused":
        values = 2 * model.kv_size * seen
        copy_s, read_bytes = dequantize_s(processor, stored, values), values * float_bytes(scene)
    else:
        copy_s, read_bytes = 0.0, kv_bytes(scene, seen)
    known = {name.partition("/")[0] for name in processor.decode_attention_bytes_per_s}
    format = stored if copy_s == 0.0 and str(stored) in known else model.float_format
    return copy_s + processor.decode_attention_s(format, model.heads, context, read_bytes)


def _store_s(scene: Scene, processor: Processor, sequences: float) -> float:
    """Quantization of the keys and values of the new tokens."""
    format = scene.policy.kv_format
    if not format.is_packed:
        return 0.0
    values = 2 * scene.model.kv_size * sequences * scene.step.tokens
    rate = processor.quantize_values_per_s.get(str(format))
    fused = scene.policy.dequantize == "fused"
    value_bytes = FUSED_QUANTIZE_BYTES if fused else QUANTIZE_BYTES
    return values / rate if rate else values * value_bytes / _elementwise_rate(processor)


def dequantize_s(processor: Processor, format: Format, values: float) -> float:
    """Unpacking to a copy, by the measured rate or one torch kernel after the other."""
    rate = processor.dequantize_values_per_s.get(str(format))
    return values / rate if rate else values * DEQUANTIZE_BYTES / _elementwise_rate(processor)


def _hidden_s(scene: Scene, processor: Processor) -> float:
    values = scene.rows * (HIDDEN_PASSES * scene.model.hidden_size)
    return _elementwise_s(scene, processor, values)


def _inner_s(scene: Scene, rows: float) -> float:
    processor = scene.processor(scene.devices.compute)
    return _elementwise_s(scene, processor, INNER_PASSES * rows * scene.model.inner_size)


def _elementwise_s(scene: Scene, processor: Processor, values: float) -> float:
    return values * float_bytes(scene) / _elementwise_rate(processor)


def _elementwise_rate(processor: Processor) -> float:
    return processor.elementwise_bytes_per_s or processor.memory_bytes_per_s
