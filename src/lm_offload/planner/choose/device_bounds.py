"""Lower bounds where a device computes: three tiers, each with no more than it must do.

::

    sweep >= max(units on the device and, where it attends, the CPU + overhead + download,
                 bytes without room on the device / fastest upload,
                 bytes without room on either / fastest read)      with the rings' bytes

Several devices share the first two evenly at best.
"""

from __future__ import annotations

from collections.abc import Callable

from lm_offload.planner.choose.in_place_bounds import in_place_sweep_s
from lm_offload.planner.choose.layer_bounds import large_sweep_s, small_sweep_s
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.places.surplus import Surplus


def least_device_sweep(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, surplus: Surplus
) -> Callable[[SweepShape], float]:
    """What a sweep of these sizes takes at least."""
    device = predictor.request.device
    assert device is not None
    devices = len(device.each)

    def sweep_s(shape: SweepShape) -> float:
        if shape.rows > sizes.in_place_rows and sizes.in_place_layers:
            return large_sweep_s(predictor, model, sizes, shape, surplus)
        if shape.rows > sizes.in_place_rows:
            moves = surplus.upload_s > 0
            least_s = predictor.least_device_s(model, sizes, shape, moves)
            return max(max(least_s, surplus.upload_s) / devices, surplus.read_s)
        small_s = small_sweep_s if sizes.in_place_layers else in_place_sweep_s
        return max(small_s(predictor, model, sizes, shape, surplus), surplus.read_s)

    return sweep_s
