"""Groups of a search for which host memory beside a device is never short.

Their units are not read in any sweep, so neither more host memory nor a faster disk changes more
than how long embedding rows take.
"""

from __future__ import annotations

from lm_offload.planner.choose.best_first import Group
from lm_offload.planner.costs.device_memory import host_rows_beside
from lm_offload.planner.places.host_placement import RING_DEPTHS
from lm_offload.planner.request import Request


def fits_host(request: Request, group: Group) -> bool:
    """Whether all units have room in host memory, beside the largest option of a group.

    With a ring for streamed units and one for those that only pass through.
    """
    if request.device is None:
        return False
    model, most = group.model, group.options[-1]
    others = sum(size_bytes for _, size_bytes in host_rows_beside(request, model, most))
    rings = 2 * max(RING_DEPTHS).largest_bytes(model.unit_bytes)
    return model.units_bytes + rings + others <= request.budget_bytes
