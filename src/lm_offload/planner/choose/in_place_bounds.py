"""What no sweep with units in place can beat: every byte is moved over the link or is the CPU's.

::

    sweep >= max(bytes moved / link, attention + bytes in place / CPU, device without MLPs)

at the share of bytes that balances the first two, as far as there are MLPs. The CPU is slower
while anything is moved, as in `in_place_time`.
"""

from __future__ import annotations

import math

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.places.surplus import Surplus
from lm_offload.planner.sweeps.link_disturbance import compute_loss
from lm_offload.schedule.host_attention import most_rows


def in_place_sweep_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
) -> float:
    """What a sweep takes at least, whatever of what has no home on the device is in place."""
    profile, most, attend_s = predictor.request.profile, sizes.micro_batch_tokens, 0.0
    cpu = predictor.cpu_costs(model)
    if sizes.attention == "cpu":
        most = most_rows(shape.rows, most)
        attend_s = cpu.total_attention_s(shape, most)
    moving_s, rows_s = (
        predictor.least_device_s(model, sizes, shape, moves) for moves in (True, False)
    )
    if not (mlp_bytes := model.bytes_of_kind("mlp")):
        return moving_s
    device_s = predictor.least_costs(model, sizes).total_of_kind_s("mlp", shape, most)
    byte_s = cpu.total_of_kind_s("mlp", shape, most) / mlp_bytes
    both_s, alone_s = _balanced_s(profile, surplus.homeless_bytes, mlp_bytes, attend_s, byte_s)
    return min(max(both_s, moving_s - device_s), max(alone_s, rows_s - device_s))


def _balanced_s(
    profile: HardwareProfile, upload_bytes: float, most: float, attend_s: float, byte_s: float
) -> tuple[float, float]:
    """Seconds of link and CPU where at most `most` bytes are in place; `byte_s` is one of them.

    With the best share of them moved, and with none.
    """
    assert profile.h2d is not None
    link = max(profile.h2d.bytes_per_s.rates)
    slower_s = byte_s * (1 + compute_loss(profile, min(profile.h2d.bytes_per_s.rates)))
    in_place = min(max(upload_bytes / link - attend_s, 0) / (1 / link + slower_s), most)
    both_s = max((upload_bytes - in_place) / link, attend_s)
    alone_s = attend_s + upload_bytes * byte_s if upload_bytes <= most else math.inf
    return both_s, alone_s
