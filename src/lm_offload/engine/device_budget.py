"""From what a user says of memory to budgets, and to the device that computes if there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lm_offload.device.base import CONTEXT_BYTES
from lm_offload.device.registry import DEFAULT_DEVICE, is_device_name, open_device
from lm_offload.engine.device_options import AUTO, computing
from lm_offload.engine.planning import resolve_budget
from lm_offload.errors import ConfigError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.decided.plan_choice import DeviceChoice, PlanChoice
from lm_offload.planner.request import DeviceBudget, joined
from lm_offload.units import format_bytes, parse_size

Size = str | int | None

MARGIN_FRAC = 0.1  # of free device memory, left to others where the budget is "auto"


class Budgets(NamedTuple):
    """Of the host, and of the device that computes if there is one."""

    cpu_bytes: int
    device: DeviceBudget | None


def memory_budgets(
    cpu_memory: Size,
    max_memory: Mapping[str | int, str | int] | None,
    gpu_memory: Size,
    device: str | None,
    saved: PlanChoice | None,
    attention: str = AUTO,
    in_place: str = AUTO,
) -> Budgets:
    """Budgets in either spelling; without a word of a device, that of a saved plan.

    Raises ConfigError for both spellings at once and for what the machine does not have.
    """
    if max_memory is not None:
        _check_one_spelling(cpu_memory, gpu_memory, device)
        cpu_memory, device, gpu_memory = split_max_memory(max_memory)
    if device is None and gpu_memory is None and saved is not None and saved.device is not None:
        device, gpu_memory = saved_device(saved.device)
    found = computing(device_budget(device, gpu_memory), attention, in_place)
    return Budgets(resolve_budget(cpu_memory), found)


def saved_device(saved: DeviceChoice) -> tuple[str, str]:
    """The devices of a plan and their budgets, as users write them."""
    return saved.name, ",".join(str(part.budget) for part in saved.each)


def split_max_memory(max_memory: Mapping[str | int, str | int]) -> tuple[Size, str | None, Size]:
    """CPU budget, devices and their budgets in accelerate's spelling, where 0 is the first GPU.

    Raises ConfigError for keys that are no tier.
    """
    named = {f"cuda:{key}" if isinstance(key, int) else key: max_memory[key] for key in max_memory}
    cpu = named.pop("cpu", None)
    if not all(isinstance(name, str) and is_device_name(name) for name in named) or not max_memory:
        raise ConfigError(
            f'max_memory is {dict(max_memory)!r}; allowed are the key "cpu" and devices, as in '
            '{"cuda:0": "6GiB", "cpu": "8GiB"}.'
        )
    if not named:
        return cpu, None, None
    return cpu, ",".join(named), ",".join(map(str, named.values()))


def device_budget(device: str | None, memory: Size) -> DeviceBudget | None:
    """The budget of `device` (the first GPU, where only memory is given); None is the CPU alone.

    Several devices and budgets are separated by commas; one budget is that of each. `memory` is
    bytes, a size, a share of what is free, or "auto" for that less a margin. Raises ConfigError for
    what a device does not have.
    """
    return _budget(device, memory, _opened_budget)


def described_budget(
    device: str | None, memory: Size, profile: HardwareProfile
) -> DeviceBudget | None:
    """The same on the GPU of a described machine, of which all memory is free."""

    def described(name: str, memory: Size) -> DeviceBudget:
        if profile.gpu is None or profile.h2d is None:
            raise ConfigError(
                f"GPU memory was given, {profile.name} has no GPU; leave it out or name a machine "
                "that has one."
            )
        budget_bytes = _budget_bytes(name, memory, profile.gpu.memory_bytes)
        return DeviceBudget(name, budget_bytes, CONTEXT_BYTES)

    return _budget(device, memory, described)


def _budget(
    device: str | None, memory: Size, budget_of: Callable[[str, Size], DeviceBudget]
) -> DeviceBudget | None:
    if device is None and memory is None:
        return None
    names = device_names(device or DEFAULT_DEVICE)
    pairs = zip(names, _budget_for_each(names, memory), strict=True)
    budgets = [budget_of(name, own) for name, own in pairs]
    return joined(budgets) if len(budgets) > 1 else budgets[0]


def device_names(text: str) -> list[str]:
    """Devices separated by commas; raises ConfigError for those that cannot work together."""
    names = [name.strip() for name in text.split(",")]
    gpus = ["cuda:0" if name == "cuda" else name for name in names if name.startswith("cuda")]
    if len({*gpus}) < len(gpus):
        raise ConfigError(f"{text} names a GPU more than once; name each once.")
    if len({name.partition(":")[0] for name in names}) > 1:
        raise ConfigError(
            f"{text} are devices of different kinds; name several GPUs, or several stand-ins."
        )
    return names


def _budget_for_each(names: Sequence[str], memory: Size) -> Sequence[Size]:
    given = memory.split(",") if isinstance(memory, str) else [memory]
    if len(given) not in (1, len(names)):
        raise ConfigError(
            f"{len(given)} GPU memory budgets were given for {len(names)} device(s); give one for "
            "all of them, or as many as there are devices."
        )
    return [*given] * (len(names) // len(given))


def _opened_budget(name: str, memory: Size) -> DeviceBudget:
    """From what is free."""
    opened = open_device(name)
    try:
        free_bytes, fixed_bytes = opened.memory().free_bytes, opened.fixed_bytes
    finally:
        opened.close()
    # The context is there already, so what is free does not count it.
    budget_bytes = _budget_bytes(name, memory, free_bytes + fixed_bytes)
    return DeviceBudget(name, budget_bytes, fixed_bytes)


def _budget_bytes(name: str, memory: Size, free_bytes: int) -> int:
    if memory is None or memory == AUTO:
        return int(free_bytes * (1 - MARGIN_FRAC))
    budget_bytes = memory if isinstance(memory, int) else parse_size(memory.strip(), free_bytes)
    if not 0 < budget_bytes <= free_bytes:
        raise ConfigError(
            f"A GPU memory budget of {memory} was given, {name} has {format_bytes(free_bytes)} "
            "free; give more than zero and no more than that, or free some."
        )
    return budget_bytes


def _check_one_spelling(*others: Size) -> None:
    if any(other is not None for other in others):
        raise ConfigError(
            "max_memory was given with cpu_memory, gpu_memory or device; give either max_memory, "
            'as in {"cuda:0": "6GiB", "cpu": "8GiB"}, or the others.'
        )
