"""From what a user says of GPU memory to the device that computes and its budget."""

from __future__ import annotations

from collections.abc import Mapping

from lm_offload.device.registry import DEFAULT_DEVICE, is_device_name, open_device
from lm_offload.errors import ConfigError
from lm_offload.planner.request import DeviceBudget
from lm_offload.units import format_bytes, parse_size

AUTO = "auto"
MARGIN_FRAC = 0.1  # of free device memory, left to others where the budget is "auto"


def split_max_memory(
    max_memory: Mapping[str | int, str | int],
) -> tuple[str | int | None, str | None, str | int | None]:
    """CPU budget, device and its budget in accelerate's spelling, where 0 is the first GPU.

    Raises ConfigError for keys that are no tier, or more than one device.
    """
    named = {f"cuda:{key}" if isinstance(key, int) else key: max_memory[key] for key in max_memory}
    cpu = named.pop("cpu", None)
    if len(named) > 1 or not all(map(is_device_name, named)) or not max_memory:
        raise ConfigError(
            f'max_memory is {dict(max_memory)!r}; allowed are the key "cpu" and one device, as in '
            '{"cuda:0": "6GiB", "cpu": "8GiB"}.'
        )
    device, memory = next(iter(named.items()), (None, None))
    return cpu, device, memory


def device_budget(device: str | None, memory: str | int | None) -> DeviceBudget | None:
    """The budget of `device` (the first GPU, where only memory is given); None is the CPU alone.

    `memory` is bytes, a size, a share of what is free, or "auto" for that less a margin. Raises
    ConfigError for what the device does not have.
    """
    if device is None and memory is None:
        return None
    name = device or DEFAULT_DEVICE
    opened = open_device(name)
    try:
        free_bytes, fixed_bytes = opened.memory().free_bytes, opened.fixed_bytes
    finally:
        opened.close()
    # The context is there already, so what is free does not count it.
    budget_bytes = _budget_bytes(name, memory, free_bytes + fixed_bytes)
    return DeviceBudget(name, budget_bytes, fixed_bytes)


def _budget_bytes(name: str, memory: str | int | None, free_bytes: int) -> int:
    if memory is None or memory == AUTO:
        return int(free_bytes * (1 - MARGIN_FRAC))
    budget_bytes = memory if isinstance(memory, int) else parse_size(memory, free_bytes)
    if not 0 < budget_bytes <= free_bytes:
        raise ConfigError(
            f"A GPU memory budget of {memory} was given, {name} has {format_bytes(free_bytes)} "
            "free; give more than zero and no more than that, or free some."
        )
    return budget_bytes
