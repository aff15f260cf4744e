"""What no sweep can beat where the CPU computes whole layers, of which the number is open.

::

    small   sweep >= max(bytes that are moved / link, bytes in place / CPU, device without layers)
    large   sweep >= max(device without attention, uploads, reads)

The first two at the share of bytes that balances them, as far as there are layers.
"""

from __future__ import annotations

from lm_offload.planner.device_bounds import Surplus
from lm_offload.planner.device_time import DeviceSweepTimes
from lm_offload.planner.memory import Sizes
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.request import ModelSizes
from lm_offload.planner.sweep_shape import SweepShape


def small_sweep_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape, upload_bytes: float
) -> float:
    """What a sweep takes at least where all but `upload_bytes` is on the device."""
    profile, most = predictor.request.profile, sizes.micro_batch_tokens
    assert profile.h2d is not None
    kinds = [sized.unit.kind in ("attention", "mlp") for sized in model.units]
    on_device = predictor.least_costs(model, sizes).without_attention_s(shape, most)
    on_cpu = predictor.cpu_costs(model).without_attention_s(shape, most)
    device_s = sum(s for s, in_layer in zip(on_device, kinds, strict=True) if not in_layer)
    cpu_s = sum(s for s, in_layer in zip(on_cpu, kinds, strict=True) if in_layer)
    units = zip(model.units, kinds, strict=True)
    layers_bytes = sum(sized.size_bytes for sized, in_layer in units if in_layer)
    link = max(profile.h2d.bytes_per_s.rates)
    in_place_bytes = min(upload_bytes / (1 + link * cpu_s / layers_bytes), layers_bytes)
    return max((upload_bytes - in_place_bytes) / link, device_s)


def large_sweep_s(times: DeviceSweepTimes, shape: SweepShape, surplus: Surplus) -> float:
    """The same of a sweep in which nothing is in place; the CPU attends in some layers."""
    attended_s = times.costs.total_attention_s(shape, times.micro_batch_tokens)
    least_s = times.least_s(shape) - (0.0 if times.on_host else attended_s)
    return max(least_s, surplus.upload_s, surplus.read_s)
