"""From what a user asks for to what the search may choose from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from lm_offload.errors import ConfigError
from lm_offload.plan import Objective
from lm_offload.planner.policies.choices import CPU_ONLY, Choices
from lm_offload.planner.policies.job import Job
from lm_offload.planner.policies.model_shape import ModelShape
from lm_offload.planner.policies.policy import PhasePolicy, ScheduleKind, Share
from lm_offload.quant.format import Format

MOST_MICRO_BATCHES = 256  # each has its own tasks in a simulation
LOSSY_FORMATS = (Format("int8", 64), Format("int4", 64, symmetric=False))


@dataclass(frozen=True)
class Constraints:
    """What a user fixes; everything else is searched for."""

    exact: bool = False  # the checkpoint's own precision only
    weight_format: Format | None = None
    kv_format: Format | None = None
    schedule: ScheduleKind | None = None
    objective: Objective = "throughput"  # latency: a block of one unless a batch size is given
    batch_size: int | None = None  # sequences of a block
    micro_batches: int | None = None  # that a block is cut into
    pins: Mapping[str, str] = field(default_factory=dict)  # see `parse_pin`


def parse_pin(text: str) -> tuple[str, str]:
    """Name and value of KEY=VALUE: `attention=cpu`, `weights=disk`; raises ConfigError."""
    key, _, value = text.partition("=")
    if key not in _PINS or value not in _PINS[key]:
        allowed = ", ".join(f"{name}={'|'.join(values)}" for name, values in _PINS.items())
        raise ConfigError(f"--pin {text!r} was given; allowed are {allowed}.")
    return key, value


def choices_for(job: Job, wanted: Constraints) -> Choices:
    """Everything that the machine allows and the user does not exclude; raises ConfigError."""
    choices = Choices(
        weight_formats=_weight_formats(job.model, wanted),
        kv_formats=_formats(job.model.float_format, wanted.kv_format, wanted.exact),
    )
    if wanted.schedule is not None:
        choices = replace(choices, schedules=(wanted.schedule,))
    choices = _with_block(choices, wanted)
    for key, value in wanted.pins.items():
        choices = _pinned(choices, key, value)
    return choices if job.machine.gpu is not None else _without_gpu(choices)


def _weight_formats(model: ModelShape, wanted: Constraints) -> tuple[Format, ...]:
    """What is stored in few bits already is not quantized again."""
    own, given = model.own_format, wanted.weight_format
    if given is not None and given.is_of_experts and not model.num_experts:
        raise ConfigError(
            f"Format {given} was given, which is one of experts alone; this model has none, leave "
            "it out."
        )
    if not own.is_packed:
        return _formats(own, given, wanted.exact)
    if given not in (None, own):
        raise ConfigError(
            f"Format {given} was given, the experts of this model are {own} already; leave the "
            "format out."
        )
    return (own,)


def _formats(own: Format, wanted: Format | None, exact: bool) -> tuple[Format, ...]:
    if wanted is None:
        return (own,) if exact else (own, *LOSSY_FORMATS)
    if wanted.int8_activations:
        raise ConfigError(
            f"Format {wanted} was given; simulated policies keep activations as they are, name "
            f"{wanted.stored}."
        )
    if exact and wanted != own:
        raise ConfigError(
            f"Format {wanted} was given together with --exact, which allows only the "
            f"checkpoint's own {own}; leave one of them out."
        )
    return (wanted,)


def _with_block(choices: Choices, wanted: Constraints) -> Choices:
    size, count = wanted.batch_size, wanted.micro_batches
    if size is None and wanted.objective == "latency":
        size = count or 1
    if size is None:
        return choices if count is None else replace(choices, micro_batch_counts=(count,))
    counts = range(1, min(size, MOST_MICRO_BATCHES) + 1) if count is None else (count,)
    dividing = tuple(number for number in counts if size % number == 0)
    if not dividing:
        raise ConfigError(
            f"A batch of {size} cannot be cut into {count} equal micro-batches; choose a divisor."
        )
    sizes = tuple(size // number for number in dividing)
    return replace(choices, batch_size=size, micro_batch_counts=dividing, micro_batch_sizes=sizes)


def _pinned(choices: Choices, key: str, value: str) -> Choices:
    """The choices that agree with one pin."""
    match key:
        case "weights":
            return replace(choices, weights=Share(**{value: 1.0}))
        case "kv":
            return replace(choices, kv=Share(**{value: 1.0}))
        case "activations":
            return replace(choices, activations=Share(**{value: 1.0}))
        case "prefill":
            kept = _agreeing(choices.prefill, lambda phase: phase.compute == value)
            return replace(choices, prefill=kept)
    return replace(choices, decode=_agreeing(choices.decode, lambda it: getattr(it, key) == value))


def _agreeing(
    phases: tuple[PhasePolicy, ...], agrees: Callable[[PhasePolicy], bool]
) -> tuple[PhasePolicy, ...]:
    kept = tuple(phase for phase in phases if agrees(phase))
    if not kept:
        raise ConfigError("The pins contradict one another: attention=gpu needs compute=gpu.")
    return kept


def _without_gpu(choices: Choices) -> Choices:
    shares = (choices.weights, choices.kv, choices.activations)
    on_gpu = any(share is not None and share.gpu for share in shares)
    if on_gpu or CPU_ONLY not in choices.prefill or CPU_ONLY not in choices.decode:
        raise ConfigError("Something is pinned to gpu, but the machine has none; take it out.")
    return replace(choices, prefill=(CPU_ONLY,), decode=(CPU_ONLY,))


_DEVICES, _TIERS = ("gpu", "cpu"), ("gpu", "cpu", "disk")
_PINS = {
    "attention": _DEVICES,  # of decode
    "compute": _DEVICES,  # projections and MLP of decode
    "prefill": _DEVICES,  # all of it
    "weights": _TIERS,
    "kv": _TIERS,
    "activations": _TIERS,
}
