"""The most bytes that a policy holds in each tier, by phase: homes, buffers, workspace.

FlexGen's equations (arXiv 2303.06865, appendix A.3) for any number of buffers, KV heads and
formats; attention is taken to be computed in tiles, without a matrix of scores. W, X, A are all
weights, KV and hidden states of the block, w, x, a what is in the device's buffers::

    gpu   g (W + X + A)  +  (c + d) (w + x + a)  +  dequantized copies  +  workspace
    cpu   c (W + X + A)  +  d (w + x), and c (w + x) too where homes are not pinned
    disk  d (W + X + A)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.policies.model_shape import ModelShape
from lm_offload.planner.policies.policy import Policy, Share
from lm_offload.planner.policies.scene import Scene, Step
from lm_offload.planner.policies.schedule import micro_batches_ahead, units_ahead
from lm_offload.planner.policies.task_bytes import float_bytes, kv_bytes
from lm_offload.schedule.block import UnitKind

Tier = Literal["gpu", "cpu", "disk"]
TIERS: tuple[Tier, ...] = get_args(Tier)
LOGIT_BYTES = 4


@dataclass(frozen=True)
class PeakBytes:
    """Bytes of each tier in each phase."""

    prefill: Mapping[Tier, float]
    decode: Mapping[Tier, float]

    def of(self, tier: Tier) -> float:
        """The larger of both phases."""
        return max(self.prefill[tier], self.decode[tier])

    def missing(self, capacities: Mapping[Tier, float]) -> dict[Tier, float]:
        """Bytes that are needed beyond the capacities, by tier; empty where everything fits."""
        lacking = {tier: self.of(tier) - capacities[tier] for tier in TIERS}
        return {tier: size for tier, size in lacking.items() if size > 0}


def capacities(machine: HardwareProfile) -> dict[Tier, float]:
    """Bytes of each tier of a machine."""
    gpu_bytes = machine.gpu.memory_bytes if machine.gpu else 0
    return {"gpu": gpu_bytes, "cpu": machine.cpu.memory_bytes, "disk": machine.disk_bytes}


def peak_bytes(
    model: ModelShape, machine: HardwareProfile, policy: Policy, prompt_len: int, gen_len: int
) -> PeakBytes:
    """The most that is held in each tier while one block is computed."""
    total_len = prompt_len + gen_len
    prefill = Scene(model, machine, policy, Step("prefill", prompt_len, total_len))
    decode = Scene(model, machine, policy, Step("decode", 1, total_len))
    return PeakBytes(phase_bytes(prefill), phase_bytes(decode))


def phase_bytes(scene: Scene) -> dict[Tier, float]:
    """Bytes of each tier while a phase is computed whose longest context is the scene's."""
    buffers = _buffer_bytes(scene)
    sizes = _home_bytes(scene)
    sizes["cpu"] += _host_buffer_bytes(scene, buffers)
    if scene.on_gpu:
        outside = (scene.policy.weights, scene.policy.kv, scene.policy.activations)
        streamed = zip(buffers, outside, strict=True)
        sizes["gpu"] += sum(size * (share.cpu + share.disk) for size, share in streamed)
    sizes[scene.devices.compute] += _copy_bytes(scene) + _workspace_bytes(scene)
    return sizes


def _home_bytes(scene: Scene) -> dict[Tier, float]:
    """What lies in each tier for the whole block."""
    model, policy = scene.model, scene.policy
    weights = model.total_bytes(policy.weight_format)
    weights += model.embed_elements * float_bytes(scene)
    kv = model.num_layers * kv_bytes(scene, policy.block_size * scene.step.context)
    hidden = policy.num_micro_batches * _hidden_bytes(scene)
    return {
        tier: getattr(policy.weights, tier) * weights
        + getattr(policy.kv, tier) * kv
        + getattr(policy.activations, tier) * hidden
        for tier in TIERS
    }


def _buffer_bytes(scene: Scene) -> tuple[float, float, float]:
    """Weights, KV and hidden states in the device's buffers, if nothing were resident there."""
    ahead, sequences = micro_batches_ahead(scene), scene.policy.micro_batch_size
    if scene.step.phase == "decode" and not scene.splits_attention:
        kv = (ahead + 1) * kv_bytes(scene, sequences * scene.step.context)
    else:  # only what new tokens leave; that of the micro-batch that computes is workspace
        kv = ahead * kv_bytes(scene, scene.rows)
    return _weight_window_bytes(scene), kv, (ahead + 1) * _hidden_bytes(scene)


def _weight_window_bytes(scene: Scene) -> float:
    """The largest units that are in the buffers together."""
    format, count = scene.policy.weight_format, units_ahead(scene.policy) + 1
    units: tuple[UnitKind, ...] = (*("attention", "mlp") * count, "head", *("attention", "mlp"))
    sizes = [scene.model.unit_bytes(unit, format) for unit in units]
    return max(sum(sizes[first : first + count]) for first in range(len(sizes) - count + 1))


def _host_buffer_bytes(scene: Scene, buffers: tuple[float, float, float]) -> float:
    """Pinned memory that transfers from disk and from pageable homes pass through."""
    weights, kv, hidden = buffers
    policy = scene.policy
    size = policy.activations.disk * hidden
    size += _passing(policy.weights, policy.pinned or not scene.on_gpu) * weights
    return size + _passing(policy.kv, policy.kv_pinned or not scene.on_gpu) * kv


def _passing(share: Share, pinned: bool) -> float:
    return share.disk + (0.0 if pinned else share.cpu)


def _copy_bytes(scene: Scene) -> float:
    """Dequantized copies of the unit that computes and of what it attends to."""
    model, policy = scene.model, scene.policy
    if policy.dequantize == "fused":
        return 0.0
    kinds: tuple[UnitKind, ...] = ("attention", "mlp", "head")
    size = 0.0
    if policy.weight_format.is_packed:
        size += max(model.unit_bytes(unit, model.float_format) for unit in kinds)
    if policy.kv_format.is_packed and scene.step.phase == "decode":
        values = 2 * model.kv_size * policy.micro_batch_size * scene.step.context
        size += values * float_bytes(scene)
    return size


def _hidden_bytes(scene: Scene) -> float:
    """Hidden states of one micro-batch."""
    return scene.rows * scene.model.hidden_size * float_bytes(scene)


def _workspace_bytes(scene: Scene) -> float:
    """Intermediate results of the largest stage, and logits."""
    model = scene.model
    attention = 2 * model.query_size + 2 * model.kv_size  # queries, keys, values, output
    inner = (len(model.mlp.shapes) - 1) * model.inner_size
    if model.num_experts:
        inner = model.experts_per_token * (len(model.expert.shapes) - 1) * model.inner_size
    values = scene.rows * (model.hidden_size + max(attention, inner))
    logits = scene.policy.micro_batch_size * model.head.shapes[0][0]
    return values * float_bytes(scene) + logits * LOGIT_BYTES
