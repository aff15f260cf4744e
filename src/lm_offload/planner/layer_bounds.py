"""What no sweep can beat where the CPU computes whole layers, of which the number is open.

::

    small   sweep >= max(bytes that are moved / link,
                         (layers on the device + bytes in place / CPU) / micro-batches)
    large   sweep >= max(device without attention, uploads, reads)

The first two at the share of bytes that balances them, as far as there are layers.
"""

from __future__ import annotations

from lm_offload.planner.device_time import DeviceSweepTimes
from lm_offload.planner.host_load import MOST_COUNTED
from lm_offload.planner.memory import Sizes
from lm_offload.planner.model_sizes import ModelSizes
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.surplus import Surplus
from lm_offload.planner.sweep_shape import SweepShape
from lm_offload.schedule.host_attention import most_rows


def small_sweep_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape, upload_bytes: float
) -> float:
    """What a sweep takes at least where all but `upload_bytes` is on the device."""
    link = predictor.request.profile.h2d
    assert link is not None
    bytes_per_s, layers_bytes = max(link.bytes_per_s.rates), model.first_layers_bytes[-1]
    none_s, every_s = _rows_s(predictor, model, sizes, shape)
    byte_s = max(every_s - none_s, 0.0) / layers_bytes  # of one in place instead of on the device
    balanced = (upload_bytes / bytes_per_s - none_s) / (1 / bytes_per_s + byte_s)
    in_place = min(max(balanced, 0.0), upload_bytes, layers_bytes)
    moved_s = (upload_bytes - in_place) / bytes_per_s
    return max(moved_s, min(none_s, every_s) + in_place * byte_s)


def _rows_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape
) -> tuple[float, float]:
    """Seconds of device and CPU one after the other, shared by micro-batches at best.

    Without a layer in place, and with every one.
    """
    most = sizes.micro_batch_tokens
    device, cpu = predictor.least_costs(model, sizes), predictor.cpu_costs(model)
    attend_s, attends = cpu.total_attention_s(shape, most), sizes.attention == "cpu"
    own_attend_s = attend_s if attends else device.total_attention_s(shape, most)
    all_s = device.total_without_attention_s(shape, most)
    in_layers_s, on_cpu_s = (
        sum(costs.total_of_kind_s(kind, shape, most) for kind in ("attention", "mlp"))
        for costs in (device, cpu)
    )
    rows = most_rows(shape.rows, most) if attends else most
    turns = min(-(-shape.rows // rows), MOST_COUNTED)
    none_s, every_s = all_s + own_attend_s, all_s - in_layers_s + on_cpu_s + attend_s
    return none_s / turns, every_s / turns


def large_sweep_s(times: DeviceSweepTimes, shape: SweepShape, surplus: Surplus) -> float:
    """The same of a sweep in which nothing is in place; the CPU attends in some layers."""
    attended_s = times.costs.total_attention_s(shape, times.micro_batch_tokens)
    least_s = times.least_s(shape) - (0.0 if times.on_host else attended_s)
    return max(least_s, surplus.upload_s, surplus.read_s)
