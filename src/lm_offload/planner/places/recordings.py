"""Whether a device replays what decode launches: where that is faster, and where it has room.

Launches of kernels show where weights stay on the device and few rows are computed; while weights
are uploaded the link takes longer than any launch. A recording has fixed addresses and sizes, and a
unit has one for each batch size.
"""

from __future__ import annotations

from dataclasses import replace

from lm_offload.planner.costs.device_memory import scratch_bytes
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.task_cost import REPLAYED
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.request import Request
from lm_offload.planner.sweeps.mean_sweeps import mean_decode
from lm_offload.units import KIB, MIB, align_up

GAIN = 1.05  # of a decode sweep; less is not worth the memory
SHAPES = 8  # batch sizes that are recorded at once
RECORDING_BYTES = 128 * KIB  # of a unit, in the driver; an assumption, not measured
WORKSPACE_BYTES = 64 * MIB  # of libraries, in a pool of their own


def with_recordings(
    request: Request, candidate: Candidate, launched: UnitCosts, replayed: UnitCosts
) -> Candidate:
    """`candidate` with recordings if they pay by these costs; without, if they do not."""
    device, sizes = candidate.device, candidate.sizes
    if device is None or request.device is None or not _can_be(candidate):
        return candidate
    shape = mean_decode(request.workload, sizes.max_sequences).shape
    launched_s, replayed_s = (
        costs.total_s(shape, sizes.micro_batch_tokens) for costs in (launched, replayed)
    )
    size_bytes = recordings_bytes(candidate.model, sizes)
    left_bytes = request.device.budget_bytes - candidate.peak_bytes["gpu"]
    if launched_s < GAIN * replayed_s or left_bytes < size_bytes:
        return candidate
    memory = (*device.other_memory, ("recordings", size_bytes))
    return replace(candidate, device=replace(device, other_memory=memory, replays=True))


def recordings_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """Of all units and batch sizes, and what their kernels allocate."""
    units = sum(sized.unit.kind in REPLAYED for sized in model.units)
    decode = replace(
        sizes,
        sweep_tokens=sizes.max_sequences,
        micro_batch_tokens=min(sizes.micro_batch_tokens, sizes.max_sequences),
    )
    kernels = align_up(scratch_bytes(model, decode))
    return SHAPES * units * RECORDING_BYTES + kernels + WORKSPACE_BYTES


def _can_be(candidate: Candidate) -> bool:
    """One device computes all, and nothing moves."""
    device = candidate.device
    if device is None or device.replays or device.stages or candidate.sizes.attention != "device":
        return False
    return not any(candidate.model.units[unit].size_bytes for unit in candidate.uploaded)
