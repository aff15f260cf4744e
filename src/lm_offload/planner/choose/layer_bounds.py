"""What no sweep can beat where the CPU computes whole layers, of which the number is open.

::

    small   sweep >= max(bytes that are moved / link,
                         attention + bytes in place / CPU,
                         (device + CPU) / micro-batches + ways to the CPU and back)
    large   sweep >= max(device without attention, uploads, reads)

The first at the share of bytes that balances it with the others, as far as there are
layers; the CPU is slower while anything is moved. MLPs of layers in place may be on the device.
"""

from __future__ import annotations

from lm_offload.planner.choose.layer_lines import Away, Layers, least_of_shares_s
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.places.host_placement import RING_DEPTHS
from lm_offload.planner.places.surplus import Surplus
from lm_offload.planner.sweeps.host_load import counted_tasks
from lm_offload.schedule.host_attention import most_rows


def small_sweep_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
) -> float:
    """What a sweep takes at least, however many layers are in place."""
    device, cpu = predictor.least_costs(model, sizes), predictor.cpu_costs(model)
    profile, most = predictor.request.profile, sizes.micro_batch_tokens
    away = _away(model, surplus)
    if sizes.attention != "cpu":
        layers = _layers(device, cpu, shape, most, away)
        least_s = least_of_shares_s(profile, layers, _with_ring(model, away))
        return max(least_s, _others_s(device, shape, most, layers.turns))
    some = _attending(device, cpu, shape, most_rows(shape.rows, most), away)
    others_s = _others_s(device, shape, most, some.turns)
    ways = (predictor.least_device_times(model, sizes, moves) for moves in (True, False))
    trips_s = [times.trips_s(shape) for times in ways]
    least_s = max(least_of_shares_s(profile, some, _with_ring(model, away), trips_s), others_s)
    if not _may_be_all(model, away):
        return least_s
    mlps = Away(max(away.homeless - away.attention, 0.0), away.layers - away.attention, 0.0)
    all_s = least_of_shares_s(profile, _mlps(device, cpu, shape, most), mlps)
    return min(least_s, max(all_s, others_s))


def large_sweep_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
) -> float:
    """The same of a sweep in which nothing is in place; the CPU attends in some layers."""
    costs, attended_s = predictor.least_costs(model, sizes), 0.0
    if sizes.attention == "device":
        attended_s = costs.total_attention_s(shape, sizes.micro_batch_tokens)
    moves = surplus.upload_s > 0
    least_s = predictor.least_device_s(model, sizes, shape, moves) - attended_s
    return max(least_s, surplus.upload_s, surplus.read_s)


def _away(model: ModelSizes, surplus: Surplus) -> Away:
    layers, attention = model.first_layers_bytes[-1], model.bytes_of_kind("attention")
    spared = max(surplus.spared_bytes, 0.0)
    return Away(surplus.homeless_bytes, layers + spared, attention + spared)


def _with_ring(model: ModelSizes, away: Away) -> Away:
    """With room for the least ring, as prompts move what is in place."""
    ring_bytes = model.least_of_layers_bytes if away.homeless else 0
    return away._replace(homeless=away.homeless + ring_bytes)


def _may_be_all(model: ModelSizes, away: Away) -> bool:
    """Whether all layers but one may leave anything to upload, so that rows are cut as in one."""
    if not model.bytes_of_kind("mlp"):  # attention in place is a layer in place
        return False
    layers, ring_bytes = model.config.num_layers, max(RING_DEPTHS).units * model.largest_bytes
    return away.homeless + ring_bytes > away.layers * (layers - 1) / layers


def _attending(
    device: UnitCosts, cpu: UnitCosts, shape: SweepShape, most: int, away: Away
) -> Layers:
    """Where the CPU attends in all layers."""
    more_s, fewer_s = (_of_layers_s(costs, shape, most, away, 0.0) for costs in (cpu, device))
    return Layers(
        turns=counted_tasks(shape, most),
        cpu_s=cpu.total_attention_s(shape, most),
        device_s=device.total_without_attention_s(shape, most),
        more_s=min(more_s),
        fewer_s=max(fewer_s),
    )


def _layers(device: UnitCosts, cpu: UnitCosts, shape: SweepShape, most: int, away: Away) -> Layers:
    """Where it attends in layers in place alone."""
    least_s, _ = cpu.attention_range_s(shape, most)
    _, most_s = device.attention_range_s(shape, most)
    return Layers(
        turns=counted_tasks(shape, most),
        cpu_s=0.0,
        device_s=device.total_s(shape, most),
        more_s=min(_of_layers_s(cpu, shape, most, away, least_s)),
        fewer_s=max(_of_layers_s(device, shape, most, away, most_s)),
    )


def _mlps(device: UnitCosts, cpu: UnitCosts, shape: SweepShape, most: int) -> Layers:
    """Where attention of all layers is in place, and MLPs may be."""
    attention_s, mlp_s = (
        [costs.total_of_kind_s(kind, shape, most) for costs in (cpu, device)]
        for kind in ("attention", "mlp")
    )
    return Layers(
        turns=counted_tasks(shape, most),
        cpu_s=cpu.total_attention_s(shape, most) + attention_s[0],
        device_s=device.total_without_attention_s(shape, most) - attention_s[1],
        more_s=mlp_s[0],
        fewer_s=mlp_s[1],
    )


def _others_s(device: UnitCosts, shape: SweepShape, most: int, turns: int) -> float:
    """What is never in place, as far as it is not hidden."""
    in_layers_s = sum(device.total_of_kind_s(kind, shape, most) for kind in ("attention", "mlp"))
    return (device.total_without_attention_s(shape, most) - in_layers_s) / turns


def _of_layers_s(
    costs: UnitCosts, shape: SweepShape, most: int, away: Away, attend_s: float
) -> tuple[float, float]:
    """All layers, and attention alone that would leave as many bytes."""
    attention_s = costs.total_of_kind_s("attention", shape, most) + attend_s
    alike_s = attention_s * away.layers / away.attention
    return attention_s + costs.total_of_kind_s("mlp", shape, most), alike_s
