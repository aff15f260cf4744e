"""What the machine allows at best: bytes over bandwidths, FLOPs over the best product's rate.

Nothing of the engine enters but what its plan leaves on disk and how many rows share a sweep::

    seconds = max((streamed - retained + KV on disk) / B_disk, (weights + KV) / B_memory, FLOPs / F)

Where a device computes, memory and FLOPs are its own, and uploads over its link count too. Several
devices have as much more of all three.
Weights that fit the last-level cache are not read from memory.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from lm_offload.arch.accounting import attention_flops, kept_bytes, kv_bytes_per_token, unit_flops
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Plan, Workload
from lm_offload.planner.costs.disk_cost import read_s
from lm_offload.planner.costs.expert_sizes import used_frac
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.reasons.phase_ceiling import Ceiling, PhaseCeiling
from lm_offload.quant.kv_format import BLOCK_TOKENS


@dataclass(frozen=True)
class CeilingModel:
    """Costs of a model under a plan, from accounting alone."""

    model: ModelSizes
    plan: Plan
    profile: HardwareProfile

    def ceiling(self, workload: Workload) -> Ceiling:
        """Both phases of a workload."""
        phases = self._prefill(workload), self._decode(workload)
        return Ceiling(sum(workload.output_lens), *phases)

    def _prefill(self, workload: Workload) -> PhaseCeiling:
        """Logits are wanted of the last token of each prompt only."""
        tokens, config = sum(workload.computed_lens), self.model.config
        scores = sum(
            computed * attention_flops(config, length - computed // 2)
            for length, computed in zip(workload.prompt_lens, workload.computed_lens, strict=True)
        )
        layers, head = self._flops()
        flops = tokens * layers + scores + len(workload.prompt_lens) * head
        return self._phase(tokens, math.ceil(tokens / self.plan.sweep_tokens), 0, flops)

    def _decode(self, workload: Workload) -> PhaseCeiling:
        """The first token of each prompt comes from its prefill."""
        config, steps, kv_bytes, scores, disk_bytes = self.model.config, 0, 0, 0, 0
        token_bytes = kv_bytes_per_token(config, self.model.kv_format)
        spilled_bytes = kept_bytes(config.usual_kv_shape, self.model.kv_format)
        for prompt, output in zip(workload.prompt_lens, workload.output_lens, strict=True):
            context = prompt + (output + 1) // 2
            steps += output - 1
            kv_bytes += (output - 1) * (context * token_bytes + 2 * config.state_bytes)
            full = max(context - BLOCK_TOKENS, 0)  # at least; the last block is in memory
            disk_bytes += (output - 1) * self._spilled_tokens(full) * spilled_bytes
            scores += (output - 1) * attention_flops(config, context)
        in_flight = min(self.plan.max_sequences, len(workload.prompt_lens))
        sweeps = math.ceil(steps / in_flight)
        flops = steps * sum(self._flops()) + scores
        return self._phase(steps, sweeps, kv_bytes, flops, disk_bytes)

    def _spilled_tokens(self, context: int) -> int:
        """Tokens that one row reads from disk, in all layers together."""
        layers = (self.model.config.layers[index] for index in self.plan.spill.layers)
        return sum(min(context, layer.window or context) for layer in layers)

    def _flops(self) -> tuple[int, int]:
        """FLOPs of one row: in the layers, with the experts that it uses, and in the head."""
        units, config = [sized.unit for sized in self.model.units], self.model.config
        head = sum(unit_flops(unit) for unit in units if unit.kind == "head")
        layers = sum(map(unit_flops, units)) - head
        if self.model.experts is None:
            return layers, head
        used = config.mixture_layers * config.experts_per_token
        return layers + used * unit_flops(self.model.experts.example.unit), head

    def _unused_bytes(self, rows: float, units: Container[str]) -> float:
        """Of some units, the experts that no row of a sweep uses."""
        if self.model.experts is None:
            return 0.0
        experts = (it.size_bytes for it in self.model.experts.units if it.unit.name in units)
        return sum(experts) * (1.0 - used_frac(self.model.config, rows))

    def _phase(
        self, tokens: int, sweeps: int, kv_bytes: int, flops: int, kv_disk_bytes: int = 0
    ) -> PhaseCeiling:
        block_bytes, disk = self.plan.read_block_bytes, self.profile.disk_read
        retained_bytes = self.plan.retention.size_bytes if self.plan.retention else 0.0
        rows = tokens / max(sweeps, 1)
        unread_bytes = retained_bytes + self._unused_bytes(rows, {*self.plan.streamed})
        read_bytes = self.plan.streamed_bytes - unread_bytes
        weights_s = sweeps * read_s(disk, round(read_bytes), block_bytes)
        processor, in_place_bytes = self._processor, self._in_place_bytes(rows)
        weight_bytes = self.model.weight_bytes - self._unused_bytes(rows, self.model.bytes_by_name)
        if weight_bytes <= processor.cache_bytes:
            weight_bytes = 0.0
        on_device_bytes = max(weight_bytes - in_place_bytes, 0)
        memory_s = self._memory_s(sweeps * on_device_bytes, sweeps * in_place_bytes, kv_bytes)
        return PhaseCeiling(
            tokens=tokens,
            disk_s=weights_s + read_s(disk, kv_disk_bytes, block_bytes),
            memory_s=memory_s,
            compute_s=flops / (processor.peak_flops * self._devices),
            link_s=sweeps * self._upload_s(in_place_bytes),
        )

    def _memory_s(self, weight_bytes: float, in_place_bytes: float, kv_bytes: float) -> float:
        """Side by side where the CPU reads weights or the KV cache beside a device."""
        processor, on_host_bytes = self._processor, kv_bytes * self._kv_on_host_frac
        device_bytes = weight_bytes + kv_bytes - on_host_bytes
        device_s = device_bytes / (processor.memory_bytes_per_s * self._devices)
        return max(device_s, (in_place_bytes + on_host_bytes) / self.profile.cpu.memory_bytes_per_s)

    @property
    def _kv_on_host_frac(self) -> float:
        """Of the KV cache, beside a device."""
        device, layers = self.plan.device, self.model.config.num_layers
        if device is None:
            return 0.0
        if device.attention != "device":
            return 1 - device.kv_blocks / self.plan.kv_blocks
        return sum(name.endswith(".attention") for name in device.in_place) / layers

    @property
    def _processor(self) -> Processor:
        gpu = self.profile.gpu if self.plan.device else None
        return gpu or self.profile.cpu

    @property
    def _devices(self) -> int:
        """That compute at the same time, each at most its share."""
        return max(len(self.plan.device.stages), 1) if self.plan.device else 1

    def _in_place_bytes(self, rows: float) -> int:
        """What the CPU computes beside a device in a sweep of so many rows."""
        device, sizes = self.plan.device, self.model.bytes_by_name
        if device is None or rows > device.in_place_rows:
            return 0
        return sum(map(sizes.__getitem__, device.in_place))

    def _upload_s(self, in_place_bytes: int) -> float:
        """Of one sweep, at the best rate of the link; each of several devices has its own."""
        device, link = self.plan.device, self.profile.h2d
        if device is None or link is None:
            return 0.0
        most_bytes = max(part.uploaded_bytes for part in device.stages or (device,))
        return (most_bytes - in_place_bytes) / max(link.bytes_per_s.rates)
