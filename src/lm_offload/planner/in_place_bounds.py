"""What no sweep with units in place can beat: every byte is moved over the link or is the CPU's.

::

    sweep >= max(bytes that are moved / link, bytes in place / CPU, device without MLPs)

at the share of bytes that balances the first two, as far as there are MLPs.
"""

from __future__ import annotations

from lm_offload.planner.memory import Sizes
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.request import ModelSizes
from lm_offload.planner.sweep_shape import SweepShape


def in_place_sweep_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape, upload_bytes: float
) -> float:
    """What a sweep takes at least where all but `upload_bytes` is on the device."""
    profile, most = predictor.request.profile, sizes.micro_batch_tokens
    assert profile.h2d is not None
    rows_s = predictor.least_device_times(model, sizes).steady(shape).total_s
    mlps = [unit for unit, sized in enumerate(model.units) if sized.unit.kind == "mlp"]
    on_device = predictor.least_costs(model, sizes).without_attention_s(shape, most)
    on_cpu = predictor.cpu_costs(model).without_attention_s(shape, most)
    device_s, cpu_s = (sum(map(costs.__getitem__, mlps)) for costs in (on_device, on_cpu))
    mlp_bytes = sum(model.units[unit].size_bytes for unit in mlps)
    link = max(profile.h2d.bytes_per_s.rates)
    in_place_bytes = min(upload_bytes / (1 + link * cpu_s / mlp_bytes), mlp_bytes)
    return max((upload_bytes - in_place_bytes) / link, rows_s - device_s)
